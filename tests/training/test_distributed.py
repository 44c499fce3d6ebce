"""Two processes under torchrun, really started, come to the numbers of one with a batch of twice the size.

Equal are losses, learning rates, gradient norms, what a method logs, and everything of validation. Prompt and LoRA
dropout are drawn by each process for itself, so with them trainings are equal in distribution only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training import together
from tests.training.studio import Studio
from trainer_node.engines.musicgen.shares import Shares
from trainer_node.report import read_config

# 7 prompts with 3 clips each: 21 clips, 21 pairs or 7 lists. No batch size below divides what is trained on.
CLIPS, PROMPTS = 21, 7
LENGTHS = [0.3, 0.5, 0.4, 0.6, 0.2]

SETTINGS: dict[str, dict[str, Any]] = {
    "supervised": {
        "training": {"batch_size": 2},
        "prompt_dropout": 0,
        "previews": {"preview_prompts": ["tone 1"], "preview_s": 0.1},
    },
    "dpo": {"training": {"batch_size": 2, "gradient_accumulation_steps": 3}, "sft_weight": 0.1},
    "ranking": {"training": {"batch_size": 1, "gradient_accumulation_steps": 2}},
}
INTERRUPTED = {
    "adapter": {"lora_dropout": 0.1},
    "training": {"batch_size": 2, "gradient_accumulation_steps": 2, "log_every_steps": 2},
    "prompt_dropout": 0.4,
}


def settings(given: dict[str, Any], *, times: int = 1) -> dict[str, Any]:
    """With what all trainings here share, and the batch so many times as large."""
    training = {"epochs": 2, "learning_rate": 0.005, "log_every_steps": 1, **given["training"]}
    training["batch_size"] *= times
    adapter = {"base_model": "tiny", "lora_r": 8, "lora_alpha": 16, **given.get("adapter", {})}
    return {**given, "adapter": adapter, "training": training, "validation": {"validation_fraction": 0.2}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, cache_dir: Path) -> Path:
    """A folder with `rated.jsonl`: the first third of the clips is liked best, the last one least."""
    folder = tmp_path_factory.mktemp("together")
    lengths = [LENGTHS[i % len(LENGTHS)] for i in range(CLIPS)]
    rows = [
        {"audio": str(sample.audio_path), "prompt": f"tone {i % PROMPTS}", "rating": 5 - 2 * (i // PROMPTS)}
        for i, sample in enumerate(Studio(folder, models_dir, cache_dir).samples(CLIPS, length_s=lengths))
    ]
    (folder / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def printed(bench: Path, models_dir: Path) -> list[str]:
    """What two processes print that train every kind into `two`; the program; and `whole`, and the same as `broken`,
    which is stopped and resumed."""
    shared = {"dataset": str(bench / "rated.jsonl"), "models_dir": str(models_dir)}
    (bench / "job.yaml").write_text("ranking: {adapter: {base_model: tiny}, training: {epochs: 1, batch_size: 3}}")
    folders = ["--models-dir", shared["models_dir"], "--output", str(bench / "two" / "program")]
    whole, broken = (
        {"kind": "supervised", "settings": settings(INTERRUPTED), "output": str(bench / "two" / name), **shared}
        for name in ("whole", "broken")
    )
    plan = [
        [str(bench / "job.yaml"), "--dataset", shared["dataset"], *folders, "--device", "cpu"],
        *(
            {"kind": kind, "settings": settings(given), "output": str(bench / "two" / kind), **shared}
            for kind, given in SETTINGS.items()
        ),
        whole,
        {**broken, "stop_after": 2},
        {**broken, "resume": True},
    ]
    (bench / "plan.json").write_text(json.dumps(plan))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.training.together", str(bench / "plan.json")]
    quick = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=quick, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout.splitlines()


@pytest.fixture(scope="module")
def by_two(bench: Path, printed: list[str]) -> Path:
    """The folder with the outputs of the two processes."""
    assert printed
    return bench / "two"


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_two_processes_come_to_the_numbers_of_one_with_the_doubled_batch(
    bench: Path, by_two: Path, models_dir: Path, kind: str
) -> None:
    together.train(
        kind=kind,
        settings=settings(SETTINGS[kind], times=2),
        dataset=str(bench / "rated.jsonl"),
        models_dir=str(models_dir),
        output=str(bench / "one" / kind),
    )

    alone, shared = together.rows_in(bench / "one" / kind), together.rows_in(by_two / kind)
    assert len(alone) == len(shared) > 4
    for (step, one), (also, other) in zip(alone, shared, strict=True):
        assert step == also
        for values in (one, other):
            if abs(values.get("rewards/margin", 1)) < 1e-3:  # before the first update, its sign is a rounding error's
                del values["rewards/accuracy"]
        assert one == pytest.approx(other, rel=2e-5, abs=1e-6)


def test_one_process_writes(by_two: Path) -> None:
    output = by_two / "supervised"

    assert read_config(output / "training_config.json").device == "2 × cpu fp32"
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["adapter", "checkpoints", "previews", "report.json", "report.md", "rows.json", "training_config.json"]
    )
    assert [path.name for path in sorted((output / "previews").iterdir())] == [
        "step-00000000-prompt-0.wav",
        "step-00000010-prompt-0.wav",
    ]


def test_a_training_by_two_processes_goes_on_bit_by_bit_where_it_was_stopped(by_two: Path) -> None:
    first, second = (together.rows_in(by_two / "broken", name) for name in ("rows.json", "rows-resumed.json"))

    assert len(first) > 0 and len(second) > 0
    assert first + second == together.rows_in(by_two / "whole")
    adapters = [(by_two / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert adapters[0] == adapters[1]


def test_each_process_draws_its_own_dropout(by_two: Path) -> None:
    [checkpoint, *_] = sorted((by_two / "whole" / "checkpoints").iterdir())

    first, second = (load_file(checkpoint / name / "random.safetensors") for name in (".", "rank-1"))

    assert set(first) == set(second) == {"torch", "generator.prompt_dropout"}
    assert all((first[name] != second[name]).any() for name in first)


def test_a_checkpoint_of_two_processes_is_not_gone_on_with_by_one(bench: Path, by_two: Path, models_dir: Path) -> None:
    with pytest.raises(AssertionError, match=r"trained by 2; resume by torchrun --nproc-per-node 2"):
        together.train(
            kind="supervised",
            settings=settings(INTERRUPTED),
            dataset=str(bench / "rated.jsonl"),
            models_dir=str(models_dir),
            output=str(by_two / "whole"),
            resume=True,
        )


def test_the_program_under_torchrun_prints_once(printed: list[str]) -> None:
    end = printed.index("event=succeeded")

    assert printed[0].startswith("7 ranked lists")
    assert len(set(printed[: end + 1])) == end + 1
    assert not printed[end + 1].startswith("event=")


@pytest.mark.parametrize(("examples", "processes"), [(17, 2), (16, 2), (5, 3), (8, 3), (1, 4), (12, 1)])
def test_the_shares_of_all_processes_make_up_the_batches_of_one(examples: int, processes: int) -> None:
    one = Shares(examples, 2 * processes, seed=3, rank=0, processes=1)
    several = [Shares(examples, 2, seed=3, rank=rank, processes=processes) for rank in range(processes)]
    for shares in (one, *several):
        shares.set_epoch(5)

    taken = list(zip(*several, strict=True))

    assert len(taken) == len(one) == len(several[0])
    for batch, parts in zip(one, taken, strict=True):
        assert {i for part in parts for i in part} == set(batch)
        assert all(1 <= len(part) <= 2 for part in parts)
        assert len(batch) < processes or sum(map(len, parts)) == len(batch)


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        shares = Shares(20, 4, seed=seed, rank=0, processes=1)
        shares.set_epoch(epoch)
        return list(shares)

    assert order(1, 0) == order(1, 0)
    assert len({str(order(seed, epoch)) for seed, epoch in ((1, 0), (1, 1), (7, 0), (7, 4))}) == 4
