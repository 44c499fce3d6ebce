"""Which checkpoints are written, when, and which are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.studio import OVERFITTING, Studio, Telemetry
from trainer_node import checkpoints
from trainer_node.checkpoints import CheckpointFolder
from trainer_node.errors import CheckpointCorrupt
from tunesmith.v1 import job_event_pb2


def write(folder: CheckpointFolder, step: int) -> Path:
    with folder.commit(step) as inside:
        (inside / "weights").write_bytes(bytes([step]) * 100)
    return folder.path(step)


def test_the_most_recent_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in range(1, 7):
        write(folder, step)
        folder.prune(best_step=2)

    assert [checkpoints.step_of(path) for path in checkpoints.checkpoints(tmp_path)] == [2, 5, 6]


def test_an_interrupted_write_leaves_nothing_that_counts(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    write(folder, 1)

    with pytest.raises(KeyboardInterrupt), folder.commit(2) as inside:
        (inside / "weights").write_bytes(b"half")
        raise KeyboardInterrupt

    assert checkpoints.latest(tmp_path) == folder.path(1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_remnants_of_a_crash_are_removed_by_the_next_training(tmp_path: Path) -> None:
    (tmp_path / ".writing-step-00000007").mkdir(parents=True)

    CheckpointFolder(tmp_path, keep=2)

    assert list(tmp_path.iterdir()) == []


def test_a_step_that_is_written_again_replaces_the_old_one(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    write(folder, 1)

    with folder.commit(1) as inside:
        (inside / "other").write_bytes(b"new")

    checkpoints.verify(folder.path(1))
    assert sorted(path.name for path in folder.path(1).iterdir()) == ["manifest.json", "other"]


def test_a_step_that_is_written_again_is_whole_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    write(folder, 1)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target == folder.path(1):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        write(folder, 1)
    after = CheckpointFolder(tmp_path, keep=1)
    kept = checkpoints.latest(tmp_path)
    assert kept is not None and checkpoints.step_of(kept) == 1
    write(after, 1)
    after.prune(best_step=1)

    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: (folder / "weights").unlink(), "weights is missing"),
        (lambda folder: (folder / "weights").write_bytes(b"x" * 100), "weights has other bytes"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"), "pytorch_model.bin does not belong to it"),
        (lambda folder: (folder / "manifest.json").unlink(), "no readable manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "no readable manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "no readable manifest.json"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_what_is_wrong(tmp_path: Path, damage, why: str) -> None:  # type: ignore[no-untyped-def]  # a lambda above
    folder = write(CheckpointFolder(tmp_path, keep=1), 3)

    damage(folder)

    with pytest.raises(CheckpointCorrupt, match=why):
        checkpoints.verify(folder)
    assert checkpoints.latest(tmp_path) is None


def test_every_checkpoint_is_announced_with_its_files_and_its_validation_loss(studio: Studio) -> None:
    done = studio.train(studio.samples(6), training={"epochs": 4}, checkpoints={"keep_checkpoints": 2})

    saved = done.checkpoints()
    assert [event.step for event in saved] == [2, 4, 6, 8]
    assert [event.eval_loss for event in saved] == done.metric("eval_loss")
    assert [event.epoch for event in saved] == [1, 2, 3, 4]
    assert [path.name for path in checkpoints.checkpoints(done.output_dir / "checkpoints")] == [
        "step-00000006",
        "step-00000008",
    ]
    for event in saved:  # those that were removed from the folder, too
        folder = done.blobs.lay_out(event.files, studio.folder / f"laid-out-{event.step}")
        checkpoints.verify(folder)
        assert checkpoints.step_of(folder) == event.step


def test_nothing_in_a_checkpoint_is_a_pickle(studio: Studio) -> None:
    done = studio.train(studio.samples(4), training={"epochs": 1})

    folder = done.newest_checkpoint()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    for path in folder.glob("*.json"):
        json.loads(path.read_text())


@pytest.mark.parametrize(
    ("every_epochs", "every_steps", "expected"),
    [(1, 0, [3, 6, 9, 12]), (2, 0, [6, 12]), (0, 5, [5, 10]), (2, 4, [4, 6, 8, 12]), (0, 3, [3, 6, 9, 12]), (0, 0, [])],
)
def test_checkpoints_come_by_epoch_and_by_step_and_never_twice(
    studio: Studio, every_epochs: int, every_steps: int, expected: list[int]
) -> None:
    schedule = {"checkpoint_every_epochs": every_epochs, "checkpoint_every_steps": every_steps}

    done = studio.train(
        studio.samples(6),
        training={"epochs": 4, "batch_size": 2},
        checkpoints=schedule,
        validation={"validation_fraction": 0},
    )

    assert [event.step for event in done.checkpoints()] == expected
    assert not any(event.HasField("eval_loss") or event.best for event in done.checkpoints())


def test_early_stopping_keeps_the_best(studio: Studio) -> None:
    done = studio.train(studio.noises(5), **OVERFITTING)

    evaluations = done.metric("eval_loss")
    best_epoch = evaluations.index(min(evaluations)) + 1
    report = done.report()
    assert (len(evaluations), report.stopped_early) == (best_epoch + 2, True)
    assert len(evaluations) < OVERFITTING["training"]["epochs"]
    assert (report.best_step, report.best_loss) == (best_epoch, min(evaluations))
    best = done.output_dir / "checkpoints" / f"step-{best_epoch:08d}" / "adapter_model.safetensors"
    assert done.adapter() == best.read_bytes()
    assert done.adapter() != (done.newest_checkpoint() / "adapter_model.safetensors").read_bytes()


def test_the_best_checkpoint_is_kept_beside_the_most_recent(studio: Studio) -> None:
    done = studio.train(studio.noises(5), **OVERFITTING, checkpoints={"keep_checkpoints": 1})

    best, last = done.report().best_step, done.report().steps
    kept = [checkpoints.step_of(path) for path in checkpoints.checkpoints(done.output_dir / "checkpoints")]
    assert kept == [best, last]
    assert [event.step for event in done.checkpoints() if event.best][-1] == best


def test_the_best_adapter_is_taken_even_where_no_checkpoint_was_due(studio: Studio) -> None:
    due = studio.train(studio.noises(5), **OVERFITTING)

    none = studio.train(studio.noises(5), **OVERFITTING, checkpoints={"checkpoint_every_epochs": 0})

    assert none.checkpoints() == []
    assert none.adapter() == due.adapter()


def test_a_cancel_leaves_a_checkpoint_and_no_adapter(studio: Studio) -> None:
    def stop(telemetry: Telemetry) -> bool:
        return telemetry.last_step() >= 2

    done = studio.train(
        studio.samples(6), stop=stop, training={"epochs": 50}, checkpoints={"checkpoint_every_epochs": 0}
    )

    assert done.outcome == job_event_pb2.JobCancelled(checkpoint_step=done.checkpoints()[-1].step)
    assert done.telemetry.last_step() <= 3
    checkpoints.verify(done.newest_checkpoint())
    assert not (done.output_dir / "adapter").exists()
    assert not (done.output_dir / "report.json").exists()


def test_a_cancel_before_the_first_step_leaves_nothing(studio: Studio) -> None:
    done = studio.train(studio.samples(6), stop=lambda _: True)

    assert done.outcome == job_event_pb2.JobCancelled(checkpoint_step=0)
    assert done.telemetry.events == []


def test_a_cancel_during_a_preview_does_not_wait_for_it(studio: Studio) -> None:
    def stop(telemetry: Telemetry) -> bool:
        return bool(telemetry.events)  # from JobStarted on: the first preview is just beginning

    done = studio.train(studio.samples(6), stop=stop, previews={"preview_prompts": ["low sine drone"], "preview_s": 30})

    assert done.outcome == job_event_pb2.JobCancelled(checkpoint_step=1)
    assert done.previews() == []
