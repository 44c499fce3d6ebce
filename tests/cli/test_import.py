"""Importing a file of rated clips, pairs and ranked lists."""

from __future__ import annotations

import json
import os
import wave

import pytest

from tests.cli.plane_state import id_of
from tunesmith.client.transfer import digest_of
from tunesmith.v1 import dataset_pb2

DATASET = id_of("dst", 1)
ROWS = (
    {"audio": "0.wav", "prompt": "a", "rating": 5},
    {"prompt": "a", "chosen": "1.wav", "rejected": "2.wav"},
    {"audio": "1.wav", "prompt": "a", "rating": 2},
    {"prompt": "b", "ranked": ["2.wav", ["0.wav", "1.wav"], "3.wav"]},
)


@pytest.fixture
def clips(tmp_path):
    """Four clips that nobody else has; the digest of each, by its number."""
    digests = []
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        with wave.open(str(path), "wb") as clip:
            clip.setparams((1, 2, 8_000, 0, "NONE", ""))
            clip.writeframes(os.urandom(1_600))
        digests.append(digest_of(path))
    return digests


@pytest.fixture
def file(tmp_path, clips):
    """A file with rows of every kind."""
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_rated_clips_pairs_and_lists_of_one_file_are_added_with_their_audio(cli, fake, file, clips):
    result = cli("dataset", "import", str(file), "--to", "songs")

    pair, ranked = fake.state.comparisons[DATASET]
    assert result.code == 0
    assert "2 rows and 2 comparisons are right, 4 clips, 0.0 MB\n" in result.err
    assert f"dataset_id={DATASET} added=2 duplicates=0 added_comparisons=2 duplicate_comparisons=0\n" in result.out
    assert [sample.rating for sample in fake.state.samples[DATASET]] == [5, 2]
    assert [(clip.audio_digest, clip.rank) for clip in pair.clips] == [(clips[1], 1), (clips[2], 2)]
    assert [clip.rank for clip in ranked.clips] == [1, 2, 2, 3]
    assert set(clips) == set(fake.state.blobs)


def test_a_second_import_adds_nothing(cli, fake, file):
    cli("dataset", "import", str(file), "--to", "songs")
    result = cli("dataset", "import", str(file), "--to", "songs", "-o", "json")

    assert result.json == {
        "dataset_id": DATASET,
        "samples": {"added_count": 0, "duplicate_count": 2},
        "comparisons": {"added_count": 0, "duplicate_count": 2},
    }


def test_the_totals_of_many_batches_are_shown(cli, fake, tmp_path, clips):
    file = tmp_path / "many.jsonl"
    rows = ({"prompt": f"p{number}", "chosen": "1.wav", "rejected": "2.wav"} for number in range(1_001))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    result = cli("dataset", "import", str(file), "--to", "songs")

    sent = [len(one.comparisons) for one in fake.state.requests if isinstance(one, dataset_pb2.AddComparisonsRequest)]
    assert "1001 comparisons are right, 2 clips" in result.err
    assert "added_comparisons=1001 duplicate_comparisons=0" in result.out
    assert sent == [1_000, 1]


def test_a_clip_of_a_comparison_that_the_server_refuses_is_told_by_file_line_and_name(cli, fake, file, clips):
    fake.state.refused[clips[3]] = "the file ends early; export it again"

    result = cli("dataset", "import", str(file), "--to", "songs")

    assert result.code == 2
    assert "error[COMPARISON_INVALID]" in result.err
    assert f"{file}:4: 3.wav: the file ends early; export it again" in result.err


def test_a_rated_clip_that_the_server_refuses_is_told_by_file_and_line(cli, fake, file, clips):
    fake.state.refused[clips[0]] = "the file ends early; export it again"

    result = cli("dataset", "import", str(file), "--to", "songs")

    assert (result.code, fake.state.comparisons.get(DATASET, [])) == (2, [])
    assert "error[SAMPLE_INVALID]" in result.err
    assert f"{file}:1: the file ends early; export it again" in result.err


def test_every_problem_of_every_row_is_told_before_anything_is_sent(cli, fake, file):
    with file.open("a") as rows:
        rows.write('{"prompt": "c", "chosen": "1.wav", "rejected": "1.wav"}\n{"prompt": "c", "ranked": ["1.wav"]}\n')

    result = cli("dataset", "import", str(file), "--to", "songs")

    assert (result.code, fake.state.datasets) == (2, [])
    assert f"{file}:5: " in result.err
    assert f"{file}:6: " in result.err


def test_a_dry_run_sends_nothing(cli, fake, file):
    result = cli("dataset", "import", str(file), "--to", "songs", "--dry-run")

    assert (result.code, fake.state.datasets, fake.state.blobs) == (0, [], {})
    assert "nothing was sent" in result.err
