"""The code blocks of a page, run from top to bottom as a reader would: in one folder, in one terminal, in one Python.

bash                            runs; every command must exit with 0
console                         each `$ command` runs, and must print what stands below it; where `$ echo $?` comes
                                next, it may exit with another code than 0
python                          runs among the names of the blocks before it
text                            must be what the block before it printed
diagram                         a picture made of characters: nothing runs; at most 100 columns, so that none is folded
yaml, json, jsonl, csv, toml    must be well-formed, and is written to the file that the paragraph above names last

`…` in an output stands for anything within a line, and on a line of its own for any lines. Everything else is a
mistake of the page: another language, a text that follows nothing, a file without a name.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.example import SybilFailure
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from tests.docs.terminal import SERVING, BlockFailed, Terminal

WIDEST = 100  # columns of a diagram
SUFFIXES = {"yaml": ("yaml", "yml"), "json": ("json",), "jsonl": ("jsonl",), "csv": ("csv",), "toml": ("toml",)}


class Reader:
    """Reads a page and does what it says. folder: empty but for what the reader brings along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.terminal = Terminal(folder)
        self.printed: str | None = (
            None  # by the last block; None where nothing has run, or what it printed was compared
        )
        self._python = PythonEvaluator()

    def read(self, page: Path) -> int:
        """Run every block of a page; how many there are. Raises an error that names the page and the line."""
        document = Document.parse(str(page), self._blocks)
        examples = list(document)
        try:
            for example in examples:
                _evaluate(example)
        finally:
            self.terminal.close()
        return len(examples)

    def _blocks(self, document: Document) -> Iterator[Region]:
        """Every fenced block with what to do with it."""
        evaluators: dict[str, Callable[[Example], str | None]] = {
            "bash": self._bash,
            "console": self._console,
            "python": self._run_python,
            "text": self._text,
            "diagram": _diagram,
            **dict.fromkeys(SUFFIXES, self._file),
        }
        for region in FencedCodeBlockLexer(language=r"[^\n]*")(document):
            region.parsed = region.lexemes["source"]
            region.evaluator = evaluators.get(region.lexemes["language"], _unknown)
            yield region

    def _bash(self, example: Example) -> str | None:
        script = str(example.parsed)
        if SERVING.fullmatch(script):
            self.printed = self.terminal.serve(script.strip())
            return None
        code, self.printed = self.terminal.type(f"set -e\n{script}")
        return f"it exits with {code}:\n{self.printed}" if code else None

    def _console(self, example: Example) -> str | None:
        code, problem = 0, None
        for command, expected in _typed(str(example.parsed)):
            if code and command.strip() != "echo $?":
                return f"{problem}\n(where that is right, `$ echo $?` follows)"
            code, printed = self.terminal.type(command, status=code)
            problem = f"`{command}` exits with {code}:\n{printed}"
            if difference := compared(expected, printed):
                return f"`{command}`: {difference}"
        self.printed = None
        return problem if code else None

    def _run_python(self, example: Example) -> None:
        output = io.StringIO()
        with contextlib.chdir(self.terminal.environment["PWD"]), contextlib.redirect_stdout(output):
            self._python(example)
        self.printed = output.getvalue()

    def _text(self, example: Example) -> str | None:
        if self.printed is None:
            return (
                "a text is the output of the block before it, and there is none; use another form for what is no output"
            )
        printed, self.printed = self.printed, None
        return compared(str(example.parsed), printed)

    def _file(self, example: Example) -> str | None:
        language, text = example.region.lexemes["language"], str(example.parsed)
        try:
            _require_well_formed(language, text)
        except (ValueError, yaml.YAMLError) as error:
            return f"it is not well-formed {language}: {error}"
        name = _named_above(example, SUFFIXES[language])
        if not name:
            return f"into which file? name it, in code style and with its ending .{language}, in the paragraph above"
        path = (Path(self.terminal.environment["PWD"]) / name).resolve()
        if not path.is_relative_to(self.folder):
            return f"{name} leads out of the page's folder"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return None


def _diagram(example: Example) -> str | None:
    wide = [line for line in str(example.parsed).splitlines() if len(line) > WIDEST]
    return f"a diagram has at most {WIDEST} columns; this line has {len(wide[0])}: {wide[0]}" if wide else None


def _evaluate(example: Example) -> None:
    try:
        example.evaluate()
    except BlockFailed as error:
        raise SybilFailure(example, str(error)) from None


def compared(expected: str, printed: str) -> str | None:
    """How an output differs from what a page shows; None if it does not."""
    lines = [line.rstrip() for line in expected.strip("\n").splitlines()]
    pattern = "".join(
        "(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines
    )
    actual = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    if re.fullmatch(pattern, actual):
        return None
    return f"expected:\n{expected}\nprinted:\n{printed}"


def _typed(source: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with what it prints below it."""
    before, *parts = re.split(r"^\$ ", source, flags=re.MULTILINE)
    if before.strip() or not parts:
        raise BlockFailed("a console block begins with `$ ` and a command")
    for part in parts:
        lines = part.splitlines(keepends=True)
        count = next((number for number, line in enumerate(lines, 1) if not line.endswith("\\\n")), len(lines))
        yield "".join(lines[:count]).rstrip("\n"), "".join(lines[count:])


def _named_above(example: Example, suffixes: Iterable[str]) -> str:
    """The last file name of a kind in the paragraph that ends above a block."""
    above = example.document.text[: example.start].rstrip("\n").rpartition("\n\n")[2]
    names = re.findall(rf"`([^`\s]+\.(?:{'|'.join(suffixes)}))`", above)
    return names[-1] if names else ""


def _require_well_formed(language: str, text: str) -> None:
    if language == "yaml":
        yaml.safe_load(text)
    elif language == "toml":
        tomllib.loads(text)
    elif language == "json":
        json.loads(text)
    elif language == "jsonl":
        for line in text.splitlines():
            json.loads(line)
    elif language == "csv" and len({len(row) for row in csv.reader(io.StringIO(text))}) != 1:
        raise ValueError("not every row has as many cells as the first")


def _unknown(example: Example) -> str:
    return f"```{example.region.lexemes['language']} cannot be run; the languages are in {__name__}"
