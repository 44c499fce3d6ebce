"""The files that the rules look at: what git tracks or would track, read once."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("services/", "control_plane/", "trainer_node/", "proto/")


@dataclass(frozen=True)
class Source:
    """A file of the project. path: relative to the root, with `/`."""

    path: str

    @property
    def text(self) -> str:
        """What it holds."""
        return (ROOT / self.path).read_text(encoding="utf-8")

    @property
    def in_product(self) -> bool:
        """Whether it is installed, rather than a test or a document."""
        return self.path.startswith(PRODUCT)

    def tree(self) -> ast.Module:
        """Its syntax tree; of Python files only."""
        return _parse(self.path)


@cache
def _parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


@cache
def all_files() -> tuple[Source, ...]:
    """Every tracked file and every new one that git does not ignore."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(Source(path) for path in sorted(set(listed)) if path and (ROOT / path).is_file())


def python_files() -> tuple[Source, ...]:
    """The Python files among them."""
    return tuple(source for source in all_files() if source.path.endswith(".py"))


def markdown_files() -> tuple[Source, ...]:
    """The Markdown files among them."""
    return tuple(source for source in all_files() if source.path.endswith(".md"))


def report(problems: list[str]) -> str:
    """The problems, one a line, as an assertion's message."""
    return "\n" + "\n".join(problems)
