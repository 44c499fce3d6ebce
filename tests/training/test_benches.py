"""The benches about trainings still measure what they name; the figures themselves are nobody's promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import dpo_reference, gradient_checkpointing


def test_the_bench_of_the_reference_yields_both_steps_and_their_ratio(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_BENCH_MODEL", str(models_dir / "tiny"))
    monkeypatch.setattr(dpo_reference, "STEPS", 1)

    cached, live, ratio = dpo_reference.measure(tmp_path)

    assert (cached.value[-2:], live.value[-2:]) == ("ms", "ms")
    assert float(ratio.value.removesuffix(" ×")) > 0


def test_the_bench_of_checkpointing_yields_time_and_memory_of_both_and_their_ratios(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_BENCH_MODEL", str(models_dir / "tiny"))
    monkeypatch.setattr(gradient_checkpointing, "STEPS", 1)
    monkeypatch.setattr(gradient_checkpointing, "CLIP_S", 0.5)

    kept, again, time, memory = gradient_checkpointing.measure(tmp_path, apart=False)

    assert (kept.value[-2:], again.value[-2:]) == ("ms", "ms")
    assert all("MB above the model" in figure.how for figure in (kept, again))
    assert float(time.value.removesuffix(" ×")) > 0
    assert memory.value.endswith(" ×")
