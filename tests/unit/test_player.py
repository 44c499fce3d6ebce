"""Which program plays clips, and how it is called."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli.player import PLAYERS, NoPlayer, find_player, player_of
from tunesmith.errors import InvalidField

Install = Callable[..., Path]
WAIT_S = 60


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts programs into the only folder of PATH beside the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("TUNESMITH_PLAYER", raising=False)

    def install(name: str, script: str = "exit 0") -> Path:
        program = folder / name
        program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        program.chmod(0o755)
        return program

    return install


def wait_for(path: Path) -> str:
    """What a program has written as a whole line."""
    end = time.monotonic() + WAIT_S
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < end, f"nothing was written to {path}"
        time.sleep(0.01)
    return path.read_text()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_first_of_the_known_players_that_is_there_plays(install: Install):
    for known in reversed(PLAYERS):
        install(known.split()[0])

        assert find_player() == tuple(known.split())


def test_a_player_that_is_named_stands_above_the_environment_and_that_above_what_is_found(
    install: Install, monkeypatch: pytest.MonkeyPatch
):
    for name in ("aplay", "mine", "other"):
        install(name)
    monkeypatch.setenv("TUNESMITH_PLAYER", "other --gain '1 dB'")

    assert find_player() == ("other", "--gain", "1 dB")
    assert find_player("mine -q") == ("mine", "-q")


@pytest.mark.parametrize("given", ["", "nothing-of-the-kind --loud"])
def test_where_no_player_is_there_it_is_said_what_to_do(install: Install, given: str):
    with pytest.raises(NoPlayer) as refused:
        find_player(given)

    for words in (given.partition(" ")[0], "alsa-utils", "--player", "TUNESMITH_PLAYER", "--to DIR"):
        assert words in refused.value.message


@pytest.mark.parametrize("given", ["play 'loud", "  "])
def test_a_command_that_has_no_words_is_refused(install: Install, given: str):
    with pytest.raises(InvalidField, match="player"):
        find_player(given)


def test_the_path_is_one_absolute_argument_and_no_shell_reads_it(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = tmp_path / "said"
    program = install("aplay", f"printf '%s|' \"$@\" >> {said}; echo >> {said}")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    clip = Path("--rate=1; touch $HOME `x`.wav")

    with player_of((str(program), "-q")) as player:
        player.play(clip)
        arguments = wait_for(said)

    assert arguments == f"-q|{tmp_path / 'folder' / clip}|\n"


def test_what_plays_ends_with_the_next_clip_and_with_the_player(install: Install, tmp_path: Path):
    said = tmp_path / "said"
    program = install("aplay", f"echo $$ > {said}.new; mv {said}.new {said}; sleep 600 & wait")
    pids = []

    with player_of((str(program),)) as player:
        for _ in range(2):
            said.unlink(missing_ok=True)
            player.play(tmp_path / "clip.wav")
            pids.append(int(wait_for(said)))
            alive = [is_alive(pid) for pid in pids]

    assert alive == [False, True]
    assert not any(map(is_alive, pids))


def test_a_player_that_will_not_end_is_killed(install: Install, tmp_path: Path):
    said = tmp_path / "said"
    program = install("aplay", f"trap '' TERM; echo $$ > {said}; while :; do sleep 0.1; done")

    with player_of((str(program),)) as player:
        player.play(tmp_path / "clip.wav")
        pid = int(wait_for(said))

    assert not is_alive(pid)


def test_a_player_that_fails_is_told_with_its_last_words(install: Install, tmp_path: Path):
    program = install("aplay", "echo looking for cards >&2; echo no soundcards found >&2; exit 1")

    with player_of((str(program), "-D", "a b")) as player, pytest.raises(NoPlayer) as failed:
        player.play(tmp_path / "clip.wav")
        wait_for_failure(player)

    assert f"`{program} -D 'a b'` ended with 1: no soundcards found; " in failed.value.message
    assert "--player" in failed.value.message


def wait_for_failure(player) -> None:
    """On a busy machine a player fails later than at once."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        player.require_heard()
        time.sleep(0.01)
