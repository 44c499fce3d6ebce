"""Playing a sound file with whatever program this machine has for that, in the background, never through a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tunesmith.errors import FieldProblem, InvalidField, TunesmithError

VARIABLE = "TUNESMITH_PLAYER"
PLAYERS = (
    "pw-play",
    "paplay",
    "aplay",
    "afplay",
    "ffplay -nodisp -autoexit -loglevel quiet",
    "play -q",
    "mpv --no-video --really-quiet",
)
_EARLY_S = 0.3  # a player without a device gives up sooner than this
_PATIENCE_S = 1.0  # then a player that is told to end is killed


class NoPlayer(TunesmithError):
    """No program plays clips on this machine."""

    reason = "NO_PLAYER"


def find_player(given: str = "") -> tuple[str, ...]:
    """The command that plays: the given one, else that of TUNESMITH_PLAYER, else the first of PLAYERS on PATH.

    Raises NoPlayer where it is not there, and InvalidField where it cannot be split into words.
    """
    wanted = given or os.environ.get(VARIABLE, "")
    for command in (_words(wanted),) if wanted else map(_words, PLAYERS):
        if shutil.which(command[0]):
            return command
    missing = f"there is no program {_words(wanted)[0]!r}" if wanted else "no program that plays sound was found"
    raise NoPlayer(
        f"{missing}; install one (pipewire-bin, pulseaudio-utils, alsa-utils, ffmpeg, sox or mpv), name one with "
        f"--player or {VARIABLE}, or have the clips written with --to DIR and play them yourself"
    )


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise InvalidField.of([FieldProblem("player", f"{command!r}: {error}; close it")]) from None
    if not words:
        raise InvalidField.of([FieldProblem("player", "the command is empty; name a program, such as aplay")])
    return words


@contextmanager
def player_of(command: tuple[str, ...]) -> Iterator[Player]:
    """A player for as long as it is needed; nothing plays on afterwards."""
    with tempfile.TemporaryFile(buffering=0) as said:
        player = Player(command, said)
        try:
            yield player
        finally:
            player.stop()


@dataclass
class Player:
    """Plays one clip at a time. command: the path is added to it; said: a file for what it complains about.

    It runs in a session of its own: it gets none of the keys, and Ctrl-C is ours.
    """

    command: tuple[str, ...]
    said: BinaryIO
    _child: subprocess.Popen[bytes] | None = None

    def play(self, path: Path) -> None:
        """Play a file from its beginning, instead of what still plays. Raises NoPlayer where that fails at once."""
        self.stop()
        self.said.seek(0)  # its place is the child's as well
        self.said.truncate()
        self._child = subprocess.Popen(
            [*self.command, str(path.absolute())],  # absolute: no name of a file is taken for an option
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            start_new_session=True,
        )
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_EARLY_S)
        self.require_heard()

    def require_heard(self) -> None:
        """Raise NoPlayer where the player has failed: then nobody has heard the clip."""
        code = self._child.poll() if self._child else 0
        if code:
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").split("\n")
            why = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
            raise NoPlayer(
                f"`{shlex.join(self.command)}` ended with {code}{why}; choose another player with --player, "
                "or have the clips written with --to DIR and play them yourself"
            )

    def stop(self) -> None:
        """End what plays."""
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
