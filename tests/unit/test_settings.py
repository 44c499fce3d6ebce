"""Settings: file below environment below flags, nothing unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.settings import ConfigError, describe, load, load_control_plane, load_node


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    lease_s: float = 15.0
    tries: int = 5

    def __post_init__(self) -> None:
        if self.lease_s <= 0:
            raise ValueError("dispatch.lease_s must be above 0")


@dataclass(frozen=True, kw_only=True)
class Program:
    listen: str = "127.0.0.1:1"
    insecure: bool = False
    data_dir: Path = Path("data")
    dsn: str | None = None
    kinds: tuple[str, ...] = ()
    dispatch: Dispatch = field(default_factory=Dispatch)


def write(folder: Path, text: str) -> Path:
    file = folder / "tunesmith.toml"
    file.write_text(text)
    return file


def test_flags_stand_above_the_environment_above_the_file(tmp_path):
    file = write(tmp_path, '[program]\nlisten = "file:1"\ninsecure = true\n[dispatch]\nlease_s = 1\ntries = 1')
    environ = {"TUNESMITH_PROGRAM_LISTEN": "environment:1", "TUNESMITH_DISPATCH_LEASE_S": "2", "HOME": "/"}

    program = load(Program, "program", file=file, environ=environ, flags={"dispatch.lease_s": 3, "program.dsn": None})

    assert program == Program(listen="environment:1", insecure=True, dispatch=Dispatch(lease_s=3.0, tries=1))


def test_without_anything_the_defaults_hold():
    assert load(Program, "program") == Program()


def test_every_unknown_key_is_refused_at_once_with_a_suggestion(tmp_path):
    file = write(
        tmp_path,
        'top = 1\n[program]\nlisen = "x"\nlease_s = 4\n[dispatch]\nleese_s = 1\n[dispach]\ntries = 1\n[zzz]\na = 1',
    )

    with pytest.raises(ConfigError) as refused:
        load(Program, "program", file=file, environ={"TUNESMITH_DISPATCH_TRYS": "1", "TUNESMITH_SERVER": "kept"})

    assert sorted(str(refused.value).splitlines()) == [
        "TUNESMITH_DISPATCH_TRYS: did you mean TUNESMITH_DISPATCH_TRIES?",
        "[dispach]: did you mean dispatch?",
        "[dispatch] leese_s: did you mean lease_s?",
        "[program] lease_s: unknown here; write it as [dispatch] lease_s",
        "[program] lisen: did you mean listen?",
        "[zzz]: unknown table; known: dispatch, program",
        "top: unknown key; known: data_dir, dsn, insecure, kinds, lease_s, listen, tries",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[program]\nlisten = 5", "[program] listen: must be a text (given: 5)"),
        ("[program]\ninsecure = 1", "[program] insecure: must be true or false (given: 1)"),
        ('[dispatch]\ntries = "five"', "[dispatch] tries: must be a whole number (given: 'five')"),
        ("[dispatch]\ntries = 1.5", "[dispatch] tries: must be a whole number (given: 1.5)"),
        ("[dispatch]\nlease_s = true", "[dispatch] lease_s: must be a number (given: True)"),
        ("[dispatch]\nlease_s = 0", "dispatch.lease_s must be above 0"),
        ("dispatch = 5", "dispatch: is a table; write [dispatch] and its keys below it"),
        ("[program", "not valid TOML"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_key(tmp_path, text, problem):
    with pytest.raises(ConfigError) as refused:
        load(Program, "program", file=write(tmp_path, text))

    assert problem in str(refused.value)
    assert refused.value.exit_code == 2


def test_texts_of_the_environment_are_read_by_the_settings_type():
    environ = {
        "TUNESMITH_PROGRAM_INSECURE": "yes",
        "TUNESMITH_PROGRAM_DATA_DIR": "~/x",
        "TUNESMITH_PROGRAM_DSN": "",
        "TUNESMITH_PROGRAM_KINDS": "a, b",
    }

    program = load(Program, "program", environ=environ)

    assert program == Program(insecure=True, data_dir=Path.home() / "x", dsn=None, kinds=("a", "b"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load(Program, "program", file=tmp_path / "none.toml")


def test_one_file_serves_both_programs(tmp_path):
    file = write(tmp_path, '[control_plane]\nlisten = "127.0.0.1:1"\n[database]\npool_size = 3\n[node]\nslots = 2')

    assert load_control_plane(file, {}, {}).database.pool_size == 3
    assert load_node(file, {}, {}).slots == 2


def test_a_bad_value_of_a_node_is_told_by_its_key():
    with pytest.raises(ConfigError, match=r"node\.slots: 99"):
        load_node(None, {"TUNESMITH_NODE_SLOTS": "99"}, {})


def test_every_setting_is_described_with_its_variable():
    described = {key: (variable, default) for key, variable, default in describe(Program, "program")}

    assert described["dispatch.lease_s"] == ("TUNESMITH_DISPATCH_LEASE_S", 15.0)
    assert len(described) == 7
