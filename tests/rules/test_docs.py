"""Documents: links and anchors resolve, code blocks say what they are, generated pages are fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.rules.sources import ROOT, Source, markdown_files, report

RUN = {"bash", "console", "python"}
LANGUAGES = RUN | {"text", "diagram", "yaml", "toml", "json", "jsonl", "csv", "proto", "sql", "ini"}
PAGE_LINES = 300
GENERATED = tuple(f"docs/reference/{name}.md" for name in ("settings", "errors", "api", "cli", "configuration"))


def prose(source: Source) -> Iterator[tuple[int, str]]:
    """The lines of a page outside of code blocks."""
    inside = False
    for number, line in enumerate(source.text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def anchors(source: Source) -> set[str]:
    """The anchors that a page's headings get, as forges make them."""
    found: dict[str, int] = {}
    for _, line in prose(source):
        if heading := re.match(r"#{1,6} (.+)", line):
            slug = re.sub(r"[^\w\- ]", "", heading.group(1).lower()).strip().replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
            if found[slug]:
                found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def test_every_link_leads_somewhere():
    pages = {source.path: source for source in markdown_files()}
    problems = []
    for source in pages.values():
        for number, line in prose(source):
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                if not target.startswith(("http://", "https://", "mailto:")) and not resolves(source, target, pages):
                    problems.append(f"{source.path}:{number} {target}")

    assert not problems, report(problems)


def resolves(source: Source, target: str, pages: dict[str, Source]) -> bool:
    """Whether a relative link names a file of the project and, where it has one, a heading of it."""
    path, _, anchor = target.partition("#")
    file = (ROOT / source.path).parent.joinpath(path).resolve() if path else ROOT / source.path
    if not file.exists():
        return False
    page = pages.get(str(file.relative_to(ROOT)))
    return not anchor or (page is not None and anchor in anchors(page))


def test_every_code_block_says_what_it_is():
    problems = []
    for source in markdown_files():
        inside = False
        for number, line in enumerate(source.text.splitlines(), 1):
            if not line.lstrip().startswith("```"):
                continue
            language = line.strip().removeprefix("```")
            if not inside and language not in LANGUAGES:
                problems.append(f"{source.path}:{number} ```{language}")
            inside = not inside
        if inside:
            problems.append(f"{source.path}: a code block is not closed")

    assert not problems, report(problems)


def test_every_page_can_be_reached_from_the_index():
    pages = {source.path: source for source in markdown_files() if source.path.startswith("docs/")}
    reached, waiting = set(), ["docs/index.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path not in pages:
            continue
        reached.add(path)
        for target in re.findall(r"\]\(([^)\s#]+)", pages[path].text):
            file = (ROOT / path).parent.joinpath(target).resolve()
            waiting.append(str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else "")

    assert sorted(set(pages) - reached) == []


def test_every_flag_that_a_page_names_is_one_of_the_command_line():
    """Those of `tunesmith …` commands, and those that stand alone in code style; cli.md holds all that there are."""
    flag = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    known = set(flag.findall((ROOT / "docs/reference/cli.md").read_text()))
    named = re.compile(r"`(--[^`]+)`|(?:^|[`$] ?)(tunesmith (?:[^`\n]|\\\n)+)", re.MULTILINE)
    problems = [
        f"{source.path}: {name}"
        for source in markdown_files()
        for match in named.finditer(source.text)
        for name in flag.findall(match[0])
        if name not in known
    ]

    assert len(known) > 50
    assert not problems, report(problems)


def test_no_page_is_too_long():
    long = [
        f"{source.path}: {source.text.count(chr(10))} lines"
        for source in markdown_files()
        if source.text.count("\n") > PAGE_LINES and source.path not in (*GENERATED, "docs/how-to/use-grpcurl.md")
    ]

    assert not long, report(long)


def test_generated_pages_are_fresh(tmp_path: Path):
    """`make docs` writes them; what is tracked must be what it writes."""
    subprocess.run([sys.executable, str(ROOT / "docs/generate.py"), str(tmp_path)], check=True, cwd=ROOT)

    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    stale = [name for name, text in written.items() if (ROOT / "docs/reference" / name).read_text() != text]

    assert written
    assert not stale, f"run `make docs`: {', '.join(stale)}"
