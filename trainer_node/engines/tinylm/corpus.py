"""The corpus: files of people, cleaned, told apart by language, split into what is trained on and what is held out.

    folder/train/<language>.txt, folder/validation/<language>.txt     one paragraph a line, UTF-8
    folder/corpus.json                                                written last; without it the folder does not count
    folder/.fresh                                                     what is prepared, until it is known to be usable

Equal files, names and settings give equal bytes. Neighbouring paragraphs resemble each other, so whole blocks of 16 are
held out, of each language its share: a split by single paragraphs would let validation see the same pages.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trainer_node import preflight
from trainer_node.durable import fsync_folder
from trainer_node.engines.tinylm import paragraphs, sealed, text_files
from trainer_node.engines.tinylm.errors import CorpusInvalid
from trainer_node.engines.tinylm.paragraphs import Tally
from trainer_node.engines.tinylm.text_files import TextFile

MANIFEST = "corpus.json"
_FRESH = ".fresh"
BLOCK = 16  # paragraphs that stay together
LARGEST_FRACTION = 0.5

Part = Literal["train", "validation"]
PARTS: tuple[Part, ...] = ("train", "validation")


@dataclass(frozen=True)
class Language:
    """What a corpus has of one language. code: ISO 639-1, or `und`. paragraphs: of both parts."""

    code: str
    files: int
    paragraphs: int
    validation_paragraphs: int
    size_bytes: int


@dataclass(frozen=True)
class Corpus:
    """A whole corpus on the disk. notes: a sentence for whatever was done to the text that its owner may wonder about.

    digest: of all its bytes; equal digests are equal corpora.
    """

    folder: Path
    languages: tuple[Language, ...]
    notes: tuple[str, ...]
    digest: str

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of both parts."""
        return sum(language.size_bytes for language in self.languages)

    @property
    def validation_paragraphs(self) -> int:
        """Held out, in all languages."""
        return sum(language.validation_paragraphs for language in self.languages)

    @property
    def training_paragraphs(self) -> int:
        """Trained on, in all languages."""
        return sum(language.paragraphs for language in self.languages) - self.validation_paragraphs

    def path(self, part: Part, code: str) -> Path:
        """The file of a part in a language; absent where nothing is held out."""
        return self.folder / part / f"{code}.txt"

    def paragraphs(self, part: Part, code: str | None = None) -> Iterator[str]:
        """The paragraphs of a part in one language, or in all of them one after the other."""
        for language in self.languages:
            path = self.path(part, language.code)
            if code in (None, language.code) and path.is_file():
                with path.open(encoding="utf-8", newline="\n") as lines:
                    yield from (line.removesuffix("\n") for line in lines)


def prepare(
    paths: Sequence[Path], folder: Path, *, seed: int, validation_fraction: float = 0.1, root: Path | None = None
) -> Corpus:
    """Read files and folders into a corpus at `folder`, in place of one that was there, which goes last.

    validation_fraction: 0 (nothing is held out) to 0.5; of each language at least one block is held out.
    root: as `text_files.find` takes it.
    Raises CorpusInvalid, where there is no text, too little to split or none that can be read; DiskFull.
    """
    if not 0 <= validation_fraction <= LARGEST_FRACTION:
        raise ValueError(f"validation_fraction is {validation_fraction}, not between 0 and {LARGEST_FRACTION}")
    files = text_files.find(paths, root=root)
    with sealed.room(folder):
        # every byte is written twice: cleaned, then dealt into its part
        needed = 2 * sum(file.path.stat().st_size for file in files)
        preflight.require_space(folder, needed, purpose="the cleaned texts")
        shutil.rmtree(fresh := folder / _FRESH, ignore_errors=True)
    try:
        languages, tallies = _written(files, fresh, seed=seed, validation_fraction=validation_fraction)
        with sealed.room(folder):
            names = _take_over(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    facts = {
        "languages": [asdict(language) for language in languages],
        "notes": _notes(files, tallies),
        "seed": seed,
        "validation_fraction": validation_fraction,
    }
    sealed.seal(folder, MANIFEST, names, facts)
    return load(folder)


def load(folder: Path) -> Corpus:
    """The corpus that `prepare` wrote there. Raises CorpusInvalid unless it is whole, byte for byte."""
    try:
        facts = sealed.facts_of(folder, MANIFEST)
        languages = tuple(Language(**language) for language in facts["languages"])
        notes = tuple(map(str, facts["notes"]))
    except (sealed.NotSealed, KeyError, TypeError) as error:
        raise CorpusInvalid(f"the prepared corpus in {folder} is not whole ({error}); prepare it again") from error
    return Corpus(folder, languages, notes, _digest(folder, languages))


def held_out(code: str, count: int, *, seed: int, fraction: float) -> set[int]:
    """The numbers of the paragraphs, of `count`, that are held out: whole blocks, chosen by the seed and the language.

    A hash orders the blocks, not a generator of random numbers: the choice is the same in every version of Python.
    """
    blocks = -(-count // BLOCK)
    wanted = min(max(1, round(fraction * blocks)), blocks - 1) if fraction else 0
    order = sorted(range(blocks), key=lambda block: hashlib.sha256(f"{seed}/{code}/{block}".encode()).digest())
    return {place for block in order[:wanted] for place in range(block * BLOCK, min((block + 1) * BLOCK, count))}


def _written(
    files: Sequence[TextFile], fresh: Path, *, seed: int, validation_fraction: float
) -> tuple[list[Language], dict[TextFile, Tally]]:
    """Both parts of every language, below `fresh`. Raises CorpusInvalid, DiskFull."""
    tallies = {file: Tally() for file in files}
    for code in _codes(files):
        _write(fresh / "whole" / f"{code}.txt", _read(code, files, tallies))
    _require_text(files, tallies)
    blocks = {code: sum(tallies[file].paragraphs for file in files if file.language == code) for code in _codes(files)}
    if validation_fraction:
        _require_blocks(files, blocks)
    languages = []
    for code, count in blocks.items():
        if count:
            held = held_out(code, count, seed=seed, fraction=validation_fraction)
            _deal(fresh, code, held)
            languages.append(_language(code, files, tallies, count, held))
    return languages, tallies


def _take_over(fresh: Path, folder: Path) -> list[str]:
    """Put the parts in the place of those before; returns the names of their files."""
    sealed.unseal(folder, MANIFEST)
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
        if (fresh / part).is_dir():
            (fresh / part).rename(folder / part)
    fsync_folder(folder)
    return [f"{part}/{path.name}" for part in PARTS for path in (folder / part).glob("*.txt")]


def _codes(files: Iterable[TextFile]) -> list[str]:
    return sorted({file.language for file in files})


def _read(code: str, files: Sequence[TextFile], tallies: dict[TextFile, Tally]) -> Iterator[str]:
    for file in files:
        if file.language == code:
            yield from paragraphs.read(file, tallies[file])


def _write(path: Path, lines: Iterable[str]) -> None:
    with sealed.replacing(path) as write:
        for line in lines:
            write(line + "\n")


def _deal(folder: Path, code: str, held: set[int]) -> None:
    """Write both parts of a language."""
    parts = {"train": False, "validation": True} if held else {"train": False}
    for part, wanted in parts.items():
        with (folder / "whole" / f"{code}.txt").open(encoding="utf-8", newline="\n") as lines:
            kept = (line.removesuffix("\n") for number, line in enumerate(lines) if (number in held) == wanted)
            _write(folder / part / f"{code}.txt", kept)


def _language(
    code: str, files: Sequence[TextFile], tallies: dict[TextFile, Tally], count: int, held: set[int]
) -> Language:
    mine = [tallies[file] for file in files if file.language == code]
    return Language(
        code=code,
        files=sum(tally.paragraphs > 0 for tally in mine),
        paragraphs=count,
        validation_paragraphs=len(held),
        size_bytes=sum(tally.size_bytes for tally in mine),
    )


def _require_text(files: Sequence[TextFile], tallies: dict[TextFile, Tally]) -> None:
    if any(tally.paragraphs for tally in tallies.values()):
        return
    if len(files) > 1:
        what = f"none of the {len(files)} files holds any text, such as {files[0].name}"
    else:
        size_bytes = files[0].path.stat().st_size
        what = f"{files[0].name} " + (
            f"holds nothing but white space ({size_bytes:,} bytes)" if size_bytes else "is empty"
        )
    raise CorpusInvalid(f"{what}; give a file with text, a paragraph a line")


def _require_blocks(files: Sequence[TextFile], counts: dict[str, int]) -> None:
    for code, count in counts.items():
        if 0 < count < 2 * BLOCK:
            names = [file.name for file in files if file.language == code]
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            told = "text whose name tells no language" if code == text_files.UNDETERMINED else repr(code)
            raise CorpusInvalid(
                f"holding some text out takes {2 * BLOCK} paragraphs of each language, and {told} has {count} "
                f"({shown}); add text, or take the file away",
                paragraphs=count,
            )


def _notes(files: Sequence[TextFile], tallies: dict[TextFile, Tally]) -> list[str]:
    notes = []
    for file, tally in tallies.items():
        if not tally.paragraphs and len(files) > 1:
            notes.append(f"{file.name} holds no text")
        if tally.stripped:
            notes.append(f"{file.name}: header and footer of Project Gutenberg left out")
        if tally.wrapped:
            notes.append(f"{file.name}: wrapped lines joined into {_counted(tally.paragraphs)}")
        if tally.paragraphs_cut:
            longest = f"{paragraphs.LONGEST_BYTES:,} bytes"
            notes.append(f"{file.name}: {_counted(tally.paragraphs_cut)} above {longest} cut at sentence ends")
    return notes


def _counted(paragraphs: int) -> str:
    return "1 paragraph" if paragraphs == 1 else f"{paragraphs:,} paragraphs"


def _digest(folder: Path, languages: Sequence[Language]) -> str:
    whole = hashlib.sha256()
    for language in languages:
        for part in PARTS:
            path = folder / part / f"{language.code}.txt"
            if path.is_file():
                whole.update(f"{part}/{language.code}:{sealed.sha256_of(path)}\n".encode())
    return whole.hexdigest()


def source_facts(paths: Sequence[Path], *, root: Path | None = None) -> list[dict[str, Any]]:
    """Language and SHA-256 of every file, for whoever asks whether a corpus must be prepared again.

    Not the names: the same text under another path is the same text. Raises CorpusInvalid where a file cannot be read.
    """
    facts = []
    for file in text_files.find(paths, root=root):
        try:
            facts.append({"language": file.language, "sha256": sealed.sha256_of(file.path)})
        except OSError as error:
            raise text_files.unreadable(file.path, error) from error
    return facts
