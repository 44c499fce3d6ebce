"""Log lines: every byte of the output once, whatever it is and however the reading is cut up."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_node.log_lines import MAX_BATCH_BYTES, MAX_BATCH_LINES, MAX_LINE_BYTES, LogFollower, tail
from tunesmith.v1 import job_event_pb2

STDOUT = job_event_pb2.LOG_STREAM_STDOUT


def follow(path: Path, offset: int = 0, *, final: bool = True) -> list[job_event_pb2.LogBatch]:
    return list(LogFollower(path, STDOUT, offset).read(final=final))


def lines(batches: list[job_event_pb2.LogBatch]) -> list[str]:
    return [line for batch in batches for line in batch.lines]


def test_a_file_that_does_not_exist_yet_has_no_lines(tmp_path: Path) -> None:
    assert follow(tmp_path / "stdout.log") == []


def test_a_line_without_its_end_waits_for_it_until_the_final_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = LogFollower(path, STDOUT)
    path.write_bytes(b"one\ntw")

    assert lines(list(follower.read())) == ["one"]
    assert lines(list(follower.read())) == []
    path.write_bytes(b"one\ntwo")
    assert lines(list(follower.read(final=True))) == ["two"]


def test_line_ends_of_both_kinds_are_left_out_and_empty_lines_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\r\n\nb\n")

    assert lines(follow(path)) == ["a", "", "b"]


def test_what_is_not_text_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"caf\xc3\xa9 \xff\xfe \x00 end\n")

    assert lines(follow(path)) == ["café \ufffd\ufffd \ufffd end"]


def test_an_overlong_line_comes_in_parts_of_the_limit_and_never_splits_a_character(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = "x" + "é" * 40_000
    path.write_text(text)

    parts = lines(follow(path))

    assert "".join(parts) == text
    assert max(len(part.encode()) for part in parts) <= MAX_LINE_BYTES


def test_an_overlong_line_of_rubbish_stays_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff" * 100_000)

    parts = lines(follow(path))

    assert max(len(part.encode()) for part in parts) <= MAX_LINE_BYTES
    assert sum(map(len, parts)) == 100_000


def test_batches_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(5000)) + b"y" * (3 * MAX_BATCH_BYTES))

    batches = follow(path)

    assert lines(batches)[:5000] == [str(n) for n in range(5000)]
    assert max(len(batch.lines) for batch in batches) <= MAX_BATCH_LINES
    assert max(batch.ByteSize() for batch in batches) <= 2 * MAX_BATCH_BYTES


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=400).map(lambda data: data.replace(b"\r", b"\n") * 3), cut=st.integers(0, 1200))
def test_a_successor_goes_on_exactly_where_the_first_reader_stopped(content: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(content[:cut])
        before = follow(path, final=False)
        path.write_bytes(content)

        after = follow(path, before[-1].end_offset if before else 0)

        assert lines(before + after) == lines(follow(path))
        assert not content or (before + after)[-1].end_offset == len(content)


def test_the_tail_is_whole_lines_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == ""

    path.write_text("".join(f"line {n}\n" for n in range(5000)))
    last = tail(path)

    assert len(last.encode()) <= 8192
    assert last.startswith("line ") and last.endswith("line 4999\n")
    path.write_bytes(b"\xff" * 10_000)
    assert len(tail(path).encode()) <= 8192
