"""`tunesmith run submit`: from a file and flags to a queued run, and then to watching it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from services.cli import generate_submit, lm_corpus, lm_submit
from services.cli.adapters_of_runs import settle_adapter
from services.cli.commands import ClientCommand, session_of
from services.cli.completion import ADAPTERS, DATASETS, EXPERIMENTS
from services.cli.generate_submit import KIND as CLIPS
from services.cli.labels import label_option
from services.cli.lm_settings import KIND as LANGUAGE_MODEL
from services.cli.lm_settings import given_in, text_or_source
from services.cli.output import enum_text
from services.cli.run_keys import number, refuse_what_does_not_go, take_keys
from services.cli.run_version import choose_version, from_preferences, in_words, settle_version
from services.cli.setting_flags import given_flags, setting_flags
from services.cli.settings_input import (
    DEFAULT_KIND,
    read_mapping,
    set_option,
    spec_of,
    training_type_option,
)

if TYPE_CHECKING:
    from services.cli.lm_corpus import Text
    from services.cli.session import Session
    from tunesmith.client.client import Client
    from tunesmith.v1.job_spec_pb2 import JobSpec
    from tunesmith.v1.run_pb2 import CreateRunRequest


@click.command(cls=ClientCommand)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--experiment", shell_complete=EXPERIMENTS, help="The experiment, by name or id.")
@click.option("--dataset", shell_complete=DATASETS, help="Train on this data set's newest version that fits.")
@click.option("--dataset-version", metavar="VERSION", help="Train on this version: dsv_… or NAME@NUMBER.")
@click.option("--min-rating", type=float, help="Freeze a version with this lowest rating, 1 to 5; for supervised.")
@click.option(
    "--start-adapter",
    metavar="ADAPTER",
    shell_complete=ADAPTERS,
    help="Registered adapter to start from: id, prefix, NAME@VERSION or name. It is the reference of dpo and ranking.",
)
@click.option(
    "--adapter",
    "--adapter-id",
    "adapter",
    metavar="ADAPTER",
    shell_complete=ADAPTERS,
    help="generate: registered adapter that plays, named in the same ways; without, the base model plays alone.",
)
@click.option(
    "--prompts-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="generate: text file with a prompt a line, in place of --prompts.",
)
@click.option(
    "--corpus-path",
    multiple=True,
    type=click.Path(path_type=Path),
    help="tiny_lm: text file, or folder of .txt files; names such as en.txt or es/quijote.txt tell the language. "
    "Repeatable.",
)
@click.option("--display-name", "--name", "display_name", help="What to call the run.")
@click.option("--priority", type=int, help="Higher is served first, -100 to 100.")
@label_option
@click.option("--dry-run", is_flag=True, help="Check and resolve everything, show the run, store nothing.")
@click.option("-d", "--detach", is_flag=True, help="Return at once instead of watching.")
@training_type_option
@set_option
@setting_flags("supervised", "dpo", "ranking", LANGUAGE_MODEL, CLIPS, without=("start_adapter_id", "adapter_id"))
@click.pass_context
def submit(ctx: click.Context, /, file: Path | None, dry_run: bool, detach: bool, **keywords: Any) -> int:
    """Queue a training, or clips to play, and watch it until it ends.

    FILE is YAML: experiment, dataset or dataset_version, min_rating, start_adapter, display_name, priority, labels, and
    the settings, under their kind (`supervised: {training: {epochs: 3}}`) or beside `training_type: preference`. Flags
    and --set stand above the file; what nobody gives, the experiment decides. Unknown keys are refused. What dpo and
    ranking will be trained on is told before the run is queued. Ctrl-C while watching leaves the run alone.

    A language model (`training_type: tiny_lm`, or any run with corpus_path) takes the files of `tunesmith lm train`;
    corpus_path is relative to FILE. Its text is checked, and what the control plane does not have is uploaded.

    Clips (`training_type: generate`) are played by base_model, or by an adapter on its own one: the keys adapter and
    prompts_file, which is relative to FILE, and the settings player and generation.

    Exit codes: 0 succeeded (or queued, with -d), 2 a setting is wrong, 3 no such experiment, 4 the data or the adapter
    to start from does not fit, 7 failed, 8 cancelled.
    """
    session = session_of(ctx)
    with _not_queued_yet(session):
        wish = _wish(session, file, keywords)
    if wish.texts:
        session.out.note(f"learns from {lm_corpus.in_words(wish.texts)}")
    with session.client() as client:
        with _not_queued_yet(session):
            request, kind = _request(client, wish, dry_run=dry_run)
        told = settle_version(client, request, kind) if from_preferences(kind) else ""
        if told:
            session.out.note(f"trains on {told}")
        response = client.runs.CreateRun(request)
        run = response.run
        if run.dataset_version_id and not told:
            session.out.note(f"trains on {in_words(client, run.dataset_version_id)}")
        if kind == LANGUAGE_MODEL and not wish.texts:
            session.out.note(f"learns from {lm_submit.learns_from(run.spec)}")
        if kind == CLIPS:
            session.out.note(f"plays {generate_submit.plays(run.spec)}")
        if dry_run:
            lm_submit.add_corpus(run.spec, wish.texts)
            session.out.response(response, run)
            session.out.note("nothing was stored (--dry-run)")
            return 0
        if not detach:
            from services.cli.attach import attach

            session.out.note(f"{run.run_id} is {enum_text(run, 'state')}; Ctrl-C leaves it alone")
            return int(attach(session, client, run.run_id))
    if session.out.format == "table":
        session.out.pairs([("run_id", run.run_id), ("state", enum_text(run, "state"))])
    else:
        session.out.response(response)
    session.out.note(f"next: tunesmith run watch {run.run_id}")
    return 0


@contextlib.contextmanager
def _not_queued_yet(session: Session) -> Iterator[None]:
    """Say so where Ctrl-C ends it: a long upload looks as if it had been for nothing."""
    try:
        yield
    except KeyboardInterrupt:
        session.out.note("nothing was queued; run it again: what was uploaded is not sent twice")
        raise


@dataclass(frozen=True)
class _Wish:
    """What file and flags ask for. mapping: settings below their kind; empty where nobody names a kind. texts: what a
    language model learns from, none where it is not given here."""

    given: Mapping[str, Any]
    mapping: Mapping[str, Any]
    texts: Sequence[Text]
    assignments: tuple[str, ...]
    flags: Mapping[str, Any]

    @property
    def adapter(self) -> str:
        """Whom to start from, or who plays, as a person names it; empty for none, or what the settings say."""
        return str(self.given.get("start_adapter") or self.given.get("adapter") or "")

    def spec(self, kind: str) -> JobSpec:
        """The settings that were given, none of them where it was none. kind: where nobody names one."""
        if not (self.mapping or self.assignments or self.flags or self.adapter):
            return spec_of({})
        return spec_of(self.mapping or {kind: {}}, self.assignments, self.flags)


def _wish(session: Session, file: Path | None, keywords: Mapping[str, Any]) -> _Wish:
    """Read the file and the flags. Raises what is wrong with them, before a server is asked where that can be."""
    mapping = read_mapping(file)
    given = take_keys(mapping, file, keywords)
    nested, texts = lm_submit.below_its_kind(
        mapping, keywords["training_type"], file=file, corpus_path=keywords["corpus_path"], note=session.out.note
    )
    flags = given_flags(keywords)
    if nested:
        refuse_what_does_not_go(given, next(iter(nested)))
    is_flag = keywords["prompts_file"] is not None
    flags = generate_submit.with_prompts(flags, given.get("prompts_file"), is_flag=is_flag, spec=spec_of(nested))
    wish = _Wish(given, nested, texts, keywords["assignments"], flags)
    spec = wish.spec("") if wish.mapping else None
    if texts and spec and "corpus_source" in given_in(spec):
        raise text_or_source("--corpus-source" if "corpus_source" in flags else f"{file}")
    return wish


def _request(client: Client, wish: _Wish, *, dry_run: bool) -> tuple[CreateRunRequest, str]:
    """The request, and the kind of training. Names become ids, and a data set the version to train on."""
    from tunesmith.client.names import resolve_dataset_version, resolve_experiment
    from tunesmith.v1 import run_pb2

    given = wish.given
    request = run_pb2.CreateRunRequest(
        experiment_id=resolve_experiment(client, str(given["experiment"])),
        display_name=str(given.get("display_name", "")),
        priority=number("priority", given.get("priority", 0), int),
        labels=given["labels"],
        validate_only=dry_run,
    )
    kind = next(iter(wish.mapping), "") or _kind_of_experiment(client, request.experiment_id)
    refuse_what_does_not_go(given, kind)
    spec = wish.spec(kind)
    settle_adapter(client, spec, wish.adapter)
    lm_submit.settle_corpus(client, spec, wish.texts, dry_run=dry_run)
    if spec.WhichOneof("kind"):
        request.spec.CopyFrom(spec)
    if given.get("min_rating") is not None:
        request.min_rating = number("min_rating", given["min_rating"], float)
    if given.get("dataset_version"):
        request.dataset_version_id = resolve_dataset_version(client, str(given["dataset_version"]))
    if given.get("dataset"):
        choose_version(client, request, str(given["dataset"]), kind)
    return request, kind


def _kind_of_experiment(client: Client, experiment_id: str) -> str:
    """The kind of training that an experiment's runs are of where they do not say it."""
    from tunesmith import spec as specs
    from tunesmith.v1 import experiment_pb2

    wanted = experiment_pb2.GetExperimentRequest(experiment_id=experiment_id)
    return specs.kind_of(client.experiments.GetExperiment(wanted).experiment.default_spec) or DEFAULT_KIND
