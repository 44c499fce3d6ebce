"""The documentation as a site: drawn without a warning, whole, and with nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs import build_site
from tests.rules.sources import ROOT, markdown_files, report

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


@dataclass
class Drawn(HTMLParser):
    """What a page of the site names. ids: places in it; links: where a reader gets; loaded: what a browser fetches."""

    path: Path
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of one element."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)
            elif (tag, name) in LOADED and value:
                self.loaded.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Drawn]:
    """The pages of the site by their paths; that they are there means that nothing was warned of."""
    folder = build_site.build(tmp_path_factory.mktemp("drawn"))
    return {path: Drawn(path) for path in folder.rglob("*.html")}


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Other pages than ours: an index and nothing else."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("mkdocs.yml", build_site.CSS):
        (docs / name).write_text((build_site.DOCS / name).read_text())
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    monkeypatch.setattr(build_site, "DOCS", docs)
    return docs


def test_every_page_is_in_the_site(site: dict[Path, Drawn]):
    names = {"/".join(path.parts[path.parts.index("site") + 1 :]) for path in site}

    ours = [source.path.removeprefix("docs/") for source in markdown_files() if source.path.startswith("docs/")]

    assert ours
    assert [page for page in ours if page.removesuffix(".md") + ".html" not in names] == []


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: dict[Path, Drawn]):
    problems = []
    for page in site.values():
        for link in page.links if page.path.name != "404.html" else ():
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            target = target / "index.html" if target.is_dir() else target
            anchored = not parts.fragment or (target in site and unquote(parts.fragment) in site[target].ids)
            if not target.is_file() or not anchored:
                problems.append(f"{page.path.name}: {link}")

    assert not problems, report(problems)


def test_a_browser_fetches_nothing_from_elsewhere(site: dict[Path, Drawn]):
    elsewhere = {url for page in site.values() for url in page.loaded if urlsplit(url).netloc}

    assert all(page.loaded for page in site.values())
    assert elsewhere == set()


def test_code_that_a_page_names_can_be_read_in_the_site(site: dict[Path, Drawn]):
    folder = next(path.parent for path in site if path.name == "404.html")

    copied = (folder / "source/trainer_node/engines/tinylm/sample.py.txt").read_text()

    assert copied == (ROOT / "trainer_node/engines/tinylm/sample.py").read_text()


def test_a_link_to_nowhere_fails_the_site(pages: Path, tmp_path: Path):
    (pages / "index.md").write_text("# All\n\nSee [more](more.md).\n")

    with pytest.raises(build_site.CannotBuild, match="page does not exist"):
        build_site.build(tmp_path / "drawn")


def test_an_anchor_that_is_not_there_fails_the_site(pages: Path, tmp_path: Path):
    (pages / "index.md").write_text("# All\n\n## One\n\nSee [two](#two).\n")

    with pytest.raises(build_site.CannotBuild, match="anchor"):
        build_site.build(tmp_path / "drawn")


def test_a_page_without_a_place_in_the_navigation_is_named(pages: Path):
    (pages / "index.md").write_text("# All\n\n## Do\n- [One](one.md)\n")
    for name in ("one", "two"):
        (pages / f"{name}.md").write_text(f"# {name}\n")

    with pytest.raises(build_site.CannotBuild, match=r"link these from docs/index.md, .*: two\.md"):
        build_site.navigation()


def test_the_navigation_follows_the_index_and_the_indexes_of_folders(pages: Path):
    (pages / "folder").mkdir()
    (pages / "index.md").write_text(
        "# All\n\n## Do\n- [B](b.md)\n- [A](a.md)\n\n## Read\n- [F](folder/index.md), [B](b.md)\n"
    )
    (pages / "folder/index.md").write_text("# Folder\n\n[2](two.md) [1](one.md) [A](../a.md)\n")
    for name in ("a", "b", "folder/one", "folder/two"):
        (pages / f"{name}.md").write_text(f"# {name}\n")

    found = build_site.navigation()

    assert found == [
        "index.md",
        {"Do": ["b.md", "a.md"]},
        {"Read": [{"Folder": ["folder/index.md", "folder/two.md", "folder/one.md"]}]},
    ]
