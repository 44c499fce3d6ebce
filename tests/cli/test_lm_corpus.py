"""The text of a language model on its way to a node: found, named, checked."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli import lm_corpus
from trainer_node.engines.tinylm import text_files
from trainer_node.engines.tinylm.errors import CorpusInvalid
from tunesmith import spec
from tunesmith.v1 import job_spec_pb2

LINE = "A line of text.\n"


def write(folder: Path, *paths: str) -> Path:
    """Text files with a line each."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{path}: {LINE}", encoding="utf-8")
    return folder


def names(*paths: Path) -> list[str]:
    return [text.name for text in lm_corpus.texts_of(paths)]


def languages_on_a_node(told: list[str], folder: Path) -> list[str]:
    """What a node reads from the names alone, in their order."""
    write(folder, *told)
    found = {file.path.relative_to(folder).as_posix(): file.language for file in text_files.find([folder])}
    return [found[name] for name in told]


@pytest.mark.parametrize(
    ("given_paths", "files", "told"),
    [
        (["."], ["en.txt", "es/quijote.txt"], ["en.txt", "es/quijote.txt"]),
        (["es"], ["es/quijote.txt", "es/old/sueños.TXT"], ["es/old/sue_os.txt", "es/quijote.txt"]),
        (["es/quijote.txt"], ["es/quijote.txt"], ["es/quijote.txt"]),
        (["a", "b"], ["a/en.txt", "b/en.txt"], ["en.txt", "en/en-2.txt"]),
        (["a", "b"], ["a/Tale.txt", "b/tale.txt"], ["Tale.txt", "tale-2.txt"]),
        (["my text"], ["my text/es un libro.txt", "my text/my text/x.text"], ["es_un_libro.txt", "my_text_/x.txt"]),
        (["notes.is"], ["notes.is"], ["notes.txt"]),
        (["."], ["红楼梦.txt", "_hidden es.txt"], ["hidden_es.txt", "text.txt"]),
        (["."], ["a/b/c/d/e/f.txt", "es/b/c/d/e/f.txt"], ["b/c/d/e/f.txt", "es/c/d/e/f.txt"]),
        (["."], ["a.txt/b.txt"], ["a_txt/b.txt"]),
    ],
)
def test_a_text_keeps_the_path_below_what_was_given_in_the_letters_of_a_name(
    tmp_path: Path, given_paths: list[str], files: list[str], told: list[str]
) -> None:
    write(tmp_path / "given", *files)

    found = names(*(tmp_path / "given" / path for path in given_paths))

    assert found == told


# letters that mean something in a name: tags of languages, dots, blanks, and what no name may hold
_PART = st.lists(st.sampled_from(["es", "en", "my", "text", ".", "-", "_", " ", "ñ", "x", "1"]), min_size=1, max_size=5)
_PATH = st.lists(_PART.map("".join).filter(lambda part: not part.startswith(".")), min_size=1, max_size=7)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(_PATH.map(lambda parts: "/".join(f"{part}_d" for part in parts[:-1]) + f"/{parts[-1]}.txt"), max_size=6)
)
def test_a_node_reads_the_language_that_was_read_here_whatever_files_are_called(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = write(Path(folder, "here"), "en.txt", *(path.lstrip("/") for path in paths))
        found = text_files.find([here])

        told = lm_corpus.names_of(found, [here])

        assert len({name.casefold() for name in told}) == len(told)
        files = [job_spec_pb2.CorpusFile(name=name, digest="0" * 64) for name in told]
        assert not [problem for file in files for problem in spec.check(file)]
        assert languages_on_a_node(told, Path(folder, "node")) == [file.language for file in found]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; give a file with text, a paragraph a line"),
        (b" \n\n\t\n", "holds nothing but white space; give a file with text"),
        (b"\x7fELF\x00\x00\x01\x02" * 200, "is not text but binary data"),
        ("canción\n".encode("latin-1") * 50, "iconv -f ISO-8859-1 -t UTF-8"),
        (None, "there is no "),
    ],
    ids=["empty", "blank", "binary", "latin", "missing"],
)
def test_what_is_no_text_is_told_with_what_to_do(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "es.txt"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(CorpusInvalid, match=re.escape(told)):
        lm_corpus.texts_of([file])


def test_an_empty_file_among_others_is_the_trainings_to_mention(tmp_path: Path) -> None:
    write(tmp_path, "en.txt")
    (tmp_path / "es.txt").touch()

    assert names(tmp_path) == ["en.txt", "es.txt"]


def test_more_files_than_a_run_takes_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_corpus, "MOST_FILES", 2)
    write(tmp_path, "a.txt", "b.txt", "c.txt")

    with pytest.raises(CorpusInvalid, match="there are 3 text files, and a run takes 2; join them"):
        lm_corpus.texts_of([tmp_path])


def test_texts_are_told_by_number_language_and_size(tmp_path: Path) -> None:
    texts = lm_corpus.texts_of([write(tmp_path, "en.txt", "es/quijote.txt", "es/novelas.txt")])

    assert lm_corpus.in_words(texts) == "3 text files (en 1, es 2), 88 bytes"
    assert lm_corpus.in_words(texts[:1]) == "1 text file (en 1), 24 bytes"
