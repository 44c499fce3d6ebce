"""The default corpus: known bytes from whichever mirror gives them, resumed, kept, and made into text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tinylm.conftest import english
from tests.tinylm.mirrors import Mirror, Request, running
from trainer_node.engines.tinylm import sources
from trainer_node.engines.tinylm.corpus import prepare
from trainer_node.engines.tinylm.downloads import ATTEMPTS, Unavailable, Wanted, download
from trainer_node.engines.tinylm.errors import CorpusInvalid, SourcesUnavailable
from trainer_node.engines.tinylm.sources import Progress, fetch
from trainer_node.engines.tinylm.works import WORKS, Origin, Work

BODY = "\r\n\r\n".join(["THE MILL", "By Nobody", *english(40), "THE END", "Advertisements"])
BOOK = (
    "*** START OF THIS PROJECT GUTENBERG EBOOK THE MILL ***\r\n\r\n" + BODY + "\r\n\r\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK THE MILL ***\r\nThe licence, which is long: café.\r\n" * 40
).encode("latin-1")
HALF = len(BOOK) // 2


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of `BOOK` in many moods."""
    monkeypatch.setenv("no_proxy", "*")
    with running() as server:
        server.pages = {
            "/good": lambda asked: asked.give(BOOK),
            "/no-ranges": lambda asked: asked.give(BOOK, ranges=False),
            "/breaks-once": lambda asked: asked.give(BOOK, stop_after=None if asked.first else HALF),
            "/breaks": lambda asked: asked.give(BOOK, stop_after=10),
            "/breaks-at-once": lambda asked: asked.give(BOOK, stop_after=0),
            "/other-bytes": lambda asked: asked.give(BOOK.swapcase()),
            "/shorter": lambda asked: asked.give(BOOK[:-7]),
            "/endless": endless,
            "/silent": lambda asked: bool(server.ended.wait(60)),
            "/drips": lambda asked: drip(asked, server.ended),
            "/gone": lambda asked: asked.send_error(404),
            "/other-range": other_range,
        }
        yield server


def endless(asked: Request) -> None:
    """More than was asked for, without saying how much."""
    asked.send_response(200)
    asked.end_headers()
    asked.wfile.write(BOOK * 3)


def other_range(asked: Request) -> None:
    """The beginning, whatever was asked for."""
    asked.send_response(206)
    asked.send_header("Content-Range", f"bytes 0-{len(BOOK) - 1}/{len(BOOK)}")
    asked.end_headers()
    asked.wfile.write(BOOK)


def drip(asked: Request, ended: threading.Event) -> None:
    """A byte now and then."""
    asked.send_response(200)
    asked.end_headers()
    for byte in BOOK:
        if ended.wait(0.02):
            return
        asked.wfile.write(bytes([byte]))
        asked.wfile.flush()


def wanted(mirror: Mirror, *paths: str) -> Wanted:
    """`BOOK`, from these pages."""
    return Wanted([mirror.at(path) for path in paths], hashlib.sha256(BOOK).hexdigest(), len(BOOK))


def book(mirror: Mirror, *paths: str, **changed: Any) -> Work:
    """A work whose mirrors are these pages."""
    at = wanted(mirror, *paths)
    origin = Origin(
        mirrors=tuple(at.mirrors), sha256=at.sha256, size_bytes=at.size_bytes, encoding="iso-8859-1", page="the page"
    )
    plain = Work(title="The Mill", author="Nobody", language="en", begins=english(1)[0], ends="THE END", origin=origin)
    return dataclasses.replace(plain, **changed)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(mirror: Mirror, tmp_path: Path):
    path = download(wanted(mirror, "/breaks-once"), tmp_path / "book")

    assert path.read_bytes() == BOOK
    assert mirror.asked == [("/breaks-once", 0), ("/breaks-once", HALF)]
    assert sorted(one.name for one in tmp_path.iterdir()) == [".book.lock", "book"]


def test_what_one_mirror_began_another_ends(mirror: Mirror, tmp_path: Path):
    download(wanted(mirror, "/breaks", "/good"), tmp_path / "book")

    assert mirror.asked == [("/breaks", 10 * n) for n in range(ATTEMPTS)] + [("/good", 10 * ATTEMPTS)]


def test_what_a_process_began_before_is_gone_on_with(mirror: Mirror, tmp_path: Path):
    (tmp_path / "book.part").write_bytes(BOOK[:100])

    path = download(wanted(mirror, "/good"), tmp_path / "book")

    assert path.read_bytes() == BOOK
    assert mirror.asked == [("/good", 100)]


def test_a_mirror_without_ranges_gives_the_whole(mirror: Mirror, tmp_path: Path):
    (tmp_path / "book.part").write_bytes(BOOK[:100])

    path = download(wanted(mirror, "/no-ranges"), tmp_path / "book")

    assert path.read_bytes() == BOOK


@pytest.mark.parametrize("part", [b"x" * 100, b"x" * len(BOOK), BOOK + b"x"], ids=["short", "full", "too long"])
def test_a_part_with_wrong_bytes_is_fetched_anew(mirror: Mirror, tmp_path: Path, part: bytes):
    (tmp_path / "book.part").write_bytes(part)

    path = download(wanted(mirror, "/good"), tmp_path / "book")

    assert path.read_bytes() == BOOK
    assert mirror.asked[-1] == ("/good", 0)


def test_a_file_that_is_there_is_not_fetched_and_a_damaged_one_is(mirror: Mirror, tmp_path: Path):
    path = download(wanted(mirror, "/good"), tmp_path / "book")
    download(wanted(mirror, "/good"), path)
    asked = len(mirror.asked)
    path.write_bytes(BOOK.swapcase())

    download(wanted(mirror, "/good"), path)

    assert (asked, len(mirror.asked)) == (1, 2)
    assert path.read_bytes() == BOOK


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("/gone", "HTTP 404 Not Found"),
        ("/other-bytes", "other bytes than expected (its SHA-256 is another)"),
        ("/shorter", f"{len(BOOK) - 7} bytes instead of {len(BOOK)}"),
        ("/endless", f"more than the {len(BOOK):,} bytes expected"),
        ("/silent", "no answer"),
        ("/drips", "less than 4,096 bytes in 0.3 s"),
        ("/breaks-at-once", "no connection (the connection broke off)"),
    ],
)
def test_a_mirror_that_fails_is_named_with_its_failure_and_the_next_one_is_asked(
    mirror: Mirror, tmp_path: Path, page: str, said: str
):
    with pytest.raises(Unavailable) as refused:
        download(wanted(mirror, page), tmp_path / "alone", patience_s=0.3)

    path = download(wanted(mirror, page, "/good"), tmp_path / "book", patience_s=0.3)

    assert refused.value.answers == (f"127.0.0.1: {said}",)
    assert not (tmp_path / "alone").exists()
    assert path.read_bytes() == BOOK


def test_a_mirror_that_answers_another_range_is_refused(mirror: Mirror, tmp_path: Path):
    (tmp_path / "book.part").write_bytes(BOOK[:100])

    with pytest.raises(Unavailable, match="another range than asked for"):
        download(wanted(mirror, "/other-range"), tmp_path / "book")


def test_a_stop_keeps_what_has_arrived(mirror: Mirror, tmp_path: Path):
    def stop(received: int) -> None:
        if received:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(wanted(mirror, "/breaks-once"), tmp_path / "book", progress=stop)

    download(wanted(mirror, "/good"), tmp_path / "book")
    assert mirror.asked[-1] == ("/good", HALF)


def test_a_stop_is_heard_between_two_mirrors(mirror: Mirror, tmp_path: Path):
    def stop(received: int) -> None:
        if mirror.asked:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(wanted(mirror, "/gone", "/good"), tmp_path / "book", progress=stop)

    assert mirror.asked == [("/gone", 0)]


def test_two_at_once_fetch_a_file_once(mirror: Mirror, tmp_path: Path):
    both = [threading.Thread(target=download, args=(wanted(mirror, "/good"), tmp_path / "book")) for _ in range(2)]

    for one in both:
        one.start()
    for one in both:
        one.join()

    assert mirror.asked == [("/good", 0)]


def test_a_work_becomes_text_from_its_beginning_to_its_end(mirror: Mirror, tmp_path: Path):
    [text] = fetch(tmp_path, works=[book(mirror, "/good")])

    assert text.name == "the-mill.en.txt"
    assert text.read_text().splitlines() == english(40)
    assert prepare([text], tmp_path / "corpus", seed=1).languages[0].code == "en"


def test_a_long_work_ends_with_the_paragraph_that_reaches_its_limit(mirror: Mirror, tmp_path: Path):
    [text] = fetch(tmp_path, works=[book(mirror, "/good", limit_bytes=len(english(3)[0]) * 2)])

    assert text.read_text().splitlines() == english(2)


def test_the_texts_are_kept_with_title_author_licence_and_address(mirror: Mirror, tmp_path: Path):
    works = [book(mirror, "/good")]
    [text] = fetch(tmp_path, works=works)
    mirror.pages.clear()

    again = fetch(tmp_path, works=works)

    told = json.loads((text.parent / sources.MANIFEST).read_text())["works"][0]
    assert again == [text]
    assert len(mirror.asked) == 1
    assert (told["title"], told["author"], told["page"]) == ("The Mill", "Nobody", "the page")
    assert told["sha256"] == hashlib.sha256(BOOK).hexdigest()


def test_texts_that_are_not_whole_are_made_again_from_the_kept_originals(mirror: Mirror, tmp_path: Path):
    works = [book(mirror, "/good")]
    [text] = fetch(tmp_path, works=works)
    text.write_text("half a")

    fetch(tmp_path, works=works)

    assert text.read_text().splitlines() == english(40)
    assert len(mirror.asked) == 1


def test_progress_tells_the_work_and_its_bytes(mirror: Mirror, tmp_path: Path):
    told: list[Progress] = []

    fetch(
        tmp_path, works=[book(mirror, "/good"), book(mirror, "/good", title="The Other Mill")], on_progress=told.append
    )

    assert (told[-1].place, told[-1].works, told[-1].received_bytes) == (1, 2, len(BOOK))


def test_offline_the_error_says_what_each_mirror_said_and_what_else_can_be_done(mirror: Mirror, tmp_path: Path):
    work = book(mirror, "/gone", "/silent")

    with pytest.raises(SourcesUnavailable) as refused:
        fetch(tmp_path, works=[work], patience_s=0.2)

    assert refused.value.reason == "INPUTS_UNAVAILABLE"
    assert refused.value.message == (
        "The Mill could not be downloaded (127.0.0.1: HTTP 404 Not Found; 127.0.0.1: no answer); try again when there "
        "is a network (what has arrived is kept), give text of your own with --corpus-path, train on the built-in "
        f"synthetic corpus, or put the file with SHA-256 {work.origin.sha256} at "
        f"{tmp_path}/originals/{work.origin.sha256}.txt yourself (the page)"
    )


def test_a_host_that_cannot_be_reached_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "*")

    with pytest.raises(Unavailable, match=r"127\.0\.0\.1: no connection \(Connection refused\)"):
        download(Wanted(["http://127.0.0.1:9/book"], "0" * 64, 10), tmp_path / "book")


def test_a_work_that_does_not_begin_as_it_should_is_a_bug_and_says_so(mirror: Mirror, tmp_path: Path):
    with pytest.raises(CorpusInvalid, match="The Mill has no paragraph that begins with 'Once'; report this as a bug"):
        fetch(tmp_path, works=[book(mirror, "/good", begins="Once")])


def test_every_built_in_work_is_pinned_and_has_three_mirrors_of_the_same_bytes():
    assert {work.language for work in WORKS} == {"en", "es"}
    assert len({work.name for work in WORKS}) == len({work.origin.sha256 for work in WORKS}) == len(WORKS)
    for work in WORKS:
        assert len(bytes.fromhex(work.origin.sha256)) == 32
        raw, cached, archived = work.origin.mirrors
        commit = raw.split("/")[-2]
        assert len(bytes.fromhex(commit)) == 20
        assert commit in cached and work.origin.sha256 in archived
        assert all(address.startswith("https://") for address in work.origin.mirrors)
        assert work.name.isascii() and "public domain" in work.origin.licence
