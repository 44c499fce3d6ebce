"""What an import has in hand before it asks the server anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from services.cli.import_file import prepare_import
from tests.unit.sounds import tone, write
from trainer_node.data.jsonl import DatasetFileInvalid
from tunesmith import spec


def rated(folder: Path, *rows: tuple[str, str]) -> Path:
    """A file of (audio, prompt)."""
    path = folder / "rated.jsonl"
    records = [{"audio": audio, "prompt": prompt, "rating": 4, "tags": {"a": "b"}} for audio, prompt in rows]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def clips(tmp_path):
    write(tmp_path / "a.flac", "flac", tone(duration_s=0.1))
    write(tmp_path / "b.ogg", "ogg", tone(duration_s=0.1))
    (tmp_path / "copy.flac").write_bytes((tmp_path / "a.flac").read_bytes())
    return tmp_path


def test_rows_become_samples_that_the_contract_accepts_with_the_digest_of_their_file(clips):
    prepared = prepare_import(rated(clips, ("a.flac", "one"), ("b.ogg", "two"), ("copy.flac", "three")))

    samples = [row.sample() for row in prepared.rows]
    assert [spec.check(sample) for sample in samples] == [[], [], []]
    assert samples[0].audio_digest == hashlib.sha256((clips / "a.flac").read_bytes()).hexdigest()
    assert (samples[1].prompt, samples[1].rating, dict(samples[1].tags)) == ("two", 4.0, {"a": "b"})


def test_files_with_the_same_bytes_are_uploaded_once(clips):
    prepared = prepare_import(rated(clips, ("a.flac", "one"), ("copy.flac", "two"), ("b.ogg", "one")))

    assert sorted(path.name for path in prepared.audio_files.values()) == ["b.ogg", "copy.flac"]
    assert prepared.size_bytes == (clips / "a.flac").stat().st_size + (clips / "b.ogg").stat().st_size


def test_the_same_sound_and_prompt_under_two_names_is_told(clips):
    with pytest.raises(DatasetFileInvalid, match=r"rated.jsonl:2: the same sound and prompt as line 1, under another"):
        prepare_import(rated(clips, ("a.flac", "one"), ("copy.flac", "one")))


def test_one_bad_row_among_good_ones_leaves_nothing_to_send(clips):
    (clips / "cut.flac").write_bytes((clips / "a.flac").read_bytes()[:500])

    with pytest.raises(DatasetFileInvalid, match=r"rated.jsonl:2: audio 'cut.flac': the file is damaged or ends early"):
        prepare_import(rated(clips, ("a.flac", "one"), ("cut.flac", "two")))


def test_batches_keep_the_order_and_the_bound_and_a_row_knows_its_line(clips):
    prepared = prepare_import(rated(clips, *[("a.flac", f"prompt {n}") for n in range(5)]))

    batches = list(prepared.batches(2))

    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [row.row.prompt for batch in batches for row in batch] == [f"prompt {n}" for n in range(5)]
    assert str(prepared.problem(batches[1][1], "the server says no")) == f"{clips}/rated.jsonl:4: the server says no"
