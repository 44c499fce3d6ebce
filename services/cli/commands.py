"""The kinds of commands: groups that load their members when needed, leaves that take the global options.

`tunesmith --help` reads names and first lines from tables and imports no command. The global options may stand before
the command or behind it; the one behind counts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from services.cli.output import FORMATS
from services.cli.session import DEFAULT_SERVER, Session

F = TypeVar("F", bound=Callable[..., Any])


def session_of(ctx: click.Context) -> Session:
    """The session of this command line."""
    return ctx.ensure_object(Session)


def _setter(apply: Callable[[Session, Any], None]) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            apply(session_of(ctx), value)

    return callback


def _set_server(session: Session, value: str) -> None:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise click.BadParameter(f"{value!r} is no address; write host:port, such as {DEFAULT_SERVER}")
    session.server = value


def _set_format(session: Session, value: str) -> None:
    session.out.format = value


def _set_color(session: Session, value: str) -> None:
    session.out.color = value


def _set_timeout(session: Session, value: float) -> None:
    session.timeout_s = value


def _set_debug(session: Session, value: bool) -> None:
    session.debug = session.debug or value


def local_options() -> list[click.Option]:
    """Global options of every command."""
    return [
        click.Option(
            ["-o", "--output-format"],
            type=click.Choice(FORMATS),
            callback=_setter(_set_format),
            expose_value=False,
            help="table (for people), json (the response as proto JSON), jsonl (one line an entry).",
        ),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            callback=_setter(_set_color),
            expose_value=False,
            help="When to colour; NO_COLOR is honoured.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            callback=_setter(_set_debug),
            expose_value=False,
            help="Show the traceback of a bug.",
        ),
    ]


def client_options(*, env: bool = False) -> list[click.Option]:
    """Global options of the commands that talk to a control plane; the environment is read once, at the top."""
    return [
        click.Option(
            ["--server"],
            metavar="HOST:PORT",
            envvar="TUNESMITH_SERVER" if env else None,
            callback=_setter(_set_server),
            expose_value=False,
            is_eager=True,  # completion of names asks this server
            help=f"The control plane; TUNESMITH_SERVER or {DEFAULT_SERVER} where not given.",
        ),
        click.Option(
            ["--timeout"],
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            callback=_setter(_set_timeout),
            expose_value=False,
            help="Give up after this long (exit code 124).",
        ),
        *local_options(),
    ]


class ClientCommand(click.Command):
    """A command that talks to a control plane."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += client_options()


class LocalCommand(click.Command):
    """A command that needs no control plane."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += local_options()


class LazyGroup(click.Group):
    """A group whose members are named in a table: name → (`module:attribute`, first line of help)."""

    command_class = ClientCommand

    def __init__(self, *args: Any, members: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.members = dict(members or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: that in which they are needed."""
        return [*self.members, *(name for name in super().list_commands(ctx) if name not in self.members)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the member."""
        if cmd_name not in self.members:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.members[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a name that is close to one of the table's is suggested."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the members without loading them."""
        rows = []
        for name in self.list_commands(ctx):
            command = None if name in self.members else super().get_command(ctx, name)
            if command is None or not command.hidden:
                rows.append((name, self.members[name][1] if command is None else command.get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
