"""Which files a corpus is made of, in which order, and in which language each is written.

The order depends on names alone, so that the same tree gives the same corpus on every machine. A file that several
names lead to counts once; links may form loops.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer_node.engines.tinylm.errors import CorpusInvalid

SUFFIXES = (".txt", ".text")
UNDETERMINED = "und"  # BCP 47 for a language that nobody told
# ISO 639-1. Only a whole name, or what stands between dots, is taken for one: `no`, `is` and `my` are words as well.
_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv "
    "ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne "
    "ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st "
    "su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
CODES = frozenset(_CODES.split())
_TAG = re.compile(r"([a-z]{2})(?:[-_][a-z]{2,4})?", re.IGNORECASE)


@dataclass(frozen=True)
class TextFile:
    """A file to read. name: what messages call it. language: an ISO 639-1 code, or `und`."""

    path: Path
    name: str
    language: str


def find(paths: Sequence[Path], *, root: Path | None = None) -> list[TextFile]:
    """The files of these files and folders; those of a folder sorted by name. Raises CorpusInvalid.

    root: messages name what lies below it from there on, where its own path means nothing to the reader.
    """
    if not paths:
        raise CorpusInvalid("no corpus was given; give a text file, or a folder of .txt files")
    found: list[TextFile] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError as error:
            raise CorpusInvalid(f"there is no {path}; give a text file, or a folder of .txt files") from error
        except OSError as error:
            raise unreadable(path, error) from error
        if stat.S_ISDIR(mode):
            found += _of_folder(path)
        elif stat.S_ISREG(mode):
            found.append(TextFile(path, _shown(path), language_of([path.resolve().parent.name], path.name)))
        else:
            raise CorpusInvalid(f"{path} is neither a file nor a folder; write the text into a file and give that")
    return [replace(file, name=_from(file.path, root) or file.name) for file in _once(found)]


def language_of(folders: Sequence[str], name: str) -> str:
    """The language that a file's name tells (`en.txt`, `es-MX.txt`, `quijote.es.txt`), else its nearest folder's."""
    stem = name.rpartition(".")[0] or name
    for candidate in (stem, stem.rpartition(".")[2], *reversed(folders)):
        tag = _TAG.fullmatch(candidate)
        if tag and tag[1].lower() in CODES:
            return tag[1].lower()
    return UNDETERMINED


def unreadable(path: Path, error: OSError) -> CorpusInvalid:
    """The error for a file that the system does not let us read."""
    why = (error.strerror or str(error)).lower()
    return CorpusInvalid(f"{path} cannot be read ({why}); check it with ls -l, make it readable, or take it away")


def _shown(path: Path) -> str:
    """The path as text; bytes of it that are no UTF-8 cannot be shown, nor written into a manifest."""
    return os.fsencode(path).decode("utf-8", "replace")


def _from(path: Path, root: Path | None) -> str:
    """The path from the root on; empty where it does not lie below it."""
    return _shown(path.relative_to(root)) if root and path.is_relative_to(root) else ""


def _of_folder(folder: Path) -> list[TextFile]:
    found, others = [], []
    for path in _walk(folder):
        if path.suffix.lower() in SUFFIXES:
            relative = path.relative_to(folder)
            folders = [folder.resolve().name, *relative.parts[:-1]]
            found.append(TextFile(path, _shown(path), language_of(folders, path.name)))
        else:
            others.append(path.name)
    if not found:
        holds = f"it holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}" if others else "it is empty"
        raise CorpusInvalid(
            f"there is no .txt file in {folder} ({holds}); put text files there, or give the file itself"
        )
    return sorted(found, key=lambda file: file.path.relative_to(folder).as_posix())


def _walk(folder: Path) -> Iterator[Path]:
    """Every visible file below `folder`, through links as well, each folder once."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or folder), error) from error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _once(found: Sequence[TextFile]) -> list[TextFile]:
    """Without the second name of a file that was found under a first. Raises CorpusInvalid for what is no file."""
    kept: dict[tuple[int, int], TextFile] = {}
    for file in found:
        try:
            there = file.path.stat()
        except OSError as error:  # a link that leads nowhere, or to itself
            raise unreadable(file.path, error) from error
        if not stat.S_ISREG(there.st_mode):
            raise CorpusInvalid(f"{file.path} is not a regular file; take it out of the folder")
        kept.setdefault((there.st_dev, there.st_ino), file)
    return list(kept.values())
