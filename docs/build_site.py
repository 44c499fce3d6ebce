"""Draw the documentation as a site: `make site` writes build/site, and any warning fails it.

The pages are written to be read where they lie, on a forge or in an editor. So a copy of them is drawn, in which links
to files outside of docs/ lead to copies of those, as text. The navigation follows from docs/index.md and the indexes of
folders: a page stands where it is linked first. With a folder as argument, everything is written there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = PurePosixPath("source")  # in the site: files of the repository that pages name
CSS = "site.css"
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")

Navigation: TypeAlias = "list[str | dict[str, Navigation]]"


class CannotBuild(Exception):
    """The pages cannot be drawn; the message says what to change."""


def build(folder: Path) -> Path:
    """Draw the pages below `folder`; returns where the site is. Raises CannotBuild."""
    pages, site = folder / "site-source", folder / "site"
    for old in (pages, site):
        shutil.rmtree(old, ignore_errors=True)
    for page in sorted(DOCS.rglob("*.md")):
        _copy(page, pages)
    shutil.copyfile(DOCS / CSS, pages / CSS)
    settings = f"docs_dir: {pages.name}\nsite_dir: {site.name}\n" + yaml.safe_dump({"nav": navigation()})
    config = folder / "mkdocs.yml"
    config.write_text((DOCS / "mkdocs.yml").read_text(encoding="utf-8") + settings, encoding="utf-8")
    drawn = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--config-file", str(config), "--clean", "--strict"],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    if drawn.returncode or "warning" in drawn.stdout.lower():
        raise CannotBuild(drawn.stdout)
    return site


def navigation() -> Navigation:
    """Every page once, in the order of docs/index.md: its sections, and folders that have an index of their own.

    Raises CannotBuild, which names pages that are in none.
    """
    placed = {"index.md"}
    found: Navigation = ["index.md"]
    for section in re.split(r"^## ", _text("index.md"), flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        entries: Navigation = []
        for page in _linked(body, "index.md", placed):
            entries.append({_title(page): _of_folder(page, placed)} if page.endswith("/index.md") else page)
        found.append({title.strip(): entries})
    missing = sorted({page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - placed)
    if missing:
        raise CannotBuild(f"link these from docs/index.md, or from the index of their folder: {', '.join(missing)}")
    return found


def _of_folder(index: str, placed: set[str]) -> Navigation:
    """A folder's index and what it links beside it."""
    beside = str(PurePosixPath(index).parent)
    within = [page for page in _linked(_text(index), index, set(placed)) if str(PurePosixPath(page).parent) == beside]
    placed.update(within)
    return [index, *within]


def _linked(text: str, page: str, placed: set[str]) -> Iterator[str]:
    """The pages that a text on `page` links and that have no place yet, in their order; they have one then."""
    for target, _ in LINK.findall(text):
        path = os.path.normpath(PurePosixPath(page).parent / target)
        if path.endswith(".md") and not path.startswith("..") and path not in placed:
            placed.add(path)
            yield path


def _copy(page: Path, pages: Path) -> None:
    """A page, with what it names outside of docs/ beside it."""
    target = pages / page.relative_to(DOCS)
    target.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        inside ^= line.lstrip().startswith("```")
        if not inside:
            if line.startswith("|") and lines and lines[-1].strip() and not lines[-1].startswith("|"):
                lines.append("")  # forges need no blank line before a table, Python-Markdown does
            line = LINK.sub(lambda link: _inward(link, page, pages), line)
        lines.append(line)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _inward(link: re.Match[str], page: Path, pages: Path) -> str:
    """A link; where it leads out of docs/, to a copy of that file in the site, and to a folder's list of names.

    Pictures and data beside a page go with it.
    """
    there = (page.parent / link[1]).resolve()
    if there.is_relative_to(DOCS):
        if there.is_file() and there.suffix != ".md":
            beside = pages / there.relative_to(DOCS)
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, beside)
        return link[0]
    name = SOURCE / (there.relative_to(ROOT).as_posix() + ".txt")
    copy = pages / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if there.is_dir():
        copy.write_text("".join(f"{each.name}\n" for each in sorted(there.iterdir()) if each.suffix), encoding="utf-8")
    else:
        shutil.copyfile(there, copy)
    back = os.path.relpath(pages / name, (pages / page.relative_to(DOCS)).parent)
    return f"]({PurePosixPath(back)})"


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def _title(page: str) -> str:
    found = re.search(r"^# (.+)$", _text(page), re.MULTILINE)
    return found[1] if found else page


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build").resolve()
    place.mkdir(parents=True, exist_ok=True)
    try:
        print(build(place) / "index.html")
    except CannotBuild as error:
        sys.exit(str(error))
