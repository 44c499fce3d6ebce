"""The examples of deploy/ are what the programs read."""

from __future__ import annotations

import re
from configparser import ConfigParser

import pytest

from services.settings import load_control_plane, load_node
from tests.rules.sources import ROOT

DEPLOY = ROOT / "deploy"


def test_the_example_of_a_control_plane_is_read_without_complaint():
    config = load_control_plane(DEPLOY / "control-plane.toml", {}, {})

    assert config.listen == "127.0.0.1:7460"
    assert config.database.dsn is None


def test_the_example_of_a_node_is_read_without_complaint():
    config = load_node(DEPLOY / "node.toml", {}, {})

    assert config.name == "trainer-1"


@pytest.mark.parametrize("unit", ["tunesmith-control-plane", "tunesmith-node"])
def test_the_units_start_commands_that_exist(unit: str):
    from services.cli.main import cli

    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep upper case
    parser.read(DEPLOY / "systemd" / f"{unit}.service")

    words = re.split(r"\s+--config\s+", parser["Service"]["ExecStart"])[0].split()[1:]
    command = cli
    for word in words:
        command = command.get_command(None, word)  # type: ignore[arg-type,attr-defined]  # groups need no context

    assert any(parameter.name == "config" for parameter in command.params)
