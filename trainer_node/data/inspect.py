"""`python -m trainer_node.data.inspect`: check sound files of unknown origin in a process that may die of them.

Reads one JSON object a line, `{"path": …}`, and answers each at once with one line: the facts, or
`{"refused": "why; what to do"}`. No answer means that the decoder crashed on that file, and whoever asked goes on with
a fresh process. The process limits itself before it opens anything: address space, processor time for each file, and
what it may write, so that the worst file costs one answer.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from pathlib import Path
from typing import TextIO

from trainer_node.data.audio import inspect_audio
from trainer_node.data.refusals import AudioRefused

ADDRESS_SPACE_BYTES = 1 << 30  # the interpreter with both decoders takes 0.2 GiB, a decoder at work some MiB
FILE_CPU_S = 30  # ten minutes of stereo at 192 kHz take 3
WRITTEN_BYTES = 1 << 20  # all that it writes is a message of a crash


def limit_self() -> None:
    """Bound what this process may take, whatever it decodes."""
    for limited, most in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_FSIZE, WRITTEN_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limited, (_at_most(limited, most), _at_most(limited, most)))


def _at_most(limited: int, wanted: int) -> int:
    """`wanted`, or the limit that this process was started with where that is lower."""
    _, hard = resource.getrlimit(limited)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def answer(path: Path) -> dict[str, object]:
    """The facts of one file, or why it is refused."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime) + FILE_CPU_S  # beyond it the kernel sends SIGXCPU, which ends us
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(resource.RLIMIT_CPU, allowed), hard))
    try:
        return dataclasses.asdict(inspect_audio(path))
    except AudioRefused as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "decoding it takes more memory than any sound needs; export it again"}


def main(requests: TextIO, answers: TextIO) -> None:
    """Answer every request until the other side closes."""
    for line in requests:
        answers.write(json.dumps(answer(Path(json.loads(line)["path"]))) + "\n")
        answers.flush()


if __name__ == "__main__":
    limit_self()
    own_stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a decoder prints by itself is no answer
    main(sys.stdin, own_stdout)
