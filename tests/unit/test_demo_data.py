"""The demo's data set: real sounds, true prompts, and a taste that can be learnt."""

from __future__ import annotations

import hashlib
import time
from collections import Counter

import numpy as np
import pytest

from trainer_node.data.audio import inspect_audio, read_audio
from trainer_node.data.demo import write_demo
from trainer_node.data.demo_synth import TIMBRES, Piece, render
from trainer_node.data.jsonl import read_rated_file


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(folder, rows, seconds it took)."""
    folder = tmp_path_factory.mktemp("demo")
    start = time.process_time()
    path = write_demo(folder)
    return folder, read_rated_file(path), time.process_time() - start


def test_every_timbre_mode_tempo_register_rating_format_rate_and_channel_count_occurs(demo):
    _, rows, _ = demo
    facts = [inspect_audio(row.audio_path) for row in rows]

    assert len(rows) == 24
    for tag, kinds in (("timbre", 6), ("mode", 2), ("tempo", 3), ("register", 3)):
        assert len({row.tags[tag] for row in rows}) == kinds
    assert {row.rating for row in rows} == {1, 2, 3, 4, 5}
    assert {fact.sample_rate_hz for fact in facts} == {16_000, 22_050, 32_000, 44_100, 48_000}
    assert all(2 <= fact.duration_s <= 3.01 for fact in facts)
    by_format = Counter((row.audio_path.suffix, fact.channels) for row, fact in zip(rows, facts, strict=True))
    assert set(by_format) == {(suffix, channels) for suffix in (".wav", ".flac", ".ogg", ".mp3") for channels in (1, 2)}


def test_the_demo_is_written_in_seconds(demo):
    assert demo[2] < 6


def test_prompts_say_what_the_tags_say(demo):
    for row in demo[1]:
        words = row.prompt.replace(",", " ").split()
        assert row.tags["mode"] in words
        assert row.tags["tempo"] in words
        assert row.tags["register"] in words
        assert {"sine": "sine", "plucked": "plucked", "organ": "organ", "bell": "bell", "drums": "drums",
                "square": "square-wave"}[row.tags["timbre"]] in words  # fmt: skip


def test_the_same_seed_gives_the_same_rows_and_samples_and_another_does_not(demo, tmp_path):
    folder, _, _ = demo
    again, other = write_demo(tmp_path / "again", clips=8), write_demo(tmp_path / "other", clips=8, seed=1)

    lossless = [path.name for path in (tmp_path / "again" / "audio").iterdir() if path.suffix in (".wav", ".flac")]

    assert len(lossless) == 4
    for name in lossless:
        first, second = folder / "audio" / name, tmp_path / "again" / "audio" / name
        assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()
    assert (folder / "rated.jsonl").read_text().startswith(again.read_text())
    assert again.read_text() != other.read_text()


def test_clips_are_loud_enough_and_neither_clipped_nor_the_same_left_and_right(demo):
    for row in demo[1]:
        samples_CN = read_audio(row.audio_path, sample_rate_hz=32_000, channels=2, max_s=5)
        assert 0.4 < np.abs(samples_CN).max() < 1.1
        assert np.sqrt((samples_CN**2).mean()) > 0.02
        if inspect_audio(row.audio_path).channels == 2:
            assert not np.allclose(samples_CN[0], samples_CN[1], atol=0.01)


@pytest.mark.parametrize("timbre", sorted(TIMBRES))
def test_a_higher_register_sounds_higher(timbre):
    def centroid_hz(register: str) -> float:
        piece = Piece(timbre, "C", "major", "moderate", register, seed=3)
        sound = render(piece, duration_s=2, rate_hz=32_000, channels=1)[:, 0]
        power = np.abs(np.fft.rfft(sound)) ** 2
        hz = np.fft.rfftfreq(len(sound), 1 / 32_000)
        return float((hz * power)[hz < 4_000].sum() / power[hz < 4_000].sum())

    assert centroid_hz("low") < centroid_hz("mid") < centroid_hz("high")


def test_the_listener_likes_fast_major_plucked_strings_more_than_slow_minor_square_waves(demo):
    def mean(**tags: str) -> float:
        return float(np.mean([row.rating for row in demo[1] if tags.items() <= row.tags.items()]))

    assert mean(timbre="plucked") > mean(timbre="square") + 1.5
    assert mean(mode="major") > mean(mode="minor") + 0.8
    assert mean(tempo="fast") > mean(tempo="slow") + 0.8
