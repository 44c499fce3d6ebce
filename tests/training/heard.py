"""The loop of wish, rating, training and listening, as the product does it, with the listener for a rater.

The base model plays clips for open prompts, a rater rates them, an adapter is trained on what follows of the ratings,
and both are heard on prompts that were not trained on. Everything goes by the product's own parts; nothing is told to
a training but the data set file. Trainings run two at a time, each on one thread.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.cli import demo_loop
from trainer_node import packaged_model, tunes
from trainer_node.data.clip_codes import ClipCodes, write_clip
from trainer_node.data.jsonl import read_dataset_file
from trainer_node.data.training_data import training_data
from trainer_node.engines.musicgen import family, quiet, start
from trainer_node.engines.musicgen.family import BaseModel
from trainer_node.engines.musicgen.sampling import Played, Sampling, Wanted, play
from trainer_node.foreground import run_foreground
from trainer_node.preflight import find_base_model
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.rater import Rater
from trainer_node.tunes.wish import Question, is_fulfilled, open_questions, opposite_questions
from trainer_node.tunes.world import DURATION_S, Attributes
from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2

BASE = demo_loop.MODEL
KINDS = tuple(demo_loop.TRAININGS)
ASKED_SEED = demo_loop.ASKED_SEED
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training. wish: what its clips leave open. heard: wishes that are listened for, by default that one. raters:
    who rates, by default one with that wish; several share the clips between them. shuffled: the ratings are dealt out
    anew among the clips, so that nothing can be learnt from them. changed: settings above the
    demo's. asked_seed: of the prompts that are listened to."""

    kind: str
    wish: Attributes
    heard: tuple[Attributes, ...] = ()
    seed: int = 1
    raters: tuple[Rater, ...] = ()
    shuffled: bool = False
    changed: Mapping[str, Any] = field(default_factory=dict)
    asked_seed: int = field(default=ASKED_SEED, repr=False)

    @property
    def name(self) -> str:
        """What its folder is called."""
        asked = "" if self.asked_seed == ASKED_SEED else str(self.asked_seed)
        return f"{self.kind}-{hashlib.sha256((repr(self) + asked + rests_on()).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What is heard, each 0 to 1.

    wished: of clips for open prompts, those as wished; others: of what the open prompts did ask for, what is heard;
    opposite: of clips for prompts that ask for the unwished value, those that have it.
    """

    wished: float
    others: float
    opposite: float
    in_scale: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a task. shares: of each wish that was listened for. cpu_s: CPU seconds of the training, from its
    first step to its last."""

    task: Task
    shares: tuple[Shares, ...]
    cpu_s: float


class Loop:
    """Clips of the base model, played once and rated as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def base_shares(self, wish: Attributes, *, seed: int = ASKED_SEED) -> Shares:
        """What is heard of the base model."""
        return shares(self.base, self.base.model, wish, seed=seed)

    @cached_property
    def base(self) -> BaseModel:
        """The base model."""
        return load()

    def results(self, tasks: Iterable[Task], *, said: Callable[[Result], None] = lambda _: None) -> list[Result]:
        """Train and hear every task, two at a time."""
        tasks = list(tasks)
        for task in tasks:
            self._rate(task)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            results = []
            for result in pool.map(_trained_and_heard, tasks, [self.folder] * len(tasks)):
                said(result)
                results.append(result)
            return results

    def _rate(self, task: Task) -> None:
        """Write the data set file of a task."""
        clips = self._heard_clips(task.wish)
        raters = task.raters or (Rater(wish=task.wish),)
        ratings = [raters[place % len(raters)].rate(heard, path.stem) for place, (_, path, heard) in enumerate(clips)]
        if task.shuffled:
            random.Random(task.seed).shuffle(ratings)
        rows = [
            {"audio": str(path), "prompt": prompt, "rating": rating}
            for (prompt, path, _), rating in zip(clips, ratings, strict=True)
        ]
        place = self.folder / task.name
        shutil.rmtree(place, ignore_errors=True)  # of a study that was stopped
        place.mkdir(parents=True)
        (place / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def _heard_clips(self, wish: Attributes) -> list[tuple[str, Path, Heard]]:
        """The base model's clips for prompts that leave the wish open, each once: prompt, file, and what is heard."""
        key = "-".join(sorted(wish))
        if key not in self._clips:
            wanted = [
                Wanted(prompt, seed) for prompt in demo_loop.rated_prompts(wish) for seed in range(demo_loop.CLIPS_EACH)
            ]
            folder = self.folder / "clips" / key
            folder.mkdir(parents=True, exist_ok=True)
            clips = played(self.base, self.base.model, wanted)
            different = {(clip.prompt, clip.codes_KT.tobytes()): clip for clip in clips}
            self._clips[key] = [
                (clip.prompt, _written(folder / f"{number}.wav", clip, self.base), _heard(clip))
                for number, clip in enumerate(different.values())
            ]
        return self._clips[key]

    @cached_property
    def _clips(self) -> dict[str, list[tuple[str, Path, Heard]]]:
        return {}


def load() -> BaseModel:
    """The micro model, as a node finds it."""
    quiet.be_quiet()
    torch.set_num_threads(1)
    return family.load_base(find_base_model(Path("models"), BASE), name=BASE)


def shares(
    base: BaseModel, model: Any, wish: Attributes, *, seed: int = ASKED_SEED, opened: Attributes | None = None
) -> Shares:
    """What is heard of a model on prompts that no training has seen. opened: what those left open, if it was more."""
    asked = open_questions(wish, demo_loop.QUESTIONS, seed=seed, without=demo_loop.rated_prompts(opened or wish))
    opposed = opposite_questions(wish, demo_loop.QUESTIONS, seed=seed + 1)
    heard = [_heard(clip) for clip in played(base, model, _with_seeds(asked))]
    against = [_heard(clip) for clip in played(base, model, _with_seeds(opposed))]
    obeyed = [
        found.attributes[name] == value
        for found, question in zip(heard, asked, strict=True)
        for name, value in question.asked.items()
    ]
    return Shares(
        wished=float(np.mean([is_fulfilled(found, wish) is True for found in heard])),
        others=float(np.mean(obeyed)),
        opposite=float(
            np.mean(
                [
                    all(found.attributes[name] == question.asked[name] for name in wish)
                    for found, question in zip(against, opposed, strict=True)
                ]
            )
        ),
        in_scale=float(np.mean([found.in_scale for found in heard])),
    )


def played(base: BaseModel, model: Any, wanted: Sequence[Wanted]) -> list[Played]:
    """Clips of a tune's length, sampled as the model says."""
    length = Sampling(length_s=DURATION_S)
    parts = [wanted[begin : begin + _AT_ONCE] for begin in range(0, len(wanted), _AT_ONCE)]
    return [clip for part in parts for clip in play(model, base, part, length, lambda: False)]


def _trained_and_heard(task: Task, folder: Path) -> Result:
    """In a process of its own."""
    torch.set_num_threads(1)
    output = folder / task.name / "output"
    cpu_s = _train(task, folder / task.name / "rated.jsonl", output, folder / "cache")
    base = load()
    model = start.with_adapter(base, output / "adapter", dtype=torch.float32)
    found = tuple(
        shares(base, model, wish, seed=task.asked_seed, opened=task.wish) for wish in task.heard or (task.wish,)
    )
    return Result(task=task, shares=found, cpu_s=cpu_s)


def _train(task: Task, dataset: Path, output: Path, cache: Path) -> float:
    """Train in the foreground; returns the CPU seconds from the first step on."""
    data = training_data(
        read_dataset_file(dataset, audio_folder=dataset.parents[1]),
        task.kind,
        min_rating=4 if task.kind == "supervised" else None,
    )
    begun: list[float] = []

    def on_event(event: job_event_pb2.JobEvent) -> None:
        if event.HasField("started"):
            begun.append(time.process_time())

    end = run_foreground(
        _spec(task, len(data.samples) or len(data.comparisons)),
        data.samples,
        comparisons=data.comparisons,
        models_dir=Path("models"),
        output_dir=output,
        on_event=on_event,
        cache_dir=cache,
        threads=1,
        device="cpu",
    )
    assert end.HasField("succeeded"), end
    return time.process_time() - begun[0]


def _spec(task: Task, count: int) -> job_spec_pb2.JobSpec:
    """The demo's settings, with the task's seed and changes above them."""
    training = {**task.changed.get("training", {}), "seed": task.seed}
    above = {**task.changed, "training": training, "checkpoints": {"checkpoint_every_epochs": 0}}
    changes = job_spec.parse({task.kind: above}, job_spec_pb2.JobSpec())
    return job_spec.merge(demo_loop.training_spec(task.kind, count), changes)


@cache
def rests_on() -> str:
    """What every figure rests on: the base model, the demo's settings, the listener, and how is counted."""
    settings = {name: value for name, value in vars(demo_loop).items() if name.isupper()}
    files = [Path(__file__), packaged_model.FOLDER / "SHA256SUMS", *sorted(Path(tunes.__file__).parent.glob("*.py"))]
    return f"{settings}{[path.read_text(encoding='utf-8') for path in files]}"


def _with_seeds(questions: Sequence[Question]) -> list[Wanted]:
    return [Wanted(question.prompt, seed) for seed, question in enumerate(questions, demo_loop.HEARD_SEED)]


def _heard(clip: Played) -> Heard:
    return listen(clip.sound_CN[0])


def _written(path: Path, clip: Played, base: BaseModel) -> Path:
    write_clip(path, clip.sound_CN, base.clip_hz, ClipCodes(clip.codes_KT, base.codec_fingerprint()))
    return path
