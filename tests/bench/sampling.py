"""`python -m tests.bench.sampling MODEL`: sample in a process of its own, and print what that took, as JSON.

Only what sampling needs is imported here: the process is what is measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

from trainer_node.engines.tinylm.artefacts import load
from trainer_node.engines.tinylm.sample import sample
from trainer_node.engines.tinylm.settings import SamplingSettings

TOKENS = 300
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}  # audit events
HEAVY = {"transformers", "peft", "trl", "accelerate"}


def memory_mb(name: str) -> float:
    """`VmRSS`, resident now, or `VmHWM`, at its peak. Not getrusage's, which counts the parent before the exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def main(path: Path) -> None:
    """Sample TOKENS tokens, more than the model has positions."""
    asked: set[str] = set()
    sys.addaudithook(lambda event, _: asked.add(event) if event in NETWORK else None)
    model = load(path).model
    taken_s, resident_mb = [], 0.0
    begun = perf_counter()
    for _ in sample(model, [5, 6, 7], SamplingSettings(max_tokens=TOKENS), end=-1):
        taken_s.append(perf_counter() - begun)
        resident_mb = max(resident_mb, memory_mb("VmRSS"))
        begun = perf_counter()
    taken_s.sort()
    used = {
        "sampled": len(taken_s),
        "resident_mb": resident_mb,
        "peak_mb": memory_mb("VmHWM"),
        "p50_ms": 1000 * taken_s[len(taken_s) // 2],
        "p95_ms": 1000 * taken_s[len(taken_s) * 95 // 100],
        "network": sorted(asked),
        "heavy": sorted(HEAVY & set(sys.modules)),
    }
    print(json.dumps(used))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
