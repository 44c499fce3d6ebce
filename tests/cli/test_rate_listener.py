"""Rating by a listener: what it wishes for, how often it errs, and that nothing is rated twice."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import structlog.testing
from numpy.typing import NDArray

from services.cli.clips import clips_of, in_order
from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.cli.plane_settings import Setting
from tests.cli.plane_state import RUN, id_of
from tests.support.control_plane import fresh
from trainer_node.tunes.synth import render
from trainer_node.tunes.world import RATE_HZ, draw
from tunesmith.v1 import dataset_pb2

DATASET, OTHER_RUN = id_of("dst", 1), id_of("run", 2)
RATE = ("dataset", "rate", "songs", "--run", RUN)


def sound(samples: NDArray[np.floating], rate_hz: int = RATE_HZ) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def tune(seed: int, **wanted: str) -> bytes:
    """A WAV file of a tune."""
    return sound(render(draw(np.random.default_rng(seed), wanted)))


@pytest.fixture
def with_clips(fake: FakePlane) -> FakePlane:
    """A run of three major tunes, two minor ones and silence, for two prompts."""
    fake.state.chunk_bytes = 1 << 16
    fake.add_run("SUCCEEDED")
    fake.add_run("SUCCEEDED", OTHER_RUN)
    for seed, mode in enumerate(("major", "minor", "major", "minor", "major")):
        fake.add_clip(RUN, "a tune" if seed < 3 else "a melody", tune(seed, mode=mode), seed=seed)
    fake.add_clip(RUN, "a tune", sound(np.zeros(RATE_HZ)), seed=5)
    return fake


@pytest.fixture
def ratings(with_clips: FakePlane) -> Callable[[], dict[str, float]]:
    """What was stored, by the seed of the clip."""
    return lambda: {one.tags["seed"]: one.rating for one in with_clips.state.samples.get(DATASET, [])}


def sent(with_clips: FakePlane) -> list[int]:
    """How many samples each AddSamples had."""
    return [len(one.samples) for one in with_clips.state.requests if isinstance(one, dataset_pb2.AddSamplesRequest)]


def test_what_is_wished_for_is_rated_5_else_1_and_what_is_unclear_3(cli: Run, with_clips: FakePlane, ratings):
    result = cli(*RATE, "--wish", "mode=major")

    assert result.code == 0
    assert ratings() == {"0": 5, "2": 5, "4": 5, "1": 1, "3": 1, "5": 3}
    assert result.out == f"dataset_id={DATASET} added=6 duplicates=0\n"
    assert result.err.splitlines() == [
        "created data set songs",
        "6 clips rated: 3 liked, 2 disliked, 1 unclear",
        "next: tunesmith dataset version create songs --pairs --dry-run",
        "next: tunesmith experiment create NAME --dataset songs",
    ]


def test_a_sample_has_the_prompt_and_the_audio_of_its_clip_and_says_who_rated_it(cli: Run, with_clips: FakePlane):
    cli(*RATE, "--wish", "mode=major")
    cli("dataset", "rate", "others", "--run", RUN, "--wish", "mode=major", "--rater", "ann")

    for dataset_id, rater in ((DATASET, "listener"), (id_of("dst", 2), "ann")):
        rated = {one.tags["seed"]: one for one in with_clips.state.samples[dataset_id]}
        for clip in with_clips.state.previews:
            sample = rated[str(clip.seed)]
            assert (sample.prompt, sample.audio_digest) == (clip.prompt, clip.file.digest)
            assert sample.tags == {"rater": rater, "run": RUN, "seed": str(clip.seed)}


def test_every_wish_has_to_be_heard(cli: Run, with_clips: FakePlane, ratings):
    with_clips.state.previews.clear()
    for seed, (mode, timbre) in enumerate((("major", "saw"), ("major", "sine"), ("minor", "saw"))):
        with_clips.add_clip(RUN, "a tune", tune(seed, mode=mode, timbre=timbre), seed=seed)

    cli(*RATE, "--wish", "mode=major", "--wish", "timbre=saw")

    assert ratings() == {"0": 5, "1": 1, "2": 1}


def test_a_listener_that_always_errs_rates_the_wrong_way_round_but_what_is_unclear(
    cli: Run, with_clips: FakePlane, ratings
):
    cli(*RATE, "--wish", "mode=major", "--noise", "1")

    assert ratings() == {"0": 1, "2": 1, "4": 1, "1": 5, "3": 5, "5": 3}


def test_the_seed_tells_one_listeners_errors_from_anothers(cli: Run, with_clips: FakePlane):
    def heard(name: str, seed: int) -> list[float]:
        cli("dataset", "rate", name, "--run", RUN, "--wish", "mode=major", "--noise", ".5", "--rater-seed", str(seed))
        return [one.rating for one in with_clips.state.samples[id_of("dst", len(with_clips.state.datasets))]]

    found = [heard(f"songs-{seed}", seed) for seed in range(4)]

    assert len(set(map(tuple, found))) > 1
    assert heard("again", 2) == found[2]


def test_all_channels_are_heard_at_the_rate_of_the_file(cli: Run, with_clips: FakePlane, ratings):
    samples = render(draw(np.random.default_rng(1), {"mode": "minor", "register": "high"}))
    on_the_right = np.stack([np.zeros_like(samples), samples], axis=1)
    with_clips.state.previews.clear()
    with_clips.add_clip(RUN, "a tune", sound(np.repeat(on_the_right, 2, axis=0), 2 * RATE_HZ), seed=1)

    cli(*RATE, "--wish", "mode=minor", "--wish", "register=high")

    assert ratings() == {"1": 5}


def test_what_is_rated_already_is_neither_read_nor_sent_again(cli: Run, with_clips: FakePlane):
    cli(*RATE, "--wish", "mode=major")
    with_clips.state.requests.clear()
    with_clips.add_clip(OTHER_RUN, "a melody", tune(9, mode="minor"), seed=9)

    again = cli(*RATE, "--wish", "mode=major")
    more = cli(*RATE, "--run", OTHER_RUN, "--wish", "mode=major")

    assert (again.code, again.out) == (0, f"dataset_id={DATASET} added=0 duplicates=0\n")
    assert "every clip of these runs is rated already" in again.err
    assert "1 clip rated: 0 liked, 1 disliked, 0 unclear" in more.err
    assert len(with_clips.state.requests) == 2  # one clip read, and its rating sent


def test_of_several_attempts_the_last_one_is_rated(cli: Run, with_clips: FakePlane):
    with_clips.state.previews[1:] = []
    with_clips.add_clip(RUN, "a tune", tune(7, mode="minor"), seed=0, attempt=2)

    cli(*RATE, "--wish", "mode=major")

    assert [one.rating for one in with_clips.state.samples[DATASET]] == [1]


def test_a_batch_that_is_refused_names_its_clip_and_leaves_those_before_it_stored(cli: Run, with_clips: FakePlane):
    with_clips.state.previews.clear()
    for number in range(240):
        with_clips.add_clip(RUN, f"p{number % 7}", sound(np.full(8, number / 1_000)), seed=number)
    bad = in_order(clips_of(with_clips.state.previews), seed=0)[149]
    with_clips.state.refused = {bad.digest: "the file ends early"}

    cut = cli(*RATE, "--wish", "mode=major")
    kept = len(with_clips.state.samples[DATASET])
    with_clips.state.refused = {}
    rest = cli(*RATE, "--wish", "mode=major")

    assert (cut.code, kept, rest.code) == (2, 100, 0)
    assert f"{RUN}, seed {bad.seed}, {bad.prompt!r}: the file ends early" in cut.err
    assert "140 clips rated: 0 liked, 0 disliked, 140 unclear" in rest.err
    assert sent(with_clips) == [100, 100, 100, 40]
    assert len(with_clips.state.samples[DATASET]) == 240


def test_ratings_are_one_json_object_each_and_the_total_comes_last(cli: Run, with_clips: FakePlane):
    result = cli(*RATE, "--wish", "mode=major", "-o", "json")

    *rated, total = result.json_lines
    assert {one["tags"]["seed"]: one["rating"] for one in rated} == {"0": 5, "2": 5, "4": 5, "1": 1, "3": 1, "5": 3}
    assert {one["audio_digest"] for one in rated} == {clip.file.digest for clip in with_clips.state.previews}
    assert total == {"added_count": 6, "duplicate_count": 0}
    assert result.err == ""


def test_a_clip_that_is_no_sound_is_told_by_its_run_and_seed_and_left_out(cli: Run, with_clips: FakePlane):
    with_clips.add_clip(RUN, "a tune", b"no sound at all", seed=77)

    result = cli(*RATE, "--wish", "mode=major")

    assert (result.code, sent(with_clips)) == (0, [6])
    assert f"the clip of 'a tune' with seed 77 of {RUN} is no sound" in result.err
    assert "; 1 skipped" in result.err


def test_a_run_without_clips_is_told_before_a_data_set_is_created(cli: Run, with_clips: FakePlane):
    result = cli(*RATE, "--run", OTHER_RUN, "--wish", "mode=major")

    assert (result.code, with_clips.state.datasets) == (2, [])
    assert f"run: {OTHER_RUN} has no clips; `tunesmith run get {OTHER_RUN}`" in result.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--wish", "mode=dorian"), "mode is one of major, minor"),
        (("--wish", "key=C"), "give one of register, tempo, mode, timbre, pattern"),
        (("--wish", "mode=major", "--noise", "1.5"), "--noise"),
        (("--wish", "mode=major", "--player", "aplay"), "--player is for rating by ear; leave out --wish"),
        (("--wish", "mode=major", "--to", "clips"), "--to is for rating by ear; leave out --wish"),
        (("--noise", "0.1"), "--noise is a listener's; add a --wish, such as --wish mode=major"),
        (("--rater-seed", "1"), "--rater-seed is a listener's; add a --wish, such as --wish mode=major"),
        ((), "needs a terminal, and this is none; have a listener rate with --wish"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked_of_the_server(cli: Run, nobody: str, args, words):
    result = cli("--server", nobody, *RATE, *args)

    assert result.code == 2
    assert words in result.err


def test_off_a_terminal_the_other_way_is_named_too(cli: Run, nobody: str):
    assert " dataset import`" in cli("--server", nobody, *RATE).err


def test_no_torch_is_needed(with_clips: FakePlane, ratings):
    program = (
        "import sys; sys.modules['torch'] = None; from services.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [sys.executable, "-c", program, *RATE, "--wish", "mode=major"], env=paths, capture_output=True, text=True
    )

    assert (done.returncode, len(ratings())) == (0, 6), done.stderr


async def test_both_control_planes_take_the_ratings_and_know_them_again(cli: Run, setting: Setting):
    run_id, name = await setting.run_with_clips("a tune", "a melody", clip=tune(1, mode="major")), fresh("songs")

    async def rate() -> str:
        with structlog.testing.capture_logs():  # those of the real one
            return (
                await asyncio.to_thread(
                    cli, "--server", setting.address, "dataset", "rate", name, "--run", run_id, "--wish", "mode=major"
                )
            ).out

    first, second = await rate(), await rate()

    assert first.endswith(" added=2 duplicates=0\n")
    assert second.endswith(" added=0 duplicates=0\n")
