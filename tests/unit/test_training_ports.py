"""The ports `Telemetry` and `Blobs` of a training: what engines rely on, of a node, the foreground and the fakes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training import studio
from trainer_node.blob_folder import BlobFolder
from trainer_node.foreground import CallbackTelemetry, OutputFiles
from trainer_node.job_process import SpoolTelemetry
from trainer_node.spool import SpoolReader, SpoolWriter
from trainer_node.training import Blobs, Telemetry, keep_folder
from tunesmith.v1 import blob_pb2, job_event_pb2

Events = list[job_event_pb2.JobEvent]


@contextmanager
def spool(folder: Path) -> Iterator[tuple[Telemetry, Callable[[], Events]]]:
    writer, reader = SpoolWriter(folder), SpoolReader(folder)

    def told() -> Events:
        writer.flush()
        return reader.read(0)

    yield SpoolTelemetry(writer), told
    writer.close()
    reader.close()


@pytest.fixture(params=["node", "foreground", "fake"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Telemetry, Callable[[], Events]]]:
    """Where events go, and what has arrived there."""
    if request.param == "node":
        with spool(tmp_path) as sink:
            yield sink
    elif request.param == "foreground":
        arrived: Events = []
        yield CallbackTelemetry(arrived.append), lambda: arrived
    else:
        fake = studio.Telemetry()
        yield fake, lambda: fake.events


def step(number: int) -> job_event_pb2.JobEvent:
    return job_event_pb2.JobEvent(metrics=job_event_pb2.MetricBatch(names=["loss"], steps=[number], values=[1.0]))


def test_events_arrive_in_order_numbered_from_one_and_timed(sink):
    telemetry, told = sink

    for number in range(5):
        telemetry.emit(step(number))

    assert [event.metrics.steps[0] for event in told()] == list(range(5))
    assert [event.seq for event in told()] == [1, 2, 3, 4, 5]
    times = [event.time.ToNanoseconds() for event in told()]
    assert times[0] > 0 and times == sorted(times)


def test_events_of_several_threads_are_neither_lost_nor_numbered_twice(sink):
    telemetry, told = sink

    def emit(first: int) -> None:
        for number in range(first, first + 50):
            telemetry.emit(step(number))

    threads = [threading.Thread(target=emit, args=[first]) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    steps = [event.metrics.steps[0] for event in told()]
    assert [event.seq for event in told()] == list(range(1, 201))
    for first in (0, 100, 200, 300):
        assert [number for number in steps if first <= number < first + 50] == list(range(first, first + 50))


@dataclass
class Keeper:
    """A port `Blobs`, and the bytes that it kept; None where it keeps none."""

    blobs: Blobs
    kept: Callable[[str], bytes] | None


@pytest.fixture(params=["node", "foreground", "fake"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Keeper:
    if request.param == "foreground":
        return Keeper(OutputFiles(), None)
    if request.param == "node":
        folder = BlobFolder(tmp_path / "blobs")
        return Keeper(folder, lambda digest: folder.existing(digest).read_bytes())
    fake = studio.Blobs(tmp_path / "blobs")
    return Keeper(fake, lambda digest: (fake.folder / digest).read_bytes())


@pytest.mark.parametrize("data", [b"weights", b"", bytes(range(256)) * 10_000])
def test_a_file_is_described_by_its_name_digest_and_length(keeper: Keeper, tmp_path: Path, data: bytes):
    path = tmp_path / "file"
    path.write_bytes(data)

    found = [keeper.blobs.keep(path, name) for name in ("a/b.bin", "c.bin")]

    digest = hashlib.sha256(data).hexdigest()
    described = [blob_pb2.File(path=name, digest=digest, size_bytes=len(data)) for name in ("a/b.bin", "c.bin")]
    assert found == described


def test_what_is_kept_outlives_the_file(keeper: Keeper, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"weights")

    digest = keeper.blobs.keep(path, "weights").digest
    path.unlink()

    if keeper.kept is not None:  # in the foreground the file itself is what stays
        assert keeper.kept(digest) == b"weights"


def test_a_file_that_is_not_there_cannot_be_kept(keeper: Keeper, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        keeper.blobs.keep(tmp_path / "absent", "absent")


def test_a_folder_is_kept_with_paths_relative_to_it_and_sorted(keeper: Keeper, tmp_path: Path):
    for name in ("b.bin", "a/z.bin", "a/y.bin"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(name.encode())

    files = keep_folder(keeper.blobs, tmp_path / "folder")

    assert [file.path for file in files] == ["a/y.bin", "a/z.bin", "b.bin"]
    assert [file.digest for file in files] == [hashlib.sha256(file.path.encode()).hexdigest() for file in files]
