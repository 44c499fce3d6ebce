"""The text that a run learns from: found as `tunesmith lm train` finds it, checked, named, and uploaded.

A node gets files by their names alone, so a name carries the language that the path told here: `es/quijote.txt`. What
is wrong with a text is told before anything is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.counting import Counting

if TYPE_CHECKING:
    from trainer_node.engines.tinylm.text_files import TextFile
    from tunesmith.client.client import Client
    from tunesmith.v1.job_spec_pb2 import CorpusFile

MOST_FILES = 1_000  # of a corpus, by the contract
_MOST_FOLDERS = 4  # in a name, as the next
_LONGEST_PART = 80  # of 100 and 96, with room for a number


@dataclass(frozen=True)
class Text:
    """A text file that was found to be one. name: for the node, see CorpusFile; digest: SHA-256."""

    path: Path
    name: str
    language: str
    digest: str
    size_bytes: int


def texts_of(paths: Sequence[Path]) -> list[Text]:
    """Every text file of these files and folders, read once. Raises CorpusInvalid where one is no text, or all empty.

    That a corpus holds enough text, and more than white space here and there, is the training's to say.
    """
    from trainer_node.engines.tinylm import text_files
    from trainer_node.engines.tinylm.errors import CorpusInvalid
    from tunesmith.client.transfer import digest_of

    found = text_files.find(paths)
    if len(found) > MOST_FILES:
        raise CorpusInvalid(
            f"there are {len(found):,} text files, and a run takes {MOST_FILES:,}; join them: cat a.txt b.txt > all.txt"
        )
    checking = Counting("checking", "text")
    filled = False
    for done, file in enumerate(found, 1):
        filled = _holds_text(file) or filled  # every file is looked into
        checking(done, len(found))
    if not filled:
        which = found[0].name if len(found) == 1 else f"each of the {len(found)} files, such as {found[0].name},"
        what = "is empty" if not any(file.path.stat().st_size for file in found) else "holds nothing but white space"
        raise CorpusInvalid(f"{which} {what}; give a file with text, a paragraph a line")
    return [
        Text(file.path, name, file.language, digest_of(file.path), file.path.stat().st_size)
        for file, name in zip(found, names_of(found, paths), strict=True)
    ]


def names_of(files: Iterable[TextFile], paths: Sequence[Path]) -> list[str]:
    """A name for each file as CorpusFile wants it, each once, from which the node reads the same language.

    It is the path below the folder that was given, with `_` for what a name may not hold.
    """
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        *folders, last = _below(file.path, paths)
        number = 1
        while (name := _name(folders, last, file.language, number)).casefold() in taken:
            number += 1
        taken.add(name.casefold())
        names.append(name)
    return names


def corpus_files(texts: Iterable[Text]) -> list[CorpusFile]:
    """The texts as a run's settings name them."""
    from tunesmith.v1 import job_spec_pb2

    return [job_spec_pb2.CorpusFile(name=text.name, digest=text.digest) for text in texts]


def upload(client: Client, texts: Sequence[Text]) -> None:
    """Send those that the control plane does not have; one that was cut goes on where it stopped."""
    from tunesmith.client.transfer import upload_missing

    uploading = Counting("uploading", "text")
    files: Mapping[str, Path] = {text.digest: text.path for text in texts}
    upload_missing(client, files, on_file=lambda _, done, total: uploading(done + 1, total))


def in_words(texts: Sequence[Text]) -> str:
    """`3 text files (en 2, es 1), 1.2 MB`; the language of text whose name tells none is `und`."""
    count = "1 text file" if len(texts) == 1 else f"{len(texts):,} text files"
    languages = ", ".join(
        f"{code} {number}" for code, number in sorted(Counter(text.language for text in texts).items())
    )
    return f"{count} ({languages}), {_size(sum(text.size_bytes for text in texts))}"


def _size(size_bytes: int) -> str:
    for unit, length in (("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= length / 10:
            return f"{size_bytes / length:.1f} {unit}"
    return f"{size_bytes} bytes"


def _holds_text(file: TextFile) -> bool:
    """Whether there is more than white space in it. Raises CorpusInvalid where it is no text."""
    from trainer_node.engines.tinylm import decoding

    found = False
    for chunk in decoding.chunks(file):
        found = found or bool(chunk.strip())
    return found


def _below(path: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    """The path below the folder among `paths` in which it was found; its last part for a file that was given itself."""
    folders = [folder for folder in paths if path != folder and path.is_relative_to(folder)]
    return path.relative_to(folders[0]).parts if folders else (path.name,)


def _name(folders: Sequence[str], last: str, language: str, number: int) -> str:
    """A name that tells the language. number: above 1 where the name before is taken."""
    from trainer_node.engines.tinylm.text_files import language_of

    stem = _safe(last.rpartition(".")[0] or last, "{}.txt")
    stem += f"-{number}" if number > 1 else ""
    inner = [_safe(folder, "{}/text.txt") for folder in folders]
    for way in (inner[-_MOST_FOLDERS:], [language, *inner[1 - _MOST_FOLDERS :]]):
        if language_of(way, f"{stem}.txt") == language:
            return "/".join([*way, f"{stem}.txt"])
    return "/".join([*inner[1 - _MOST_FOLDERS :], language, f"{stem}.txt"])


def _safe(part: str, place: str) -> str:
    """A part of a path in the letters of a name. place: where it stands, `{}.txt` or `{}/text.txt`.

    What told no language must tell none afterwards: `my text` would be Burmese as `my_text`, and is `my_text_`.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", part).lstrip("._-")[:_LONGEST_PART] or "text"
    if place.startswith("{}/") and safe.lower().endswith(".txt"):
        safe = f"{safe[:-4]}_txt"  # a folder may not be called as a file is
    return safe if _told(place.format(safe)) == _told(place.format(part)) else f"{safe}_"


def _told(path: str) -> str:
    from trainer_node.engines.tinylm.text_files import language_of

    *folders, last = path.split("/")
    return language_of(folders, last)
