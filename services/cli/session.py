"""What the options of a command line amount to: where the control plane is, how to write, how long to try."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.cli.output import Output
from services.cli.typed import typed

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.client.watch import Gap

DEFAULT_SERVER = "127.0.0.1:7460"


@dataclass
class Session:
    """The global options, filled while the command line is parsed."""

    server: str = DEFAULT_SERVER
    timeout_s: float | None = None
    debug: bool = False
    out: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        self.out.typed = self.typed

    def typed(self, text: str) -> str:
        """`text` with the commands in it as they have to be typed to reach the chosen control plane."""
        usual = os.environ.get("TUNESMITH_SERVER") or DEFAULT_SERVER
        return typed(text, server="" if self.server == usual else self.server)

    def client(self) -> Client:
        """A client of the chosen control plane; --timeout runs from now."""
        from tunesmith.client.client import Client

        return Client(self.server, total_timeout_s=self.timeout_s)

    def gap(self, gap: Gap) -> None:
        """One line on stderr for a watch that lost its connection."""
        self.out.note(f"connection to {self.server} lost ({gap.what}); trying again, nothing is missed")
