"""`tunesmith adapter evaluate --scorer`: a Python function of the user's own, run in this process."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.band import Band, on_stage, wav
from tests.cli.conftest import Result, Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import id_of
from tests.rules.sources import ROOT
from tunesmith.v1 import run_pb2

NAMES = itertools.count()
Evaluate = Callable[..., Result]


@pytest.fixture
def band(fake: FakePlane) -> Band:
    """A band with an adapter piano@1."""
    band = on_stage(fake)
    band.adapter(1, mode="major")
    return band


@pytest.fixture
def scored(cli: Run, band: Band, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Evaluates by the function `judge` of a module in this folder that has this text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def evaluate(text: str, *args: str) -> Result:
        module = f"scorer_{next(NAMES)}"
        (tmp_path / f"{module}.py").write_text(text)
        given = args or ("--prompt", "a calm piano", "--clips", "2")
        return cli("adapter", "evaluate", "piano@1", "--scorer", f"{module}:judge", *given)

    return evaluate


def loud(clip: run_pb2.Preview, fake: FakePlane) -> list[run_pb2.Preview]:
    """The clip as two channels at 100 Hz, whose mean is 0.2 before and 0.4 after, plus 0.01 for each seed."""
    level = (0.2 if clip.run_id == id_of("run", 1) else 0.4) + 0.01 * clip.seed
    clip.file.digest = fake.add_blob(wav(np.tile([0.0, 2 * level], (50, 1)), 100))
    return [clip]


def test_a_scorer_hears_each_clip_as_one_channel_and_its_means_are_stored(
    scored: Evaluate, band: Band, fake: FakePlane
) -> None:
    band.alter = lambda clip: loud(clip, fake)

    result = scored(
        "def judge(wave, rate_hz, prompt):\n"
        "    assert (wave.shape, wave.dtype.name, rate_hz) == ((50,), 'float32', 100)\n"
        "    return {'level': wave.mean(), 'letters': len(prompt)}\n",
        *("--prompt", "a piano", "--prompt", "drums", "--prompt", "a piano", "--clips", "5", "--seed", "0"),
    )

    (stored,) = fake.state.evaluations
    level, letters = stored.measures
    assert result.code == 0
    assert (level.name, level.clip_count, level.is_share) == ("level", 6, False)
    assert (level.before.value, level.after.value) == pytest.approx((0.21, 0.41), abs=1e-3)
    assert level.difference.low == pytest.approx(0.2, abs=1e-3)
    assert letters.before.value == letters.after.value == 6.0
    assert stored.scorer.endswith(":judge") and not stored.wish
    assert 'measure=letters clips=6 before="6 (' in result.out


def test_every_prompt_is_played_once_for_a_seed_and_often_enough(scored: Evaluate, band: Band, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("drums\n\n  a piano  \ndrums\n", encoding="utf-8")

    scored(
        "def judge(wave, rate_hz, prompt):\n    return {'one': 1.0}\n",
        *("--prompts-file", "prompts.txt", "--prompt", "a harp", "--clips", "7", "--seed", "11"),
    )

    generation = band.played[0].spec.generate.generation
    assert list(generation.prompts) == ["a harp", "drums", "a piano"]
    assert (generation.clips_per_prompt, generation.seed, generation.clip_s) == (3, 11, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def other(*_): return {}", "AttributeError"),
        ("judge = 3", "is no function but int"),
        ("import a_module_that_nobody_has", "No module named 'a_module_that_nobody_has'"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    ],
)
def test_a_scorer_that_cannot_be_imported_is_told_before_anything_is_played(
    scored: Evaluate, band: Band, text: str, said: str
) -> None:
    result = scored(text)

    assert result.code == 2
    assert "error[SCORER_FAILED]: scorer_" in result.err and said in result.err
    assert band.played == []


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("1 / 0", "failed at a clip of 'a calm piano': ZeroDivisionError: division by zero"),
        ("None", "returned None of a clip of 'a calm piano'"),
        ("[1.0]", "returned [1.0]"),
        ("{'warmth': 'high'}", "return a dict of numbers by names"),
        ("{1: 1.0}", "return a dict of numbers by names"),
        ("{'': 1.0}", "return a dict of numbers by names"),
        ("{'a' * 101: 1.0}", "return a dict of numbers by names"),
        ("{'a\\nb': 1.0}", "return a dict of numbers by names"),
    ],
)
def test_a_scorer_that_raises_or_returns_something_else_ends_it_and_nothing_is_stored(
    scored: Evaluate, fake: FakePlane, returned: str, said: str
) -> None:
    result = scored(f"def judge(wave, rate_hz, prompt):\n    return {returned}\n")

    assert result.code == 2
    assert "error[SCORER_FAILED]" in result.err and said in result.err
    assert fake.state.evaluations == []


def test_a_score_that_is_no_finite_number_is_named_by_side_clip_and_score(scored: Evaluate, fake: FakePlane) -> None:
    result = scored("def judge(wave, rate_hz, prompt):\n    return {'warmth': float('nan')}\n")

    assert result.code == 2
    assert "before[0].warmth: nan is no finite number" in result.err
    assert fake.state.evaluations == []


def test_the_server_is_told_the_name_of_a_scorer_and_nothing_of_its_text(scored: Evaluate, fake: FakePlane) -> None:
    scored("SECRET = 'of my ears'\ndef judge(wave, rate_hz, prompt):\n    return {'one': 1.0}\n")

    sent = b"".join(request.SerializeToString() for request in fake.state.requests)
    assert b":judge" in sent
    assert b"of my ears" not in sent


def test_the_scorer_that_the_documentation_shows_can_be_used_as_it_stands(scored: Evaluate, fake: FakePlane) -> None:
    page = (ROOT / "docs/how-to/evaluate-an-adapter.md").read_text()
    shown = page.split("```python\n")[1].split("```")[0]

    result = scored(f"{shown}\njudge = brightness\n")

    assert result.code == 0
    assert {one.name for one in fake.state.evaluations[0].measures} == {"loudness", "centroid_hz"}


def test_a_file_of_prompts_that_is_no_text_is_refused(scored: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"\xff\xfe")

    result = scored("def judge(*_): return {}", "--prompts-file", "prompts.txt")

    assert result.code == 2
    assert "prompts.txt cannot be read (it is not UTF-8)" in result.err
