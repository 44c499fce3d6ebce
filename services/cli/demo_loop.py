"""The loop of the demo, step by step over gRPC: play, rate, train, listen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from services.cli.attach import follow
from services.cli.clips import clips_of, in_order, unrated
from services.cli.dataset_import import find_or_create
from services.cli.ears import Listener
from services.cli.evaluating import hear, player_of, store
from services.cli.playing import require_success, submit
from services.cli.previews import latest
from services.cli.rate_by_listener import ByListener
from services.cli.rating import Ratings
from services.cli.session import Session
from services.cli.settings_input import spec_of
from services.cli.version_words import holding
from services.evaluation_words import difference, level
from trainer_node.tunes.rater import Rater
from trainer_node.tunes.wish import open_questions
from trainer_node.tunes.world import DURATION_S
from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError
from tunesmith.client.lists import read_list
from tunesmith.client.names import resolve_experiment
from tunesmith.client.transfer import download_blob
from tunesmith.client.watch import watch_run
from tunesmith.v1 import adapter_pb2, dataset_pb2, experiment_pb2, job_spec_pb2, run_pb2

MODEL = "tunesmith/micro"
BASE = "base model"
PROMPTS, CLIPS_EACH, PLAYED_SEED = 40, 6, 11
QUESTIONS, ASKED_SEED, HEARD_SEED = 96, 777, 1000  # the last: of clips to listen to, which are none of those rated
STEPS = 100  # of a training, about
SHARED = {
    "base_model": MODEL,
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_targets": "attention_ffn",
    "validation_fraction": 0,
    "log_every_steps": 5,
}

# Chosen so that a training takes about a quarter of a minute of one core, and is heard to have learnt; see
# docs/explanation/heard.md.
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "supervised": {"batch_size": 16, "learning_rate": 2e-3},
    "dpo": {"batch_size": 8, "learning_rate": 2.5e-3, "beta": 0.4, "sft_weight": 20},
    "ranking": {
        "batch_size": 3,
        "learning_rate": 2e-3,
        "loss": "plackett_luce",
        "temperature": 0.01,
        "sft_weight": 40,
    },
}


def rated_prompts(wish: Mapping[str, str]) -> list[str]:
    """Prompts that leave the wish open, each once: what is played for them is rated."""
    questions = open_questions(wish, PROMPTS, seed=PLAYED_SEED)
    return list(dict.fromkeys(question.prompt for question in questions))


def training_spec(kind: str, count: int) -> job_spec_pb2.JobSpec:
    """The settings of a training on so many clips, pairs or lists, with as many epochs as make about STEPS steps."""
    settings = TRAININGS[kind]
    epochs = max(1, round(STEPS / math.ceil(count / settings["batch_size"])))
    return spec_of({kind: {}}, flags={**SHARED, **settings, "epochs": epochs})


@dataclass(frozen=True)
class Hearing:
    """What was heard of every adapter. runs: what each has played, and the base model. unseen: whether no training has
    seen any of the prompts."""

    measures: Mapping[str, list[adapter_pb2.Measure]]
    runs: Mapping[str, str]
    unseen: bool

    def lines(self) -> Iterator[str]:
        """For people: a block for each measure, a line for each player."""
        first = next(iter(self.measures.values()))
        for place, measure in enumerate(first):
            yield f"\n{measure.name}, of {measure.clip_count} clips (in brackets: intervals of 95 %)"
            yield f"  {BASE:<10}  {level(measure, measure.before)}"
            for player, measures in self.measures.items():
                one = measures[place]
                yield f"  {player:<10}  {level(one, one.after):<24}  {difference(one)}"


@dataclass
class Loop:
    """One wish, from clips to adapters. noise: how often the rater errs. runs: all that were queued."""

    session: Session
    client: Client
    wish: Mapping[str, str]
    noise: float
    runs: list[str] = field(default_factory=list)

    @property
    def wished(self) -> str:
        """The wish, as it is typed."""
        return ", ".join(f"{name}={value}" for name, value in self.wish.items())

    @property
    def name(self) -> str:
        """Of the data set and the experiment: one for each wish, and for how often its rater errs."""
        errs = [f"noise-{self.noise:g}"] if self.noise else []
        return "-".join(["demo", *(part for pair in self.wish.items() for part in pair), *errs])

    @cached_property
    def dataset_id(self) -> str:
        """The data set, created the first time."""
        return find_or_create(self.client, self.name)[0]

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, created the first time."""
        try:
            return resolve_experiment(self.client, self.name)
        except ApiError as error:
            if error.reason != "EXPERIMENT_NOT_FOUND":
                raise
        wanted = experiment_pb2.Experiment(
            name=self.name, description=f"The demo: {self.wished}", dataset_id=self.dataset_id
        )
        request = experiment_pb2.CreateExperimentRequest(experiment=wanted)
        return self.client.experiments.CreateExperiment(request).experiment.experiment_id

    @cached_property
    def prompts(self) -> list[str]:
        """What the base model plays to be rated."""
        return rated_prompts(self.wish)

    def play(self) -> str:
        """The base model's clips; the run that played them."""
        generation = job_spec_pb2.GenerationSettings(
            prompts=self.prompts,
            clips_per_prompt=CLIPS_EACH,
            clip_s=DURATION_S,
        )
        return self._played(job_spec_pb2.PlayerSettings(base_model=MODEL), generation, "play")

    def rate(self, run_id: str) -> str:
        """Have a listener rate what is not rated yet; in words what it gave."""
        way = ByListener(Rater(wish=self.wish, noise=self.noise))
        clips = in_order(clips_of(self._previews(run_id)), seed=0)
        wanted = dataset_pb2.ListSamplesRequest(dataset_id=self.dataset_id)
        left = unrated(clips, read_list(self.client.datasets.ListSamples, wanted).samples)
        ratings = Ratings(self.client, self.session.out, self.dataset_id, way.name)
        way.rate(left, ratings, before=len(clips) - len(left))
        return way.words(ratings.given) if left else "every clip was rated before"

    def train(self, kind: str) -> tuple[adapter_pb2.Adapter, str]:
        """Train on what follows of the ratings; the adapter, and in words what it was trained on."""
        version = self._version(kind)
        count = version.derivation.count or version.sample_count
        request = run_pb2.CreateRunRequest(
            experiment_id=self.experiment_id,
            display_name=kind,
            dataset_version_id=version.dataset_version_id,
            spec=training_spec(kind, count),
        )
        run = self._followed(self.client.runs.CreateRun(request).run.run_id, kind)
        wanted = adapter_pb2.GetAdapterRequest(adapter_id=run.adapter_id)
        return self.client.adapters.GetAdapter(wanted).adapter, holding(version)

    def listen(self, adapters: Mapping[str, adapter_pb2.Adapter]) -> Hearing:
        """What is heard of the base model and of each adapter; it is stored with the adapter."""
        seen = set(self.prompts)
        ears = Listener.asking(self.wish, clips=QUESTIONS, seed=ASKED_SEED, without=seen)
        generation = job_spec_pb2.GenerationSettings(
            prompts=ears.prompts, clips_per_prompt=ears.clips_per_prompt, clip_s=DURATION_S, seed=HEARD_SEED
        )
        players = {BASE: job_spec_pb2.PlayerSettings(base_model=MODEL)}
        players |= {kind: player_of(adapter) for kind, adapter in adapters.items()}
        runs = {name: self._played(player, generation, f"{name} plays") for name, player in players.items()}
        heard = {name: hear(self.client, run_id, ears, generation, side=name) for name, run_id in runs.items()}
        measures = {}
        for kind, adapter in adapters.items():
            measures[kind] = ears.compare(heard[BASE], heard[kind])
            sides = {"before_run_id": runs[BASE], "after_run_id": runs[kind]}
            store(self.client, adapter, ears, measures[kind], **sides)
        return Hearing(measures, runs, unseen=seen.isdisjoint(ears.prompts))

    def example(self, runs: Mapping[str, str], folder: Path) -> dict[str, tuple[str, Path]]:
        """The first open prompt, as each has played it with the same seed: prompt and file, by who plays."""
        paths = {}
        for player, run_id in runs.items():
            clip = self._previews(run_id)[0]
            path = folder / f"{self.name}-{player.replace(' ', '-')}.wav"
            path.unlink(missing_ok=True)  # of an earlier demo
            paths[player] = (clip.prompt, download_blob(self.client, clip.file.digest, path))
        return paths

    def cancel(self) -> None:
        """Cancel what has not ended, so that nothing is left behind by a demo that was left; returns when it has."""
        for run_id in self.runs:
            try:
                self.client.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run_id))
            except ApiError as error:
                if error.reason != "RUN_FINISHED":
                    raise
                continue
            for _ in watch_run(self.client, run_id):
                pass

    def _version(self, kind: str) -> dataset_pb2.DatasetVersion:
        """What a kind of training learns from, frozen now."""
        request = dataset_pb2.CreateDatasetVersionRequest(dataset_id=self.dataset_id)
        if kind == "supervised":
            request.min_rating = 4
        elif kind == "dpo":
            request.pairs.SetInParent()
        else:
            request.ranked_lists.SetInParent()
        return self.client.datasets.CreateDatasetVersion(request).dataset_version

    def _played(
        self, player: job_spec_pb2.PlayerSettings, generation: job_spec_pb2.GenerationSettings, title: str
    ) -> str:
        run = submit(self.client, player, generation, experiment_id=self.experiment_id, display_name=f"demo: {title}")
        return self._followed(run.run_id, title).run_id

    def _followed(self, run_id: str, title: str) -> run_pb2.Run:
        """Show a run to its end. Raises RunFailed, RunCancelled."""
        self.runs.append(run_id)
        run = follow(self.session, self.client, run_id, title=title)
        require_success(run, what=f"the run of the demo's step {title!r}", again="start the demo again")
        return run

    def _previews(self, run_id: str) -> list[run_pb2.Preview]:
        return latest(read_list(self.client.runs.ListPreviews, run_pb2.ListPreviewsRequest(run_id=run_id)).previews)
