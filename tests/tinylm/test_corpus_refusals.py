"""Text that cannot be trained on: one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tinylm.conftest import english, spanish
from trainer_node.engines.tinylm.corpus import prepare
from trainer_node.engines.tinylm.decoding import chunks
from trainer_node.engines.tinylm.errors import CorpusInvalid
from trainer_node.engines.tinylm.paragraphs import LONGEST_BYTES
from trainer_node.engines.tinylm.text_files import TextFile

Write = Callable[[str, str | bytes | list[str]], Path]

LINES = "\n".join(spanish(200)) + "\n"


def refusal(path: Path, tmp_path: Path) -> str:
    """What `prepare` says of a corpus that it refuses."""
    with pytest.raises(CorpusInvalid) as refused:
        prepare([path], tmp_path / "corpus", seed=1)
    assert refused.value.reason == "DATA_INVALID"
    assert not (tmp_path / "corpus" / "corpus.json").exists()
    return refused.value.message.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "texts/en.txt is empty; give a file with text, a paragraph a line"),
        (
            b" \n\t\r\n \n",
            "texts/en.txt holds nothing but white space (7 bytes); give a file with text, a paragraph a line",
        ),
        (
            "Año\n".encode("utf-16"),
            "texts/en.txt is UTF-16; the corpus must be UTF-8: "
            "iconv -f UTF-16 -t UTF-8 texts/en.txt > texts/en.utf8.txt",
        ),
        (
            LINES.encode("utf-16-be"),
            "texts/en.txt looks like UTF-16BE without a byte order mark; the corpus must be UTF-8: "
            "iconv -f UTF-16BE -t UTF-8 texts/en.txt > texts/en.utf8.txt",
        ),
        (
            b"one\ntwo\0three\n" * 3,
            "texts/en.txt has a NUL byte at byte 7, line 2, which no text has; remove them all: "
            "tr -d '\\000' < texts/en.txt > texts/en.utf8.txt",
        ),
        (b"%PDF-1.7\n", "texts/en.txt is a PDF; take its text out first: pdftotext texts/en.txt texts/en.utf8.txt"),
        (
            random.Random(1).randbytes(50_000),
            "texts/en.txt is not text but binary data; take it out of the corpus, or save its text as .txt",
        ),
        (
            b"\x01\x02\x03\x04abcdefgh\n" * 9,
            "texts/en.txt is not text but binary data; take it out of the corpus, or save its text as .txt",
        ),
        (
            LINES.encode("latin-1"),
            "texts/en.txt is not UTF-8: byte 0xF3 at byte 25, line 1; it looks like Latin-1, so convert it: "
            "iconv -f ISO-8859-1 -t UTF-8 texts/en.txt > texts/en.utf8.txt",
        ),
        (
            "She said so.\n“Why?”\n".encode("windows-1252"),
            "texts/en.txt is not UTF-8: byte 0x93 at byte 13, line 2; it looks like Windows-1252, so convert it: "
            "iconv -f WINDOWS-1252 -t UTF-8 texts/en.txt > texts/en.utf8.txt",
        ),
        (
            b"abc\n\x81\x8d\n",
            "texts/en.txt is not UTF-8: byte 0x81 at byte 4, line 2, and not Windows-1252 either; find out what it is "
            "with: file -i texts/en.txt, and convert it: iconv -f … -t UTF-8 texts/en.txt > texts/en.utf8.txt",
        ),
        (
            LINES.encode() + "y también el año\n".encode("latin-1") + LINES.encode(),
            f"texts/en.txt is not UTF-8: byte 0xE9 at byte {len(LINES.encode()) + 7}, line 201 looks like Latin-1, and "
            "other lines are UTF-8; convert what is Latin-1 alone, this line with: "
            "sed -n 201p texts/en.txt | iconv -f ISO-8859-1 -t UTF-8, and put it back",
        ),
        (
            english(20),
            "holding some text out takes 32 paragraphs of each language, and 'en' has 20 (texts/en.txt); add text, or "
            "take the file away",
        ),
    ],
    ids=[
        "empty", "blank", "utf-16", "utf-16 without mark", "nul", "pdf", "binary", "control characters", "latin-1",
        "windows-1252", "neither", "mixed", "too little",
    ],
)  # fmt: skip
def test_a_file_is_refused_in_one_sentence(write: Write, tmp_path: Path, content: str | bytes | list[str], said: str):
    file = write("en.txt", content)

    message = refusal(file, tmp_path)

    assert message == said


def test_the_first_bad_byte_is_found_behind_many_megabytes(write: Write, tmp_path: Path):
    good = (LINES * 150).encode()
    file = write("es.txt", good + b"ma\xf1ana\n")

    message = refusal(file, tmp_path)

    assert f"byte 0xF1 at byte {len(good) + 2}, line {150 * 200 + 1} " in message


def test_a_character_that_is_cut_off_at_the_end_of_the_file_is_found(write: Write, tmp_path: Path):
    file = write("es.txt", LINES.encode() + "mañan".encode()[:-4] + b"\xc3")

    message = refusal(file, tmp_path)

    assert f"byte 0xC3 at byte {len(LINES.encode()) + 2}, line 201" in message


def test_a_text_that_is_not_in_the_encoding_of_its_source_is_refused(write: Write, tmp_path: Path):
    file = TextFile(write("es.txt", "ma\u00f1ana\n"), "es.txt", "es")

    with pytest.raises(CorpusInvalid) as refused:
        list(chunks(file, encoding="us-ascii"))

    assert refused.value.message.replace(f"{tmp_path}/", "") == (
        "es.txt is not us-ascii: it has a byte 0xC3; find out what it is with: file -i texts/es.txt, and convert it: "
        "iconv -f … -t UTF-8 texts/es.txt > texts/es.utf8.txt"
    )


def test_a_text_that_is_mended_while_it_is_read_is_to_be_read_again():
    class Mended(type(Path())):  # type: ignore[misc]  # the class of paths of this system
        contents = iter([b"ma\xf1ana\n", b"manana\n"])

        def open(self, *_: object) -> io.BytesIO:
            return io.BytesIO(next(self.contents))

    with pytest.raises(CorpusInvalid, match=r"es\.txt was written to while it was read; wait until it is whole"):
        list(chunks(TextFile(Mended("es.txt"), "es.txt", "es")))


def test_one_bad_file_of_many_is_named(write: Write, tmp_path: Path):
    write("en.txt", english(100))
    folder = write("es/b.txt", b"ma\xf1ana\n").parent.parent

    message = refusal(folder, tmp_path)

    assert message.startswith("texts/es/b.txt is not UTF-8: byte 0xF1 at byte 2, line 1")


def test_a_folder_without_text_says_what_it_holds(write: Write, tmp_path: Path):
    folder = write("a.pdf", b"%PDF").parent
    write("sub/b.docx", b"PK")

    message = refusal(folder, tmp_path)

    assert message == (
        "there is no .txt file in texts (it holds a.pdf, b.docx); put text files there, or give the file itself"
    )


def test_what_is_not_there_or_no_file_is_named(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")

    messages = [refusal(tmp_path / "absent.txt", tmp_path), refusal(tmp_path / "pipe", tmp_path)]

    assert messages == [
        "there is no absent.txt; give a text file, or a folder of .txt files",
        "pipe is neither a file nor a folder; write the text into a file and give that",
    ]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that no user can read is Linux's")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "en.txt").symlink_to("/proc/self/mem")

    message = refusal(tmp_path / "texts", tmp_path)

    assert message == (
        "texts/en.txt cannot be read (input/output error); check it with ls -l, make it readable, or take it away"
    )


PREPARE = """
import re, sys
from pathlib import Path
from trainer_node.engines.tinylm.corpus import prepare
made = prepare([Path(sys.argv[1])], Path(sys.argv[2]), seed=1)
assert "torch" not in sys.modules
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
print(made.languages[0].paragraphs, made.size_bytes, peak)
"""


def test_a_line_of_a_hundred_megabytes_is_cut_in_bounded_memory(tmp_path: Path):
    sentence = " ".join(english(100)).encode() + b" "
    with (tmp_path / "en.txt").open("wb") as file:
        for _ in range(10**8 // len(sentence) + 1):
            file.write(sentence)

    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(tmp_path / "en.txt"), str(tmp_path / "corpus")],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    paragraphs, size_bytes, peak_mib = map(int, done.stdout.split())
    assert size_bytes >= 10**8
    assert paragraphs >= size_bytes / (LONGEST_BYTES + 1)
    assert peak_mib < 150
