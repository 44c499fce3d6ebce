"""`tunesmith demo`: the whole path on synthesised music, from nothing to an adapter that can be heard.

Nothing in the product knows of the demo; what it does, a user can do with the commands that it names at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.exit_codes import ExitCode
from services.cli.session import Session
from services.cli.train_extra import require_train_extra
from services.cli.typed import typed
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.run_pb2 import Run

NAME = "demo"  # of the data set and of the experiment
MODEL = "tiny"
CLIPS = 32

# Chosen so that two CPU cores need about a minute and the loss falls visibly.
SETTINGS = {
    "base_model": MODEL,
    "lora_r": 8,
    "lora_targets": "wide",
    "epochs": 12,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "log_every_steps": 2,
    "checkpoint_every_epochs": 4,
    "preview_prompts": [
        "a bright plucked string melody in C major, fast, high register",
        "a shimmering bell melody in A minor, slow, low register",
    ],
    "preview_s": 3,
}

_NEXT = """
What to type next
  tunesmith up --data-dir {data_dir}
in one terminal, to start it again with this run in it; and in another
  tunesmith run metrics {run_id}
  tunesmith run report {run_id}
  tunesmith run submit --experiment {name} --base-model {model} --learning-rate 1e-3 --min-rating 4
  tunesmith adapter list
Your own music: tunesmith dataset import --help, and facebook/musicgen-small as --base-model."""


class StepFailed(TunesmithError):
    """A step of the demo that runs as a program of its own failed."""

    reason = "CANNOT_START"


@click.command(cls=LocalCommand)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="Where everything is kept; a second demo goes on with it.",
)
@click.pass_context
def demo(ctx: click.Context, data_dir: Path) -> int:
    """Train, watch and listen: the whole path on demo data, in three minutes.

    Starts everything on this machine, makes a tiny base model and a rated data set, trains an adapter while you watch,
    and leaves the adapter, its report and WAV files to compare. Needs no network. Ctrl-C cancels the run and stops.
    Exit codes: 0 trained, 7 the run failed, 9 the machine lacks something, 130 Ctrl-C.
    """
    from services.cli.local_services import local_services

    require_train_extra()
    session, log = session_of(ctx), data_dir / "demo.log"
    data_dir.mkdir(parents=True, exist_ok=True)
    print(f"Tunesmith demo in {data_dir}; the services write to {log}", flush=True)
    step = Steps()
    with local_services(data_dir, log) as address:
        step.done(f"Postgres, control plane and a trainer node answer at {address}")
        _make_model(data_dir, log)
        step.done(f"base model in {data_dir / 'models' / MODEL}")
        session.server = address
        with session.client() as client:
            return _train(session, client, data_dir, step)


class Steps:
    """Says what is done, and how long it took."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def done(self, what: str) -> None:
        """One step is done; the next begins."""
        print(f"✓ {what} ({time.monotonic() - self._begun:.1f} s)", flush=True)
        self._begun = time.monotonic()


def _train(session: Session, client: Client, data_dir: Path, step: Steps) -> int:
    """Data, run, and what came of it."""
    from services.cli.attach import exit_code_of_run
    from services.cli.display import show_outcome
    from tunesmith.v1 import run_pb2

    dataset_id = _import_clips(client, data_dir)
    step.done(f"{CLIPS} rated clips in the data set {NAME}")
    run = _submit(client, _experiment(client, dataset_id), dataset_id)
    step.done(f"{run.run_id} is queued")
    run = _watch(session, client, run.run_id)
    if run.state == run_pb2.RUN_STATE_SUCCEEDED:
        step.done("trained")
        _show_result(client, run, data_dir)
        return ExitCode.OK
    show_outcome(session.out, run)
    return exit_code_of_run(run)


def _make_model(data_dir: Path, log: Path) -> None:
    """Write the base model in a process of its own; it appears in its place whole or not at all."""
    place = data_dir / "models" / MODEL
    if place.is_dir():
        return
    unfinished = place.with_name(f".{MODEL}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "services.cli.main", "model", "make-tiny", str(unfinished)]
    with log.open("ab") as output:
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    if code:
        raise StepFailed(f"`tunesmith model make-tiny` ended with exit code {code}; see {log}")
    os.rename(unfinished, place)


def _import_clips(client: Client, data_dir: Path) -> str:
    """Synthesise the clips once, and import them; what is there already is neither made nor sent again."""
    from services.cli.dataset_import import add_samples, find_or_create
    from services.cli.import_file import prepare_import
    from trainer_node.data.demo import write_demo
    from tunesmith.client.transfer import upload_missing

    rated = data_dir / "clips" / "rated.jsonl"
    prepared = prepare_import(rated if rated.is_file() else write_demo(rated.parent, clips=CLIPS))
    dataset_id, _ = find_or_create(client, NAME)
    upload_missing(client, prepared.audio_files)
    add_samples(client, dataset_id, prepared)
    return dataset_id


def _experiment(client: Client, dataset_id: str) -> str:
    """The id of the demo's experiment, which is created the first time."""
    from tunesmith.client.errors import ApiError
    from tunesmith.client.names import resolve_experiment
    from tunesmith.v1 import experiment_pb2

    try:
        return resolve_experiment(client, NAME)
    except ApiError as error:
        if error.reason != "EXPERIMENT_NOT_FOUND":
            raise
    wanted = experiment_pb2.Experiment(name=NAME, description="What the demo trains", dataset_id=dataset_id)
    request = experiment_pb2.CreateExperimentRequest(experiment=wanted)
    return client.experiments.CreateExperiment(request).experiment.experiment_id


def _submit(client: Client, experiment_id: str, dataset_id: str) -> Run:
    """Queue the run, on the first version of the data, which the server freezes for the first demo."""
    from services.cli.settings_input import spec_of
    from tunesmith.v1 import dataset_pb2, run_pb2

    request = run_pb2.CreateRunRequest(experiment_id=experiment_id, display_name=NAME, spec=spec_of({}, flags=SETTINGS))
    versions = client.datasets.ListDatasetVersions(dataset_pb2.ListDatasetVersionsRequest(dataset_id=dataset_id))
    for version in versions.dataset_versions:
        request.dataset_version_id = version.dataset_version_id  # newest first, so the first version stays
    return client.runs.CreateRun(request).run


def _watch(session: Session, client: Client, run_id: str) -> Run:
    """Show the run to its end. Ctrl-C cancels it, so that no training is left behind by a demo that was left."""
    from services.cli.attach import follow
    from tunesmith.client.watch import watch_run
    from tunesmith.v1 import run_pb2

    try:
        return follow(session, client, run_id, title="training")
    except KeyboardInterrupt:
        print("\nstopping the training; its checkpoint is kept", flush=True)
        client.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run_id))
        for _ in watch_run(client, run_id):
            pass
        raise


def _show_result(client: Client, run: Run, data_dir: Path) -> None:
    """The adapter, the report in short, and the sound before and after."""
    from services.cli.previews import fetch_previews, latest
    from services.cli.progress import sparkline
    from tunesmith.client.lists import read_list
    from tunesmith.client.transfer import pull_adapter
    from tunesmith.v1 import adapter_pb2, run_pb2

    adapter = client.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=run.adapter_id)).adapter
    report = client.runs.GetRunReport(run_pb2.GetRunReportRequest(run_id=run.run_id)).report
    folder = data_dir / "adapters" / f"{adapter.name}-v{adapter.version}"
    pull_adapter(client, adapter, folder)
    listed = read_list(client.runs.ListPreviews, run_pb2.ListPreviewsRequest(run_id=run.run_id)).previews
    previews = latest(listed)
    paths = fetch_previews(client, previews, data_dir / "previews" / folder.name)
    losses = list(report.training_loss.values)
    print(
        f"\nAdapter  {adapter.name}@{adapter.version}, {adapter.adapter_id} on {adapter.base_model}; pulled to {folder}"
    )
    print(f"Report   {report.steps} steps in {report.training_time_s:.0f} s; best loss {report.best_loss:.4g}", end="")
    print(f" at step {report.best_step}; final loss {report.final_loss:.4g}")
    if losses:
        print(f"Loss     {losses[0]:.4g} {sparkline(losses)} {losses[-1]:.4g}")
    last = max((one.step for one in previews), default=0)
    for prompt_index, prompt in enumerate(run.spec.supervised.previews.preview_prompts):
        print(f"\nListen   {prompt}")
        for one in (one for one in previews if one.prompt_index == prompt_index and one.step in (0, last)):
            when = "before" if one.step == 0 else "after "
            print(f"  {when} {paths[one.step, one.prompt_index, one.seed]}")
    print(typed(_NEXT.format(data_dir=data_dir, run_id=run.run_id, name=NAME, model=MODEL)), flush=True)
