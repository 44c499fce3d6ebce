"""Log lines: JSON for machines, and no text that a user wrote can forge a line."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from services.logs import configure_logging


@pytest.fixture
def stream():
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield io.StringIO()
    root.handlers, root.level = before
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_level_time_and_bound_facts(stream):
    configure_logging(stream)
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        structlog.get_logger().warning("lease_expired", run_id="run_1", text="two\nlines")

    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields["event"] == "lease_expired" and fields["level"] == "warning" and fields["request_id"] == "req-1"
    assert fields["text"] == "two\nlines" and fields["timestamp"].endswith("Z")


def test_an_exception_is_one_line_too(stream):
    configure_logging(stream)
    structlog.get_logger().error("rpc_crashed", exc_info=ValueError("no"))

    (line,) = stream.getvalue().splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]


def test_libraries_that_log_by_themselves_end_in_the_same_stream(stream):
    configure_logging(stream)
    logging.getLogger("psycopg.pool").warning("a connection was lost: %s", 5)
    logging.getLogger("psycopg.pool").info("nothing new")

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "a connection was lost: 5"


def test_on_a_terminal_control_characters_are_escaped(stream):
    configure_logging(stream, as_json=False)
    structlog.get_logger().info("run_created", name="a\x1b[2Jb\nfake line\r")

    (line,) = stream.getvalue().splitlines()
    assert "\x1b[2J" not in line and "\r" not in line
    assert "x1b[2Jb" in line and "fake line" in line
