"""A training in the foreground: the same engine and the same ends, with no control plane."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_child import ENGINES
from trainer_node import __main__, checkpoints, foreground
from trainer_node.event_lines import lines_of
from trainer_node.foreground import run_foreground
from trainer_node.outcome import ended
from trainer_node.stop_signal import ctrl_c
from trainer_node.training import TrainingSample
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_event_pb2, job_spec_pb2


@pytest.fixture(autouse=True)
def fake_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of seconds; the LoRA rank says which."""
    names = list(ENGINES)

    def train(job, telemetry, blobs, stop):
        return ENGINES[names[job.job.spec.supervised.adapter.lora_r - 1]](job, telemetry, blobs, stop)

    monkeypatch.setattr(foreground, "engine_for", lambda kind: train)


def spec_for(engine: str, *, epochs: int = 3) -> job_spec_pb2.JobSpec:
    spec = job_spec_pb2.JobSpec()
    spec.supervised.adapter.base_model = "tiny"
    spec.supervised.adapter.lora_r = list(ENGINES).index(engine) + 1
    spec.supervised.training.epochs = epochs
    return spec


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"sound")
    return [TrainingSample(prompt="p", audio_path=clip, audio_digest="0" * 64)]


def test_events_are_numbered_and_the_end_is_the_last(tmp_path: Path, samples: list[TrainingSample]) -> None:
    events: list[job_event_pb2.JobEvent] = []

    end = run_foreground(
        spec_for("quick"), samples, models_dir=tmp_path, output_dir=tmp_path / "out", on_event=events.append
    )

    assert end.HasField("succeeded")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].finished == end
    assert any("event=checkpoint step=1" in line for event in events for line in lines_of(event))


def test_a_failure_is_an_end_not_an_exception(
    tmp_path: Path, samples: list[TrainingSample], capfd: pytest.CaptureFixture[str]
) -> None:
    end = run_foreground(
        spec_for("raising"), samples, models_dir=tmp_path, output_dir=tmp_path / "out", on_event=lambda event: None
    )

    assert end.failed.reason == "TRAINING_CRASHED"
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        (
            {"supervised": {"training": {"batch_size": 8}}},
            "reduce batch_size from 8 to 4 and set gradient_accumulation",
        ),
        ({"tiny_lm": {}}, "reduce batch_size from 32 to 16"),
        ({"tiny_lm": {"training": {"batch_size": 1}}}, "reduce max_seq_length from 128 to 64"),
        ({"tiny_lm": {"training": {"batch_size": 1}, "model": {"max_seq_length": 12}}}, "max_seq_length from 12 to 8"),
        ({"tiny_lm": {"training": {"batch_size": 1}, "model": {"max_seq_length": 8}}}, "reduce d_model, layers or"),
    ],
)
def test_a_system_without_memory_is_no_bug_and_names_the_remedy(spec: dict[str, Any], remedy: str) -> None:
    def train() -> job_event_pb2.JobSucceeded:
        raise OSError(errno.ENOMEM, "Cannot allocate memory", "/somewhere")

    end = ended(train, job_spec_pb2.JobSpec(**spec))

    assert end.failed.reason == "OUT_OF_MEMORY"
    assert remedy in end.failed.message


def test_an_output_folder_with_a_training_is_not_overwritten(tmp_path: Path, samples: list[TrainingSample]) -> None:
    with checkpoints.CheckpointFolder(tmp_path / "out" / "checkpoints", keep=1).commit(3) as folder:
        (folder / "adapter.safetensors").write_text("weights of step 3")

    def run(*, resume: bool) -> job_event_pb2.JobFinished:
        return run_foreground(
            spec_for("quick"),
            samples,
            models_dir=tmp_path,
            output_dir=tmp_path / "out",
            on_event=lambda event: None,
            resume=resume,
        )

    with pytest.raises(InvalidField, match="go on with it by --resume"):
        run(resume=False)
    assert run(resume=True).HasField("succeeded")


def test_there_must_be_something_to_resume(tmp_path: Path, samples: list[TrainingSample]) -> None:
    with pytest.raises(InvalidField, match="start without --resume"):
        run_foreground(
            spec_for("quick"),
            samples,
            models_dir=tmp_path,
            output_dir=tmp_path / "out",
            on_event=lambda event: None,
            resume=True,
        )


def test_ctrl_c_once_finishes_the_step_and_leaves_a_checkpoint(tmp_path: Path, samples: list[TrainingSample]) -> None:
    told: list[str] = []

    def interrupt_at_5(event: job_event_pb2.JobEvent) -> None:
        if event.HasField("metrics") and event.metrics.steps[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with ctrl_c(lambda: told.append("first")) as stop:
        end = run_foreground(
            spec_for("steady"),
            samples,
            models_dir=tmp_path,
            output_dir=tmp_path / "out",
            on_event=interrupt_at_5,
            stop=stop,
        )

    assert told == ["first"]
    assert end.cancelled.checkpoint_step == 5


def test_ctrl_c_twice_stops_now() -> None:
    with pytest.raises(KeyboardInterrupt), ctrl_c(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_the_program_says_what_is_wrong_with_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("supervised:\n  training:\n    learing_rate: 1e-4\n")

    code = __main__.main([str(job), "--dataset", str(tmp_path / "none.jsonl"), "--output", str(tmp_path / "out")])

    assert code == 2
    assert "did you mean learning_rate?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            "tiny_lm: {training: {epochs: 1}}",
            "learns from text, not from a data set; train it with `tunesmith lm train`",
        ),
        (
            "generate: {player: {base_model: tiny}, generation: {prompts: [a tune]}}",
            "plays clips and learns nothing; have a node play them with `tunesmith run submit`",
        ),
    ],
)
def test_what_learns_from_no_clips_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str, told: str
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(spec)
    dataset, output = str(tmp_path / "clips.jsonl"), tmp_path / "out"

    code = __main__.main([str(job), "--dataset", dataset, "--output", str(output)])

    assert code == 2
    assert told in capsys.readouterr().err
    assert not output.exists()


def test_a_text_is_told_as_it_is_and_a_clip_by_its_file() -> None:
    text = job_event_pb2.PreviewSaved(step=3, prompt="The", text='The "old" man\nsaid')
    clip = job_event_pb2.PreviewSaved(step=3, prompt="a flute", file={"path": "previews/a.wav"})

    told = [line for saved in (text, clip) for line in lines_of(job_event_pb2.JobEvent(preview_saved=saved))]

    assert told == [
        'event=preview step=3 prompt="The" text="The \\"old\\" man\\nsaid"',
        'event=preview step=3 prompt="a flute" file=previews/a.wav',
    ]
