"""A language model's training that is interrupted: by Ctrl-C once and twice, by SIGKILL, by a full disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.cli.lm import TRAIN
from trainer_node.checkpoints import checkpoints, latest
from trainer_node.engines.tinylm.synthetic import write_synthetic

PROGRAM = [sys.executable, "-c", "import sys; from services.cli.main import main; sys.exit(main(sys.argv[1:]))"]
WITHOUT_ANSWER = """
import sys, threading
from services.cli.main import main
from trainer_node.engines.tinylm import sources
sources.fetch = lambda *_, **__: threading.Event().wait(3600)
sys.exit(main(sys.argv[1:]))
"""
MODELS = ("best_model.pt", "final_model.pt", "tokenizer/tokenizer.model", "tokenizer/tokenizer.vocab")
WAIT_S = 60


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus in both languages."""
    folder = tmp_path_factory.mktemp("texts")
    write_synthetic(folder, size_bytes=80_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing interrupted."""
    output = tmp_path_factory.mktemp("undisturbed") / "model"
    subprocess.run([*PROGRAM, *training(texts, output)], check=True, capture_output=True, env=environment())
    return output


def training(texts: Path, output: Path, *args: str) -> list[str]:
    """The command line."""
    return [*TRAIN, "--corpus-path", str(texts), "--output", str(output), "--epochs", "3", *args]


def environment() -> dict[str, str]:
    """That of the tests, with their modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def started() -> Iterator[Callable[[list[str]], subprocess.Popen[str]]]:
    """Starts trainings; none outlives the test."""
    running: list[subprocess.Popen[str]] = []

    def start(args: list[str], program: list[str] = PROGRAM) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for(stream: IO[str] | None, words: str) -> str:
    """Read until a line has these words; returns the line."""
    assert stream is not None
    for line in stream:
        if words in line:
            return line
    raise AssertionError(f"the process ended and never said {words!r}")


def same_models(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in MODELS)


def resumed(output: Path) -> subprocess.CompletedProcess[str]:
    """Go on, by the command that is printed."""
    return subprocess.run(
        [*PROGRAM, "lm", "train", "--output", str(output), "--resume"],
        capture_output=True, text=True, env=environment(), timeout=WAIT_S,
    )  # fmt: skip


def test_ctrl_c_finishes_the_step_saves_and_prints_how_to_go_on(
    started, texts: Path, undisturbed: Path, tmp_path: Path
):
    output = tmp_path / "model"
    process = started(training(texts, output))
    wait_for(process.stdout, "epoch=1/3")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    again = resumed(output)

    assert process.returncode == 130
    assert "finishing the step and writing a checkpoint; Ctrl-C again stops at once" in err
    assert f"Go on with: tunesmith lm train --output {output} --resume" in err
    assert again.returncode == 0
    assert "name=tokenizer state=unchanged" in again.stdout
    assert same_models(output, undisturbed)


def test_ctrl_c_twice_stops_at_once_even_while_the_tokenizer_is_trained(started, texts: Path, tmp_path: Path):
    output = tmp_path / "model"
    process = started(training(texts, output, "--vocab-size", "1500"))
    wait_for(process.stdout, "name=tokenizer state=begun")

    process.send_signal(signal.SIGINT)
    wait_for(process.stderr, "Ctrl-C again stops at once")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert f"Go on with: tunesmith lm train --output {output} --resume" in err
    assert not (output / "stages" / "tokenizer.json").exists()


def test_a_restart_that_is_stopped_before_it_begins_says_so_and_leaves_the_model(
    started, texts: Path, undisturbed: Path, tmp_path: Path
):
    output = Path(shutil.copytree(undisturbed, tmp_path / "model"))
    process = started(training(texts, output, "--restart", "--vocab-size", "1500"))
    wait_for(process.stdout, "name=tokenizer state=begun")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert err.endswith("finished stages are kept. The new training had not begun; give the same command again\n")
    for name in ("best_model.pt", "final_model.pt", "config.yaml", "report.md"):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes()


def test_ctrl_c_twice_in_a_step_stops_at_once_and_writes_nothing_more(started, texts: Path, tmp_path: Path):
    output = tmp_path / "model"
    slow = ("--d-model", "512", "--ffn", "2048", "--batch-size", "256")  # seconds a step
    process = started(training(texts, output, *slow, "--log-every-steps", "1"))
    wait_for(process.stdout, "step=1 ")

    process.send_signal(signal.SIGINT)
    wait_for(process.stderr, "Ctrl-C again stops at once")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert f"stopped at once. Go on with: tunesmith lm train --output {output} --resume" in err
    assert "is kept" not in err
    assert checkpoints(output / "checkpoints") == []


def test_ctrl_c_while_a_mirror_says_nothing_stops_at_once_and_takes_no_other_text(started, tmp_path: Path):
    process = started([*TRAIN, "--output", str(tmp_path / "model")], [sys.executable, "-c", WITHOUT_ANSWER])
    wait_for(process.stdout, "name=corpus state=begun")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert "\nstopping; Ctrl-C again stops at once\nstopped; no step was taken yet; finished stages are kept." in err
    assert "SYNTHETIC" not in err


def test_programs_are_told_how_to_go_on_too(started, texts: Path, tmp_path: Path):
    output = tmp_path / "model"
    process = started([*training(texts, output), "-o", "jsonl"])
    wait_for(process.stdout, "epoch 1/3")

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=WAIT_S)

    *_, told, finished = map(json.loads, out.splitlines())
    assert process.returncode == 130
    assert "cancelled" in finished["finished"]
    assert told["logs"]["lines"][0].endswith(f" is kept. Go on with: tunesmith lm train --output {output} --resume")


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_a_reader_that_leaves_stops_it_like_ctrl_c(started, texts: Path, undisturbed: Path, tmp_path: Path, form: str):
    output = tmp_path / "model"
    process = started([*training(texts, output), "-o", form])
    wait_for(process.stdout, "step=10 " if form == "table" else '"grad_norm"')

    process.stdout.close()
    _, err = process.communicate(timeout=WAIT_S)
    kept = latest(output / "checkpoints")
    again = resumed(output)

    assert process.returncode == 130
    assert kept is not None
    assert "Error" not in err
    if form == "table":
        assert "nobody reads the output any more, so this stops as after Ctrl-C\n" in err
        assert f"Go on with: tunesmith lm train --output {output} --resume" in err
    assert again.returncode == 0
    assert same_models(output, undisturbed)


@pytest.mark.parametrize("moment", ["name=corpus state=begun", "name=tokenizer state=begun", "step=", "epoch=1/3",
                                    "name=training state=done"])  # fmt: skip
def test_a_training_that_was_killed_comes_to_the_same_bits(
    started, texts: Path, undisturbed: Path, tmp_path: Path, moment: str
):
    output = tmp_path / "model"
    process = started(training(texts, output))
    wait_for(process.stdout, moment)

    process.kill()
    process.communicate()
    again = resumed(output)

    assert again.returncode == 0, again.stderr
    assert same_models(output, undisturbed)


def test_a_disk_that_fills_up_during_a_checkpoint_loses_nothing(undisturbed: Path, tmp_path: Path):
    output = Path(shutil.copytree(undisturbed, tmp_path / "model"))
    for path in ("best_model.pt", "final_model.pt", "training_history.json", "stages/training.json"):
        (output / path).unlink()
    kept = checkpoints(output / "checkpoints")
    for later in kept[1:]:
        shutil.rmtree(later)

    def little_room() -> None:  # the kernel lets no file grow beyond half of the weights
        half = (kept[0] / "model.safetensors").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))

    full = subprocess.run(
        [*PROGRAM, "lm", "train", "--output", str(output), "--resume"],
        capture_output=True, text=True, env=environment(), preexec_fn=little_room,
    )  # fmt: skip
    whole = latest(output / "checkpoints")
    again = resumed(output)

    assert full.returncode == 9
    assert "error[DISK_FULL]" in full.stderr
    assert "go on with --resume: the checkpoint of step" in full.stderr
    assert whole == kept[0]
    assert again.returncode == 0, again.stderr
    assert same_models(output, undisturbed)
