"""What a store works with: a connection whose rows are mappings, and the two JSON shapes of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from tunesmith.v1 import blob_pb2

Row = dict[str, Any]
Connection = AsyncConnection[Row]

M = TypeVar("M", bound=Message)


async def fetch_one(conn: Connection, sql: LiteralString, **values: object) -> Row | None:
    """The only row of a statement, or None. sql: a literal of the store, `values` its named parameters."""
    cursor = await conn.execute(sql, values)
    return await cursor.fetchone()


async def fetch_all(conn: Connection, sql: LiteralString, **values: object) -> list[Row]:
    """Every row of a statement."""
    cursor = await conn.execute(sql, values)
    return await cursor.fetchall()


async def execute(conn: Connection, sql: LiteralString, **values: object) -> int:
    """Run a statement without an answer; the number of rows that it touched."""
    return (await conn.execute(sql, values)).rowcount


def json_column(value: object) -> Jsonb:
    """A mapping or a list, as the value of a jsonb column."""
    return Jsonb(value)


def message_column(message: Message | None) -> Jsonb | None:
    """A message as proto JSON with the contract's field names; None stays null."""
    return None if message is None else Jsonb(_plain(message))


def read_message(kind: type[M], value: Any) -> M | None:
    """The message that a jsonb column holds; null is None.

    Fields that this program does not know are dropped: a newer one may have written them in a rolling update.
    """
    return None if value is None else json_format.ParseDict(value, kind(), ignore_unknown_fields=True)


def messages_column(messages: Iterable[Message]) -> Jsonb:
    """A list of messages as a jsonb column."""
    return Jsonb([_plain(message) for message in messages])


def read_messages(kind: type[M], value: Any) -> tuple[M, ...]:
    """The messages that a jsonb column holds, read like one."""
    return tuple(json_format.ParseDict(item, kind(), ignore_unknown_fields=True) for item in value)


def files_column(files: Sequence[blob_pb2.File]) -> Jsonb:
    """A list of files as a jsonb column."""
    return messages_column(files)


def read_files(value: Any) -> tuple[blob_pb2.File, ...]:
    """The files that a jsonb column holds."""
    return read_messages(blob_pb2.File, value)


def storable(text: str) -> str:
    """`text` as Postgres can hold it, without NUL and halves of surrogate pairs: a node's words must not keep its run
    from ending."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(message: Message) -> Any:
    return _cleaned(json_format.MessageToDict(message, preserving_proto_field_name=True))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
