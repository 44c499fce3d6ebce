"""What adapters have learnt, heard: every way to train, noisy raters, and raters who disagree.

`python -m tests.bench heard --output FOLDER` takes about twenty minutes on two cores, and goes on where it was stopped.
With `--write` the figures and pictures go to docs/explanation/heard/ and the tables into the page beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.bench import heard_page
from tests.bench.figures import Figure
from tests.bench.spectrogram import png
from tests.training import heard
from tests.training.heard import Loop, Result, Task
from trainer_node.engines.musicgen import start
from trainer_node.engines.musicgen.sampling import Wanted
from trainer_node.tunes.rater import Rater
from trainer_node.tunes.wish import open_questions

MODE, REGISTER = {"mode": "major"}, {"register": "high"}
SEEDS = (1, 2, 3)
ASKED_SEEDS = (777, 778, 779)
NOISES = (0.0, 0.1, 0.3)
# Its loss rewards ever larger margins, without end: at 0.003 and 140 steps little was left of the model.
ROBUST = {"loss": "DPO_LOSS_ROBUST", "training": {"learning_rate": 1e-3}}
# Who learns from noisy ratings; robust is told how many are wrong.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "supervised": ("supervised", {}),
    "dpo, sigmoid": ("dpo", {}),
    "dpo, robust": ("dpo", ROBUST),
    "ranking": ("ranking", {}),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A training of a study. method, raters: in words."""

    study: str
    method: str
    raters: str
    task: Task


def rows() -> list[Row]:
    """Every training of every study; those that two studies share are the same task."""
    return [*_methods(), *_placebo(), *_noise(), *_disagreement()]


def _methods() -> Iterator[Row]:
    for wish in (MODE, REGISTER):
        for kind in heard.KINDS:
            for seed in SEEDS:
                yield Row(study="methods", method=kind, raters="one", task=Task(kind=kind, wish=wish, seed=seed))


def _placebo() -> Iterator[Row]:
    for wish in (MODE, REGISTER):
        for kind in heard.KINDS:
            for seed in SEEDS:
                task = Task(kind=kind, wish=wish, seed=seed, shuffled=True)
                yield Row(study="placebo", method=kind, raters="shuffled", task=task)


def _noise() -> Iterator[Row]:
    for name, (kind, changed) in METHODS.items():
        for noise in NOISES:
            told = {"label_smoothing": max(noise, 0.01)} if changed is ROBUST else {}
            for seed in SEEDS:
                raters = (Rater(wish=MODE, noise=noise, seed=seed),) if noise else ()
                task = Task(kind=kind, wish=MODE, seed=seed, raters=raters, changed={**changed, **told})
                yield Row(study="noise", method=name, raters=f"{noise:.0%} wrong", task=task)


def _disagreement() -> Iterator[Row]:
    """Two raters share the clips; one wishes for major, the other for a high register."""
    raters = (Rater(wish=MODE), Rater(wish=REGISTER))
    for name, (kind, changed) in METHODS.items():
        for seed in SEEDS:
            task = Task(
                kind=kind,
                wish={**MODE, **REGISTER},
                heard=(MODE, REGISTER),
                seed=seed,
                raters=raters,
                changed=changed,
            )
            yield Row(study="disagreement", method=name, raters="two", task=task)


def measure(output: Path, *, write: bool) -> Iterator[Figure]:
    """Every figure; what lies in `output` already is not measured again. write: the page, too."""
    output.mkdir(parents=True, exist_ok=True)
    loop = Loop(output)
    base = _base(loop, output / f"base-{hashlib.sha256(heard.rests_on().encode()).hexdigest()[:12]}.json")
    for wish, several in base.items():
        for one in several:
            yield Figure(f"base model, {wish}", f"{one['wished']:.0%}", f"others {one['others']:.0%}")
    known = _trained(loop, output / "results.jsonl")
    for row in rows():
        found = known[row.task.name]
        for wish, shares in found["shares"].items():
            what = f"{row.study}: {row.method}, {wish}, raters {row.raters}, seed {row.task.seed}"
            yield Figure(what, f"{shares['wished']:.0%}", f"others {shares['others']:.0%}, {found['cpu_s']:.0f} s")
    if write:
        heard_page.write(rows(), base=base, known=known, pictures=_pictures(loop))


def in_words(wish: Mapping[str, str]) -> str:
    """Such as `mode=major`."""
    return ", ".join(f"{name}={value}" for name, value in wish.items())


def _base(loop: Loop, path: Path) -> dict[str, list[dict[str, float]]]:
    """What is heard of the base model, with three sets of prompts: how far a share moves by itself."""
    if not path.is_file():
        found = {
            in_words(wish): [dataclasses.asdict(loop.base_shares(wish, seed=seed)) for seed in ASKED_SEEDS]
            for wish in (MODE, REGISTER)
        }
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _trained(loop: Loop, path: Path) -> dict[str, Any]:
    """What came of every training, by the name of its task; those that are not in the file are done now."""
    known = _read(path)
    absent = {row.task.name: row.task for row in rows() if row.task.name not in known}
    with path.open("a", encoding="utf-8") as kept:

        def keep(result: Result) -> None:
            wishes = result.task.heard or (result.task.wish,)
            shares = {in_words(wish): dataclasses.asdict(one) for wish, one in zip(wishes, result.shares, strict=True)}
            kept.write(json.dumps({"task": result.task.name, "shares": shares, "cpu_s": result.cpu_s}) + "\n")
            kept.flush()
            print(f"  {result.task.name}: {shares}", file=sys.stderr, flush=True)

        loop.results(absent.values(), said=keep)
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return {row["task"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def _pictures(loop: Loop) -> dict[str, bytes]:
    """Spectrograms by the file's name: the first open prompts, before and after, with the same seeds, none picked."""
    task = Task(kind="supervised", wish=REGISTER, seed=SEEDS[0])
    wanted = [Wanted(one.prompt, 1) for one in open_questions(REGISTER, 2, seed=ASKED_SEEDS[0])]
    before = heard.played(loop.base, loop.base.model, wanted)
    base, adapter = heard.load(), loop.folder / task.name / "output" / "adapter"
    after = heard.played(base, start.with_adapter(base, adapter, dtype=torch.float32), wanted)
    return {
        f"{when}-{number}.png": png(clip.sound_CN[0], loop.base.clip_hz)
        for when, clips in (("before", before), ("after", after))
        for number, clip in enumerate(clips, start=1)
    }
