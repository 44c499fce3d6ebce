"""Text for a small language model: corpora in files, as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer_node.engines.tinylm.corpus import Corpus, prepare
from trainer_node.engines.tinylm.synthetic import write_synthetic
from trainer_node.engines.tinylm.tokenizer import Tokenizer, load, train

ENGLISH = "The miller's daughter carried {n} sacks of flour to the river, and nobody in the village asked her why."
SPANISH = "La hija del molinero llevó {n} sacos de harina al río, y nadie en la aldea le preguntó por qué."


def english(count: int) -> list[str]:
    """Paragraphs that differ from each other."""
    return [ENGLISH.format(n=number) for number in range(count)]


def spanish(count: int) -> list[str]:
    """Paragraphs that differ from each other."""
    return [SPANISH.format(n=number) for number in range(count)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes | list[str]], Path]:
    """Writes a file below `texts`: bytes as they are, text in UTF-8, a list as one paragraph a line."""

    def put(name: str, content: str | bytes | list[str]) -> Path:
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(f"{line}\n" for line in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A small corpus of both languages, 160 KB; never changed."""
    folder = tmp_path_factory.mktemp("corpus")
    return prepare(write_synthetic(folder / "texts", size_bytes=160_000), folder / "corpus", seed=1)


@pytest.fixture(scope="session")
def tokenizer_folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 600 pieces with byte fallback, on the disk; never changed."""
    folder = tmp_path_factory.mktemp("tokenizer") / "made"
    train(corpus, folder, vocab_size=600)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    """The same, loaded."""
    return load(tokenizer_folder)
