"""The works of the default corpus: about 3 MB, half English, half Spanish, all in the public domain.

Each is pinned by the SHA-256 of one file at one commit of GITenberg, the public git repositories of Project Gutenberg's
texts. A commit never changes, so the sum says which bytes the corpus is made of, and a mirror is trusted with nothing:
what has other bytes is refused. gutenberg.org itself is no mirror: its files are revised in place, and its terms of use
ask programs to stay away.

The longest works are taken up to a size, which keeps the languages level and a training at a few minutes. Beginnings
and ends are told by the words that stand there, behind title pages and tables of contents.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

PUBLIC_DOMAIN = "public domain in the USA (Project Gutenberg's record); author and named translator died before 1947"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Bytes and where to get them. mirrors: addresses tried in turn. sha256, size_bytes, encoding: of the bytes."""

    mirrors: tuple[str, ...]
    sha256: str
    size_bytes: int
    encoding: str
    page: str
    licence: str = PUBLIC_DOMAIN


@dataclass(frozen=True, kw_only=True)
class Work:
    """A work of the default corpus.

    begins: how its first paragraph begins; ends: how the first one does that is left out, or nothing for the last.
    limit_bytes: of the clean text; it ends with the paragraph that reaches them. None: the whole work.
    """

    title: str
    author: str
    language: str
    begins: str
    origin: Origin
    ends: str = ""
    limit_bytes: int | None = None

    @property
    def name(self) -> str:
        """What its files are called, such as `treasure-island.en`: the language is told by it."""
        plain = unicodedata.normalize("NFKD", self.title.lower()).encode("ascii", "ignore").decode().replace("'", "")
        return f"{'-'.join(plain.split())}.{self.language}"


def _gitenberg(
    ebook: int, path: str, *, commit: str, sha256: str, size_bytes: int, encoding: str = "iso-8859-1"
) -> Origin:
    """An e-book at GitHub, in a cache of it, and in an archive that finds bytes by their sum. path: repository/file."""
    repository, file = path.split("/")
    mirrors = (
        f"https://raw.githubusercontent.com/GITenberg/{repository}/{commit}/{file}",
        f"https://cdn.jsdelivr.net/gh/GITenberg/{repository}@{commit}/{file}",
        f"https://archive.softwareheritage.org/api/1/content/sha256:{sha256}/raw/",
    )
    page = f"https://www.gutenberg.org/ebooks/{ebook}"
    return Origin(mirrors=mirrors, sha256=sha256, size_bytes=size_bytes, encoding=encoding, page=page)


WORKS = (
    Work(
        title="Don Quixote",
        author="Miguel de Cervantes, translated by John Ormsby (1885)",
        language="en",
        begins="In a village of La Mancha",
        limit_bytes=640_000,
        origin=_gitenberg(
            996,
            "Don-Quixote_996/996.txt",
            commit="9d5a482d065513226b76275851de05ff41b7e2f4",
            sha256="69ef241e632ef4fba882bde06ad31ecb395d865b11028cc046c4d253f4cf118e",
            size_bytes=2_347_853,
            encoding="us-ascii",
        ),
    ),
    Work(
        title="Pepita Ximenez",
        author="Juan Valera, anonymous translation (1886)",
        language="en",
        begins="LETTERS FROM MY NEPHEW.",
        ends="THE END",
        origin=_gitenberg(
            30236,
            "Pepita-Ximenez_30236/30236-8.txt",
            commit="4f2822c4948a3f97bdde4da38a3d7d1920eff00b",
            sha256="f1d3a5535d58ea873c63ddea146c0307beeccf2d2640fe976e083b313555d201",
            size_bytes=400_806,
        ),
    ),
    Work(
        title="Treasure Island",
        author="Robert Louis Stevenson (1883)",
        language="en",
        begins="SQUIRE TRELAWNEY, Dr. Livesey",
        origin=_gitenberg(
            120,
            "Treasure-Island_120/120-0.txt",
            commit="46f38f7b63dbda34415ce29ef5548023a8ba8dda",
            sha256="0fee2fef1b2ffde22e2c962bd8bc2b75ea1ae9b02b3fe85ef08d44f4cc1bb2de",
            size_bytes=396_596,
            encoding="utf-8",
        ),
    ),
    Work(
        title="Alice's Adventures in Wonderland",
        author="Lewis Carroll (1865)",
        language="en",
        begins="Alice was beginning to get very tired",
        ends="THE END",
        origin=_gitenberg(
            11,
            "Alice-s-Adventures-in-Wonderland_11/11-0.txt",
            commit="7f18748e114b994d5d9454d5793581bc0b9cf9d7",
            sha256="49a0b2726606e1290ac03a63978fa1dd1bd38a8d805704d98265f393533ea094",
            size_bytes=173_595,
            encoding="utf-8",
        ),
    ),
    Work(
        title="Don Quijote",
        author="Miguel de Cervantes (1605)",
        language="es",
        begins="En un lugar de la Mancha",
        limit_bytes=560_000,
        origin=_gitenberg(
            2000,
            "Don-Quijote_2000/2000-8.txt",
            commit="7879f2c1653ec515d125f49b177c3ef7f596bc3f",
            sha256="4973737f16b7e8b8972c08e54a95b7bc43b5d93d6738bc08f9256f9c2c68a2ba",
            size_bytes=2_155_394,
        ),
    ),
    Work(
        title="Pepita Jiménez",
        author="Juan Valera (1874)",
        language="es",
        begins="El señor deán de la catedral",
        origin=_gitenberg(
            17223,
            "Pepita-Jim-nez_17223/17223-8.txt",
            commit="24e4c734869e79349c3caf20d3148be3f1764891",
            sha256="3686f840ef3205266930fe2347caac9f6752260f49d28db944e98f1675d2212e",
            size_bytes=340_570,
        ),
    ),
    Work(
        title="Marianela",
        author="Benito Pérez Galdós (1878)",
        language="es",
        begins="Se puso el sol.",
        ends="FIN DE",
        origin=_gitenberg(
            17340,
            "Marianela_17340/17340-8.txt",
            commit="4e67b60bc38da27e1fcdfbc995ca2dd9863e5d05",
            sha256="7cdd565e4cbaa62e72bf66c4f6108292c804cab966bf32a6cfbe78fc7b6112f8",
            size_bytes=319_858,
        ),
    ),
    Work(
        title="Trafalgar",
        author="Benito Pérez Galdós (1873)",
        language="es",
        begins="Se me permitirá que antes",
        ends="FIN DE",
        origin=_gitenberg(
            16961,
            "Trafalgar_16961/16961-8.txt",
            commit="9016fc6acc4cb38eec421d6ea46dd718a18d9779",
            sha256="b85c6f6cb58dd9ec215f5748067a934f7beba591da23889eaed6b9a2a9a354ee",
            size_bytes=325_644,
        ),
    ),
)
