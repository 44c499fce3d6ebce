"""How answers are written: `table` for people, `json` and `jsonl` for programs.

table    a terminal gets aligned columns; anything else gets `key=value` lines, one an entry, values quoted as in JSON
         where they hold blanks or quotes
json     the response message as proto JSON: the contract's field names, every field without presence written out,
         64-bit integers as strings
jsonl    one line an entry of a list, a frame of a watch, or else the response

Stdout carries answers only; notes go to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from services.cli.terminal import escape, is_interactive, wants_color

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console
    from rich.table import Table

    from tunesmith.v1.adapter_pb2 import GetAdapterReportResponse
    from tunesmith.v1.model_pb2 import GetModelReportResponse
    from tunesmith.v1.run_pb2 import GetRunReportResponse

FORMATS = ("table", "json", "jsonl")


class Column(NamedTuple):
    """A column of a list. value: of one entry; wide: only shown where lines are read by programs."""

    name: str
    value: Callable[[Any], object]
    wide: bool = False


@dataclass
class Output:
    """Where and how a command writes.

    typed: what makes commands in a note such as have to be typed. stdout, stderr: kept for a command that diverts those
    of the process.
    """

    format: str = "table"
    color: str = "auto"
    typed: Callable[[str], str] = str
    stdout: TextIO | None = None
    stderr: TextIO | None = None

    @property
    def answers(self) -> TextIO:
        """Where answers go."""
        return self.stdout or sys.stdout

    @property
    def notes(self) -> TextIO:
        """Where notes go."""
        return self.stderr or sys.stderr

    @property
    def for_people(self) -> bool:
        """Whether answers are read by a person on a terminal."""
        return self.format == "table" and is_interactive(self.answers)

    def console(self) -> Console:
        """A rich console on stdout."""
        from rich.console import Console

        color = wants_color(self.answers, self.color)
        return Console(
            file=self.stdout, color_system="auto" if color else None, highlight=False, markup=False, emoji=False
        )

    def note(self, text: str) -> None:
        """Tell a person something that is no answer, on stderr; programs that asked for JSON are not told."""
        if self.format == "table":
            print(escape(self.typed(text), keep="\n"), file=self.notes, flush=True)

    def line(self, text: str) -> None:
        """One line of text, as it is but for control characters."""
        print(escape(text) if is_interactive(self.answers) else text, file=self.answers, flush=True)

    def message(self, message: Message) -> None:
        """A message as one JSON line; for frames of a watch."""
        print(to_json(message, indent=None), file=self.answers, flush=True)

    def response(self, response: Message, shown: Message | None = None) -> None:
        """The answer of a call that is no list. shown: the part of it that people want to see."""
        if self.format != "table":
            print(to_json(response, indent=2 if self.format == "json" else None), flush=True)
            return
        facts = [(key, text_of(value)) for key, value in flatten(shown if shown is not None else response)]
        if self.for_people:
            self._grid(facts)
        else:
            for key, value in facts:
                print(f"{key}={quoted(value)}")

    def document(self, parts: Mapping[str, object]) -> None:
        """The answers of several calls as one JSON document, messages in it as proto JSON."""
        from google.protobuf.message import Message

        plain = {
            key: json.loads(to_json(part, indent=None)) if isinstance(part, Message) else part
            for key, part in parts.items()
        }
        print(json.dumps(plain, indent=2 if self.format == "json" else None), file=self.answers, flush=True)

    def report(self, response: GetRunReportResponse | GetAdapterReportResponse | GetModelReportResponse) -> None:
        """A report: Markdown for people, the response for programs."""
        if self.format == "table":
            print(escape(response.markdown, keep="\n\t").rstrip())
        else:
            self.response(response)

    def entries(self, response: Message, entries: Sequence[Message], columns: Iterable[Column]) -> None:
        """The answer of a list call."""
        if self.format == "json":
            print(to_json(response, indent=2))
        elif self.format == "jsonl":
            for entry in entries:
                print(to_json(entry, indent=None))
        else:
            self.rows(entries, list(columns))

    def rows(self, entries: Sequence[Any], columns: Sequence[Column]) -> None:
        """Anything with columns, for people or as a `key=value` line each; never JSON."""
        if self.for_people:
            self._table(entries, [column for column in columns if not column.wide])
        else:
            for entry in entries:
                self.pairs((column.name, text_of(column.value(entry))) for column in columns)

    def pairs(self, facts: Iterable[tuple[str, object]]) -> None:
        """One `key=value` line."""
        print(" ".join(f"{key}={quoted(text_of(value))}" for key, value in facts), file=self.answers, flush=True)

    def facts(self, facts: Iterable[tuple[str, object]]) -> None:
        """What a command did that is the answer of no call: one `key=value` line, or a JSON object."""
        if self.format == "table":
            self.pairs(facts)
        else:
            self.document({key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in facts})

    def _table(self, entries: Sequence[Any], columns: Sequence[Column]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(entries))
        for column in columns:
            # An id is there to be copied, and half a number misleads; the other columns give way.
            no_wrap = column.name.endswith("_id") or column.name in ("curve", "state", "progress")
            table.add_column(column.name.upper().replace("_", " "), overflow="fold", no_wrap=no_wrap)
        for entry in entries:
            cells = (escape(_text_for_people(column.value(entry))) for column in columns)
            table.add_row(*(Text(cell, style=_style(cell)) for cell in cells))
        console = self.console()
        if not entries:
            console.print(Text("(none)", style="dim"))
        elif _fits(table, console):
            console.print(table)
        else:
            self._cards(entries, columns)

    def _cards(self, entries: Sequence[Any], columns: Sequence[Column]) -> None:
        """One entry below the other, where they are too wide for a table."""
        for number, entry in enumerate(entries):
            if number:
                print(file=self.answers)
            facts = ((column.name, _text_for_people(column.value(entry))) for column in columns)
            self._grid([(key, text) for key, text in facts if text])

    def _grid(self, facts: Sequence[tuple[str, str]]) -> None:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for key, value in facts:
            grid.add_row(
                Text(key, style="dim", overflow="fold"),
                Text(escape(value, keep="\n"), style=_style(value), overflow="fold"),
            )
        self.console().print(grid)


NARROWEST = 5  # a cell that is folded below this is a riddle


def _fits(table: Table, console: Console) -> bool:
    """Whether the terminal is wide enough: no id is cut, and no other column becomes a sliver."""
    gaps = 2 * (len(table.columns) - 1)
    needed = 0
    for column in table.columns:
        widest = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
        needed += widest if column.no_wrap else min(widest, NARROWEST)
    return needed + gaps <= console.width


_STYLES = {
    "SUCCEEDED": "green",
    "ONLINE": "green",
    "RUNNING": "cyan",
    "STARTING": "cyan",
    "STOPPING": "yellow",
    "FAILED": "red",
    "OFFLINE": "red",
    "CANCELLED": "yellow",
}


def _style(cell: str) -> str:
    return _STYLES.get(cell, "")


def to_json(message: Message, *, indent: int | None) -> str:
    """Proto JSON with the contract's field names and every field without presence; ASCII, so safe on a terminal."""
    from google.protobuf import json_format

    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=indent
    )


def quoted(value: str) -> str:
    """`value` as the right side of `key=value`: quoted as in JSON where blanks, quotes or controls are in it."""
    plain = value and escape(value) == value and not any(character in value for character in " \"'=\\")
    return value if plain else json.dumps(value, ensure_ascii=escape(value) != value)


def text_of(value: object) -> str:
    """A value for people: six significant digits, UTC times, lists with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if hasattr(value, "ToDatetime"):
        return f"{value.ToDatetime():%Y-%m-%dT%H:%M:%SZ}" if value.seconds else ""  # type: ignore[attr-defined]  # a Timestamp
    if isinstance(value, (list, tuple)):
        texts = [text_of(item) for item in value]
        return json.dumps(texts, ensure_ascii=False) if any("," in text for text in texts) else ",".join(texts)
    return str(value)


def _text_for_people(value: object) -> str:
    """As `text_of`, but a time as how long ago it was."""
    if not hasattr(value, "ToDatetime"):
        return text_of(value)
    if not value.seconds:  # type: ignore[attr-defined]  # a Timestamp
        return ""
    passed_s = time.time() - value.seconds  # type: ignore[attr-defined]  # as above
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if passed_s >= length_s:
            return f"{passed_s // length_s:.0f} {unit} ago"
    return f"{max(0.0, passed_s):.0f} s ago"


def enum_text(message: Message, field: str) -> str:
    """The value of an enum field without the enum's name in front: RUNNING, not RUN_STATE_RUNNING."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert kind is not None, f"{field} is an enum"
    value = kind.values_by_number.get(getattr(message, field))
    return value.name.removeprefix(enum_prefix(kind)) if value else str(getattr(message, field))


def enum_prefix(kind: Any) -> str:
    """What the names of an enum's values share: RUN_STATE_."""
    return str(kind.values[0].name.removesuffix("UNSPECIFIED"))


def flatten(message: Message, path: str = "") -> Iterator[tuple[str, object]]:
    """Every set field of a message and those below it, as (dotted path, value)."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if field.message_type and field.message_type.GetOptions().map_entry:
            yield from ((f"{here}.{key}", value[key]) for key in sorted(value))
        elif field.is_repeated and field.message_type:
            for index, item in enumerate(value):
                yield from flatten(item, f"{here}[{index}]")
        elif field.message_type and not hasattr(value, "ToDatetime"):
            if field.containing_oneof and not value.ListFields():
                yield here, "all defaults"  # what was chosen, such as a kind of training, with nothing further said
            yield from flatten(value, here)
        elif field.enum_type and not field.is_repeated:
            yield here, enum_text(message, field.name)
        else:
            yield here, list(value) if field.is_repeated else value
