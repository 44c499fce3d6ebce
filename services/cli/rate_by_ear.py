"""Rating by ear: a person hears one clip after the other and types what it is worth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from services.cli.clips import Clip
from services.cli.counting import Counting
from services.cli.player import Player, player_of
from services.cli.rating import Given, Ratings
from services.cli.terminal import escape
from tunesmith.client.client import Client
from tunesmith.client.transfer import download_blob

REPLAY, SKIP, QUIT = "r", "s", "q"
RATINGS = "12345"


@dataclass(frozen=True)
class ByEar:
    """A person at a terminal. name: who; folder: where clips are kept; command: what plays them, none to play nothing.

    A clip is a file named by its digest, so that its name does not tell which model played.
    """

    name: str
    folder: Path
    command: tuple[str, ...] = ()

    def rate(self, clips: Sequence[Clip], ratings: Ratings, *, before: int) -> None:
        """Ask for each clip until the last, q, or the end of the input. What is asked stands on stderr."""
        if not self.command:
            self._write_all(clips, ratings.client)
        keys = typed_keys()
        with player_of(self.command) if self.command else nullcontext() as player:
            for number, clip in enumerate(clips, before + 1):
                path = download_blob(ratings.client, clip.digest, self._path(clip))
                where = "" if player else f" ({path})"
                _say(f"{number}/{before + len(clips)} {escape(clip.prompt)}{where}\n")
                key = _answered(keys, player, path)
                if key == QUIT:
                    return
                if key == SKIP:
                    ratings.skipped += 1
                else:
                    ratings.add((clip, float(key)))

    def words(self, given: Given) -> str:
        """`2 with 5, 1 with 3`."""
        return ", ".join(f"{count} with {rating:g}" for rating, count in sorted(given.items(), reverse=True))

    def _write_all(self, clips: Sequence[Clip], client: Client) -> None:
        """A person may want to carry them to where they can be heard."""
        counting = Counting("writing", "clip")
        for number, clip in enumerate(clips, 1):
            counting(number, len(clips))
            download_blob(client, clip.digest, self._path(clip))

    def _path(self, clip: Clip) -> Path:
        return self.folder.absolute() / f"{clip.digest}.wav"


def _answered(keys: Iterator[str], player: Player | None, path: Path) -> str:
    """Play a clip and ask until there is an answer. Raises NoPlayer for a rating of what could not be heard."""
    if player is None:
        _say("[1-5] rating, [s]kip, [q]uit: ")
        return _told(answer(keys))
    player.play(path)
    _say("[1-5] rating, [r]eplay, [s]kip, [q]uit: ")
    key = _told(answer(keys, replay=lambda: player.play(path)))
    if key in RATINGS:
        player.require_heard()
    player.stop()
    return key


def answer(keys: Iterator[str], *, replay: Callable[[], None] | None = None) -> str:
    """The first key that answers: 1 to 5, s or q; q where there are no more. r plays again; other keys say nothing."""
    for key in keys:
        if key in (*RATINGS, SKIP, QUIT):
            return key
        if key == REPLAY and replay:
            replay()
    return QUIT


def typed_keys(read: Callable[[], str] = click.getchar) -> Iterator[str]:
    """Keys as they are typed, without Enter, in lower case, until the input ends (Ctrl-D). Ctrl-C interrupts.

    Of keys that come at once only the first counts: the others, or the rest of an arrow key, were not meant for the
    next question.
    """
    while True:
        try:
            typed = read()
        except EOFError:
            return
        if not typed:
            return
        yield typed[0].lower()


def _told(key: str) -> str:
    _say(f"{key}\n")
    return key


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)
