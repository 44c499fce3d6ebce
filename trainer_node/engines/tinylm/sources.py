"""The default corpus: named works in the public domain, downloaded once, kept, and made into clean text.

    cache/originals/<sha256>.txt           the bytes as they came, and .part of what is still missing
    cache/texts-<recipe>/<work>.txt        one paragraph a line, UTF-8; the language is told by the name
    cache/texts-<recipe>/sources.json      written last: title, author, licence and address of each work

Every work is pinned by SHA-256 (docs/adr/0017), so the same version of Tunesmith makes the same corpus, whichever
mirror answers. Offline with a full cache nothing is fetched; offline without one, the error says what else can be done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer_node.engines.tinylm import downloads, paragraphs, sealed
from trainer_node.engines.tinylm.errors import CorpusInvalid, SourcesUnavailable
from trainer_node.engines.tinylm.paragraphs import Tally
from trainer_node.engines.tinylm.text_files import TextFile
from trainer_node.engines.tinylm.works import WORKS, Work

MANIFEST = "sources.json"
RECIPE = 1  # raise it where the same works give other text


@dataclass(frozen=True)
class Progress:
    """How far the download is. place: of the work among all, from 1."""

    work: Work
    place: int
    works: int
    received_bytes: int


def fetch(
    cache_dir: Path,
    *,
    works: Sequence[Work] = WORKS,
    patience_s: float = 20.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Path]:
    """The texts of the works, for `corpus.prepare`; downloads what the cache lacks.

    patience_s: seconds that a mirror may keep silent. on_progress: called as bytes arrive, and before a mirror is
    asked; what it raises ends the download, and the next call goes on from there.
    Raises SourcesUnavailable, with what each mirror said and what else can be done; DiskFull.
    """
    folder = cache_dir / f"texts-{_recipe(works)}"
    texts = [folder / f"{work.name}.txt" for work in works]
    if sealed.is_whole(folder, MANIFEST):
        return texts
    for place, (work, text) in enumerate(zip(works, texts, strict=True), 1):

        def report(received: int, work: Work = work, place: int = place) -> None:
            if on_progress:
                on_progress(Progress(work, place, len(works), received))

        original = _original(cache_dir, work, patience_s, report)
        with sealed.replacing(text) as write:
            for paragraph in extract(work, original):
                write(paragraph + "\n")
    facts = {"works": [_facts(work) for work in works]}
    sealed.seal(folder, MANIFEST, [text.name for text in texts], facts)
    return texts


def extract(work: Work, original: Path) -> Iterator[str]:
    """The clean paragraphs of a downloaded work, from where it begins to where it ends.

    Raises CorpusInvalid where the work does not begin as it should.
    """
    file = TextFile(original, str(original), work.language)
    return _limited(_from_to(work, paragraphs.read(file, Tally(), encoding=work.origin.encoding)), work.limit_bytes)


def _from_to(work: Work, texts: Iterable[str]) -> Iterator[str]:
    begun = False
    for text in texts:
        begun = begun or text.startswith(work.begins)
        if begun and work.ends and text.startswith(work.ends):
            return
        if begun:
            yield text
    if not begun:
        raise CorpusInvalid(f"{work.title} has no paragraph that begins with {work.begins!r}; report this as a bug")


def _limited(texts: Iterator[str], limit_bytes: int | None) -> Iterator[str]:
    written = 0
    for text in texts:
        yield text
        written += len(text.encode()) + 1
        if limit_bytes is not None and written >= limit_bytes:
            return


def _original(cache_dir: Path, work: Work, patience_s: float, progress: downloads.Progress) -> Path:
    origin = work.origin
    path = cache_dir / "originals" / f"{origin.sha256}.txt"
    wanted = downloads.Wanted(origin.mirrors, origin.sha256, origin.size_bytes)
    try:
        return downloads.download(wanted, path, patience_s=patience_s, progress=progress)
    except downloads.Unavailable as error:
        raise SourcesUnavailable(
            f"{work.title} could not be downloaded ({error}); try again when there is a network (what has arrived is "
            f"kept), give text of your own with --corpus-path, train on the built-in synthetic corpus, or put the file "
            f"with SHA-256 {origin.sha256} at {path} yourself ({work.origin.page})",
            work=work.title,
        ) from error


def _recipe(works: Sequence[Work]) -> str:
    """Names what the texts are made of and how."""
    parts = [[work.name, work.origin.sha256, work.begins, work.ends, work.limit_bytes] for work in works]
    return hashlib.sha256(json.dumps([RECIPE, paragraphs.LONGEST_BYTES, parts]).encode()).hexdigest()[:16]


def _facts(work: Work) -> dict[str, str]:
    return {
        "title": work.title,
        "author": work.author,
        "language": work.language,
        "licence": work.origin.licence,
        "page": work.origin.page,
        "sha256": work.origin.sha256,
    }
