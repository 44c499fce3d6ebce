"""Rating by ear at a real terminal, with a player that writes down what it is given to play."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from services.cli.clips import clips_of, in_order
from tests.cli.plane import FakePlane
from tests.cli.plane_state import RUN, id_of
from tests.cli.terminal import WAIT_S, Terminal
from tunesmith.v1 import dataset_pb2

DATASET, OTHER_RUN = id_of("dst", 1), id_of("run", 2)
ASKED = "[1-5] rating, [r]eplay, [s]kip, [q]uit: "
RATE = ("dataset", "rate", "songs", "--run", RUN, "--run", OTHER_RUN)


@dataclass
class Speaker:
    """A program `pw-play`, the only one on PATH. heard: the paths that it was given."""

    log: Path

    @property
    def heard(self) -> list[Path]:
        return [Path(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def wait_for(self, count: int) -> list[Path]:
        """What was heard, once that is so many."""
        end = time.monotonic() + WAIT_S
        while len(self.heard) < count:
            assert time.monotonic() < end, f"only {self.heard} was played"
            time.sleep(0.01)
        return self.heard


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH, empty; caches are the test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNESMITH_PLAYER", raising=False)
    return folder


@pytest.fixture
def speaker(folder: Path, tmp_path: Path) -> Speaker:
    log = tmp_path / "heard"
    install(folder / "pw-play", f"printf '%s\\n' \"$*\" >> {log}")
    return Speaker(log)


def install(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def with_clips(fake: FakePlane) -> FakePlane:
    """Two runs, each with a clip for two prompts."""
    for number, run_id in enumerate((RUN, OTHER_RUN)):
        fake.add_run("SUCCEEDED", run_id)
        for place, prompt in enumerate(("slow piano", "fast drums")):
            fake.add_clip(run_id, prompt, f"clip {number} {place}".encode(), prompt_index=place)
    return fake


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Starts commands at terminals; none outlives the test."""
    begun: list[Terminal] = []

    def start(*args: str) -> Terminal:
        begun.append(Terminal(args))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


def ratings(plane: FakePlane) -> list[float]:
    """What is stored, in the order in which it was given."""
    return [one.rating for one in plane.state.samples.get(DATASET, [])]


def sent(plane: FakePlane) -> list[tuple[str, str]]:
    """Prompt and audio of everything that was sent."""
    requests = [one for one in plane.state.requests if isinstance(one, dataset_pb2.AddSamplesRequest)]
    return [(sample.prompt, sample.audio_digest) for one in requests for sample in one.samples]


def test_clips_are_heard_prompt_by_prompt_and_each_rating_is_stored_at_once(terminal, speaker, with_clips):
    order = in_order(clips_of(with_clips.state.previews), seed=0)
    person, asked, stored = terminal(*RATE, "--rater", "ann"), [], []

    for number, key in enumerate("5214", 1):
        asked.append(person.until(ASKED))
        stored.append(ratings(with_clips))
        speaker.wait_for(number)
        person.type(key)
    code, said, out = person.end()

    assert stored == [[], [5], [5, 2], [5, 2, 1]]
    shown = [f"{number}/4 {clip.prompt}\n{ASKED}" for number, clip in enumerate(order, 1)]
    assert asked == [f"created data set songs\n{shown[0]}", f"5\n{shown[1]}", f"2\n{shown[2]}", f"1\n{shown[3]}"]
    assert [path.read_bytes() for path in speaker.heard] == [with_clips.state.blobs[clip.digest] for clip in order]
    samples = with_clips.state.samples[DATASET]
    assert [(one.prompt, one.audio_digest) for one in samples] == [clip.key for clip in order]
    assert [dict(one.tags) for one in samples] == [{"rater": "ann", "run": one.run_id, "seed": "7"} for one in order]
    assert (code, out) == (0, f"dataset_id={DATASET} added=4 duplicates=0\n")
    assert said.splitlines()[1:] == [
        "4 clips rated: 1 with 5, 1 with 4, 1 with 2, 1 with 1",
        "next: tunesmith dataset version create songs --pairs --dry-run",
        "next: tunesmith experiment create NAME --dataset songs",
    ]


def test_nothing_that_is_shown_or_played_tells_which_run_has_made_a_clip(terminal, speaker, with_clips):
    person = terminal(*RATE)

    for number in range(1, 5):
        person.until(ASKED)
        speaker.wait_for(number)
        person.type("3")
    person.end()

    assert "run_" not in person.shown
    assert all(path.is_absolute() and "run_" not in str(path) for path in speaker.heard)


def test_a_clip_is_played_again_and_left_for_another_time(terminal, speaker, with_clips):
    person = terminal(*RATE)
    person.until(ASKED)
    first = speaker.wait_for(1)[0]
    person.type("r")
    speaker.wait_for(2)
    person.until("")
    person.type("s")
    person.until(ASKED)
    speaker.wait_for(3)
    person.type("4")
    person.until(ASKED)
    person.type("q")
    code, said, _ = person.end()

    assert [path == first for path in speaker.heard[:3]] == [True, True, False]
    assert (code, ratings(with_clips)) == (0, [4])
    assert "1 clip rated: 1 with 4; 1 skipped\n3 clips left; type the same command again to go on\n" in said


@pytest.mark.parametrize("key", ["\x03", "\x04", "q"], ids=["Ctrl-C", "Ctrl-D", "q"])
def test_what_was_rated_is_kept_and_the_same_command_goes_on_with_the_rest(terminal, speaker, with_clips, key):
    person = terminal(*RATE)
    for number in (1, 2):
        person.until(ASKED)
        speaker.wait_for(number)
        person.type("5")
    person.until(ASKED)
    person.type(key)
    code, said, _ = person.end()
    kept = ratings(with_clips)
    again = terminal(*RATE)
    begun = again.until(ASKED)
    again.type("1")
    again.until(ASKED)
    again.type("1")
    last, _, _ = again.end()

    assert (code, kept) == (130 if key == "\x03" else 0, [5, 5])
    assert "2 clips rated: 2 with 5\n2 clips left; type the same command again to go on\n" in said
    assert begun.startswith("3/4 ")
    assert (last, ratings(with_clips)) == (0, [5, 5, 1, 1])
    assert sorted(sent(with_clips)) == sorted(clip.key for clip in clips_of(with_clips.state.previews))


def test_another_seed_is_another_order(terminal, speaker, with_clips):
    clips = clips_of(with_clips.state.previews)
    seed = next(seed for seed in range(1, 99) if in_order(clips, seed=seed)[0] != in_order(clips, seed=0)[0])

    for args in ((), ("--seed", str(seed))):
        person = terminal(*RATE, *args)
        person.until(ASKED)
        speaker.wait_for(1 if not args else 2)
        person.type("q")
        person.end()

    played = [path.read_bytes() for path in speaker.heard]
    assert played == [with_clips.state.blobs[in_order(clips, seed=one)[0].digest] for one in (0, seed)]


def test_where_clips_are_written_nothing_is_played_and_it_is_asked_all_the_same(
    terminal, folder, with_clips, tmp_path: Path
):
    clips = {clip.file.digest for clip in with_clips.state.previews}
    person = terminal(*RATE, "--to", str(tmp_path / "clips"))

    first = person.until("[1-5] rating, [s]kip, [q]uit: ")
    written = list((tmp_path / "clips").iterdir())
    person.type("2")
    person.until("[q]uit: ")
    person.type("q")
    code, _, _ = person.end()

    assert {path.read_bytes() for path in written} == {with_clips.state.blobs[digest] for digest in clips}
    assert any(f"({path})\n" in first for path in written)
    assert (code, ratings(with_clips)) == (0, [2])


def test_without_a_player_it_is_said_what_to_do_and_nothing_is_begun(terminal, folder, with_clips):
    code, said, _ = terminal(*RATE).end()

    assert (code, with_clips.state.datasets) == (9, [])
    assert "error[NO_PLAYER]: no program that plays sound was found; install one" in said
    assert "--player" in said and "--to DIR" in said


def test_a_player_that_fails_ends_the_rating_before_anything_unheard_is_rated(terminal, folder, with_clips):
    install(folder / "pw-play", "echo 'Host is down' >&2; exit 1")
    person = terminal(*RATE)

    code, said, _ = person.end()

    assert (code, ratings(with_clips)) == (9, [])
    assert "error[NO_PLAYER]: `pw-play` ended with 1: Host is down; choose another player" in said


def test_a_rating_of_a_clip_whose_player_has_failed_meanwhile_is_not_stored(terminal, folder, with_clips, tmp_path):
    log, end = tmp_path / "heard", tmp_path / "end"
    install(folder / "pw-play", f"PATH=/usr/bin:/bin; echo $$ > {log}; until [ -e {end} ]; do sleep 0.02; done; exit 1")
    person = terminal(*RATE)
    person.until(ASKED)
    [pid] = Speaker(log).wait_for(1)

    end.touch()
    player = psutil.Process(int(str(pid)))
    while player.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    person.type("5")
    code, said, _ = person.end()

    assert (code, ratings(with_clips)) == (9, [])
    assert "`pw-play` ended with 1; choose another player" in said


def test_a_player_of_ones_own_gets_its_words_and_the_path(terminal, folder, with_clips, tmp_path: Path):
    log = tmp_path / "heard"
    install(folder / "mine", f"printf '%s|' \"$@\" >> {log}; echo >> {log}")
    person = terminal(*RATE, "--player", "mine --gain '-1 dB'")

    person.until(ASKED)
    speaker = Speaker(log)
    speaker.wait_for(1)
    person.type("q")
    person.end()

    [line] = log.read_text().splitlines()
    assert line.startswith(f"--gain|-1 dB|{tmp_path / 'cache'}/")


def test_answers_are_json_while_the_terminal_is_asked(terminal, speaker, with_clips):
    person = terminal(*RATE, "-o", "json", "--rater", "ann")
    person.until(ASKED)
    speaker.wait_for(1)
    person.type("4")
    person.until(ASKED)
    person.type("q")
    code, _, out = person.end()

    rated, total = map(json.loads, out.splitlines())
    assert code == 0
    assert (rated["rating"], rated["tags"]["rater"]) == (4, "ann")
    assert total == {"added_count": 1, "duplicate_count": 0}
