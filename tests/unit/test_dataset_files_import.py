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


def compared(folder: Path, *rows: dict[str, object]) -> Path:
    """A file of these rows and a rated one in front."""
    path = rated(folder, ("a.flac", "one"))
    path.write_text(path.read_text() + "".join(json.dumps({"prompt": "two"} | row) + "\n" for row in rows))
    return path


def test_pairs_and_lists_become_comparisons_that_the_contract_accepts(clips):
    write(clips / "c.wav", "wav", tone(duration_s=0.2))
    pair = {"chosen": "b.ogg", "rejected": "a.flac"}

    prepared = prepare_import(compared(clips, pair, {"ranked": ["c.wav", ["a.flac", "b.ogg"]]}))

    digests = {name: hashlib.sha256((clips / name).read_bytes()).hexdigest() for name in ("a.flac", "b.ogg", "c.wav")}
    first, second = [row.comparison() for row in prepared.comparisons]
    assert [spec.check(comparison) for comparison in (first, second)] == [[], []]
    assert (first.prompt, [(clip.audio_digest, clip.rank) for clip in first.clips]) == (
        "two",
        [(digests["b.ogg"], 1), (digests["a.flac"], 2)],
    )
    assert [clip.rank for clip in second.clips] == [1, 2, 2]
    assert len(prepared.rows) == 1
    assert set(prepared.audio_files) == set(digests.values())
    assert prepared.size_bytes == sum((clips / name).stat().st_size for name in digests)


def test_comparisons_keep_their_order_and_bound_and_know_their_line(clips):
    pairs = [{"prompt": f"prompt {n}", "chosen": "a.flac", "rejected": "b.ogg"} for n in range(3)]

    prepared = prepare_import(compared(clips, *pairs))

    batches = list(prepared.comparison_batches(2))
    assert [[row.row.prompt for row in batch] for batch in batches] == [["prompt 0", "prompt 1"], ["prompt 2"]]
    assert str(prepared.problem(batches[1][0], "no")) == f"{clips}/rated.jsonl:4: no"


def test_one_bad_comparison_leaves_nothing_to_send(clips):
    with pytest.raises(
        DatasetFileInvalid, match=r"rated.jsonl:3: chosen 'a.flac' and rejected 'copy.flac' are the same"
    ):
        prepare_import(
            compared(clips, {"chosen": "a.flac", "rejected": "b.ogg"}, {"chosen": "a.flac", "rejected": "copy.flac"})
        )


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
