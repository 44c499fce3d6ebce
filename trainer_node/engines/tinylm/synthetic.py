"""A SYNTHETIC corpus: English and Spanish that a program wrote, for where there is neither network nor text.

Two small grammars of our own choose words by a seed. The sentences are grammatical and mean nothing; a model trained on
them learns the grammars and no more. Whoever uses it says so to the user, with `NOTICE`; the folder says so as well.
Equal seeds and sizes give equal bytes, on every machine and in every version of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from trainer_node.engines.tinylm import sealed, synthetic_english, synthetic_spanish
from trainer_node.engines.tinylm.synthetic_words import Dice

NOTICE = (
    "this corpus is SYNTHETIC: English and Spanish sentences written by a program, without meaning; a model trained on "
    "it shows that the pipeline works, not what language is"
)
MARK = "SYNTHETIC.md"  # in a folder whose text a program wrote
SIZE_BYTES = 3_000_000  # what the defaults of the training are made for
GRAMMARS: dict[str, Callable[[Dice], str]] = {
    "en": synthetic_english.paragraph,
    "es": synthetic_spanish.paragraph,
}


def synthetic_paragraphs(language: str, *, seed: int) -> Iterator[str]:
    """Paragraphs of `en` or `es` without end, each made for its place: the same whatever was taken before."""
    grammar, place = GRAMMARS[language], 0
    while True:
        yield grammar(Dice(f"{seed}/{language}/{place}"))
        place += 1


def write_synthetic(folder: Path, *, size_bytes: int = SIZE_BYTES, seed: int = 0) -> list[Path]:
    """Write en.txt and es.txt, one paragraph a line, `size_bytes` together, and a file that says what they are.

    Returns the two paths, to be read as any other corpus. Raises DiskFull.
    """
    with sealed.replacing(folder / MARK) as write:  # first, so that whatever lies beside it is known to be ours
        write(f"# Synthetic text\n\n{NOTICE[0].upper()}{NOTICE[1:]}.\n")
    paths = []
    for language in GRAMMARS:
        path = folder / f"{language}.txt"
        with sealed.replacing(path) as write:
            for paragraph in _worth(synthetic_paragraphs(language, seed=seed), size_bytes // len(GRAMMARS)):
                write(paragraph + "\n")
        paths.append(path)
    return paths


def is_synthetic(folder: Path) -> bool:
    """Whether `write_synthetic` wrote the text in a folder, or began to."""
    return (folder / MARK).is_file()


def _worth(paragraphs: Iterator[str], size_bytes: int) -> Iterator[str]:
    """Paragraphs until they come to `size_bytes`, line ends included."""
    written = 0
    while written < size_bytes:
        paragraph = next(paragraphs)
        written += len(paragraph.encode()) + 1
        yield paragraph
