"""What a training comes to is told even where nothing can be printed any more."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable

import pytest

from trainer_node.errors import DiskFull
from trainer_node.outcome import ended, flush
from trainer_node.training import Outcome
from tunesmith.v1 import job_spec_pb2


class FullDisk(io.StringIO):
    """A file on a disk that has no room left."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def refused() -> Outcome:
    """A training that knows what is wrong."""
    raise DiskFull("there is no room left; free 2 MB")


def broken() -> Outcome:
    """A training with a bug."""
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(("train", "reason"), [(refused, "DISK_FULL"), (broken, "TRAINING_CRASHED")])
def test_a_full_disk_below_the_log_does_not_hide_why_a_training_failed(
    monkeypatch: pytest.MonkeyPatch, train: Callable[[], Outcome], reason: str
) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, FullDisk())

    end = ended(train, job_spec_pb2.JobSpec())
    flush()

    assert end.failed.reason == reason
