"""What the options of a command line amount to: where the control plane is, how to write, how long to try."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.cli.output import Output

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

    def client(self) -> Client:
        """A client of the chosen control plane; --timeout runs from now."""
        from tunesmith.client.client import Client

        return Client(self.server, total_timeout_s=self.timeout_s)

    def gap(self, gap: Gap) -> None:
        """One line on stderr for a watch that lost its connection."""
        self.out.note(f"connection to {self.server} lost ({gap.what}); trying again, nothing is missed")
