"""`python -m trainer_node job.yaml --dataset FILE --output OUT`: train in the foreground, no control plane.

The data set file holds rated clips, pairs and ranked lists; each kind of training takes what follows of it.
`torchrun --nproc-per-node 2 -m trainer_node …` trains in two processes, each with a batch of its own; one speaks.

Exit code: 0 trained, 2 wrong settings or data, 7 the training failed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path

from trainer_node.checkpoints import checkpoints
from trainer_node.data.jsonl import digest_of, read_dataset_file
from trainer_node.data.training_data import training_data
from trainer_node.event_lines import lines_of
from trainer_node.foreground import require_data_kind, run_foreground
from trainer_node.openmp import let_waiting_threads_sleep
from trainer_node.outcome import leave
from trainer_node.start_adapter import adopt
from trainer_node.stop_signal import ctrl_c
from tunesmith.errors import TunesmithError
from tunesmith.spec import kind_of, parse, read_yaml, resolve
from tunesmith.v1 import job_event_pb2, job_spec_pb2

EXIT_CODES = {"succeeded": 0, "failed": 7, "cancelled": 130}


def main(arguments: list[str] | None = None) -> int:
    """Train as the arguments say. Returns the exit code."""
    options = _parser().parse_args(arguments)
    let_waiting_threads_sleep()
    try:
        with (
            contextlib.redirect_stdout(sys.stdout if _is_first() else None),
            ctrl_c(lambda: _say("finishing the step and writing a checkpoint; Ctrl-C again stops at once")) as stop,
        ):
            spec, models_dir = _spec(options)
            data = training_data(
                read_dataset_file(options.dataset),
                kind_of(spec),
                min_rating=options.min_rating,
                min_rating_gap=options.min_rating_gap,
            )
            print(data.summary(), flush=True)
            end = run_foreground(
                spec,
                data.samples,
                comparisons=data.comparisons,
                derivation=data.derivation,
                start_adapter_dir=options.start_adapter,
                models_dir=models_dir,
                output_dir=options.output,
                on_event=_print_event,
                resume=options.resume,
                stop=stop,
                dataset_digest=digest_of(options.dataset),
                threads=options.threads,
                device=options.device,
            )
    except TunesmithError as error:
        for problem in [str(field) for field in error.fields] or [error.message]:
            _say(f"error: {problem}")
        return 2
    except KeyboardInterrupt:
        _say("stopped at once")
        _say_how_to_resume(options.output, arguments)
        return EXIT_CODES["cancelled"]
    if end.HasField("cancelled"):
        _say_how_to_resume(options.output, arguments)
    return EXIT_CODES[end.WhichOneof("outcome") or "failed"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer_node", description="Train in the foreground.")
    parser.add_argument("job", type=Path, help="YAML file with a JobSpec: dpo: {training: {epochs: 3}, …}")
    parser.add_argument("--dataset", type=Path, required=True, help="JSONL or CSV with rated clips or comparisons")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints, adapter and report")
    parser.add_argument("--base-model", help="Hugging Face id or folder; by default the one in the job file")
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="where base models are found by name")
    parser.add_argument("--min-rating", type=float, help="supervised: leave out clips that are rated lower")
    parser.add_argument(
        "--min-rating-gap", type=float, help="dpo, ranking: how far two ratings must be apart to say what is better"
    )
    parser.add_argument("--start-adapter", type=Path, help="PEFT folder of the adapter to start from")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output folder")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    return parser


def _spec(options: argparse.Namespace) -> tuple[job_spec_pb2.JobSpec, Path]:
    """The settings of the job file, and the folder in which its base model is found by name."""
    try:
        text = options.job.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TunesmithError(f"{options.job}: cannot be read ({error}); check the path") from error
    spec = parse(read_yaml(text, where=str(options.job)), job_spec_pb2.JobSpec())
    require_data_kind(spec)
    models_dir = options.models_dir
    if options.base_model:
        name, folder = options.base_model, Path(options.base_model).expanduser()
        if folder.is_dir():
            folder = folder.resolve()
            models_dir, name = folder.parent, folder.name
        getattr(spec, kind_of(spec) or "supervised").adapter.base_model = name
    if options.start_adapter:
        spec = adopt(spec, options.start_adapter)
    resolve(spec)  # every problem is told now, before the data is read
    return spec, models_dir


def _print_event(event: job_event_pb2.JobEvent) -> None:
    """Print what the engine does not print by itself: it tells its steps and previews on standard output."""
    if event.WhichOneof("event") in ("started", "checkpoint_saved", "finished"):
        for line in lines_of(event):
            print(line, flush=True)


def _say_how_to_resume(output: Path, arguments: list[str] | None) -> None:
    if not checkpoints(output / "checkpoints"):
        _say("there is no checkpoint yet; the next start begins anew")
        return
    given = [part for part in (sys.argv[1:] if arguments is None else arguments) if part != "--resume"]
    together = os.environ.get("WORLD_SIZE", "1")
    program = "python" if together == "1" else f"torchrun --nproc-per-node {together}"
    _say(f"resume with: {program} -m trainer_node {shlex.join(given)} --resume")


def _is_first() -> bool:
    """Whether this is the process that speaks, where torchrun has started several."""
    return os.environ.get("RANK", "0") == "0"


def _say(text: str) -> None:
    if _is_first():
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    leave(main())
