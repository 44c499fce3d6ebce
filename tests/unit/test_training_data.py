"""What a training in the foreground takes of a data set file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.dataset_files import folder_with_clips, jsonl
from trainer_node.data.jsonl import DatasetFile, digest_of, read_dataset_file
from trainer_node.data.training_data import training_data
from trainer_node.errors import DataInvalid
from trainer_node.preflight import require_lists, require_pairs, require_samples
from trainer_node.training import TrainingComparison
from tunesmith.errors import InvalidField


def rated(name: str, rating: float, prompt: str = "a tone") -> dict[str, object]:
    return {"audio": f"audio/{name}.wav", "prompt": prompt, "rating": rating}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_with_clips(tmp_path)


@pytest.fixture
def file(folder: Path) -> DatasetFile:
    """Ratings of four clips, two of them close to each other, and a comparison that contradicts them."""
    ratings = [rated("a", 5), rated("b", 3), rated("c", 2.5), rated("d", 1)]
    said = {"prompt": "a tone", "chosen": "audio/d.wav", "rejected": "audio/a.wav"}
    return read_dataset_file(jsonl(folder, *ratings, said))


def names(comparison: TrainingComparison) -> list[tuple[str, int]]:
    return [(clip.audio_path.stem, clip.rank) for clip in comparison.clips]


def test_dpo_takes_pairs_of_ratings_and_comparisons(file: DatasetFile):
    data = training_data(file, "dpo")

    assert [names(pair) for pair in data.comparisons] == [
        [("d", 1), ("a", 2)],
        [("a", 1), ("c", 2)],
        [("a", 1), ("b", 2)],
        [("b", 1), ("d", 2)],
        [("c", 1), ("d", 2)],
    ]
    assert data.summary() == "5 pairs from 1 prompt, 1 tie skipped"
    assert data.derivation.pairs.max_pairs_per_prompt == 100
    require_pairs(data.comparisons)


def test_ranking_takes_lists_with_the_gap_that_is_asked_for(file: DatasetFile):
    data = training_data(file, "ranking", min_rating_gap=0.5)

    assert [names(ranked) for ranked in data.comparisons] == [
        [("d", 1), ("a", 2)],
        [("a", 1), ("b", 2), ("c", 3)],
    ]
    assert data.derivation.ranked_lists.min_rating_gap == 0.5
    require_lists(data.comparisons)


def test_a_clip_of_a_comparison_is_a_file_with_its_digest(file: DatasetFile):
    clips = [clip for pair in training_data(file, "dpo").comparisons for clip in pair.clips]

    assert all(clip.audio_digest == digest_of(clip.audio_path) for clip in clips)


def test_supervised_takes_the_rated_clips(file: DatasetFile):
    data = training_data(file, "supervised", min_rating=2.5)

    assert [sample.audio_path.stem for sample in data.samples] == ["a", "b", "c"]
    assert (data.comparisons, data.derivation) == ((), None)
    assert data.summary() == "3 rated clips"
    require_samples(data.samples)


@pytest.mark.parametrize(("kind", "what"), [("dpo", "pairs"), ("ranking", "ranked lists")])
def test_data_from_which_nothing_follows_is_refused_with_what_would_help(folder: Path, kind: str, what: str):
    near = read_dataset_file(jsonl(folder, rated("a", 4), rated("b", 3.5), rated("c", 1, "another prompt")))
    alone = read_dataset_file(jsonl(folder, rated("a", 4), rated("c", 1, "another prompt")))

    with pytest.raises(DataInvalid, match=rf"^no {what} follow: 1 tie; lower min_rating_gap from 0\.7 to 0\.5$"):
        training_data(near, kind, min_rating_gap=0.7)
    with pytest.raises(DataInvalid, match=f"^no {what} follow: none of the 2 rated clips shares its prompt"):
        training_data(alone, kind)


def test_what_is_for_another_kind_is_refused(folder: Path, file: DatasetFile):
    only_compared = read_dataset_file(
        jsonl(folder, {"prompt": "p", "chosen": "audio/a.wav", "rejected": "audio/b.wav"})
    )

    with pytest.raises(DataInvalid, match="comparisons only, and supervised takes rated clips; add rows"):
        training_data(only_compared, "supervised")
    with pytest.raises(DataInvalid, match="leave min_rating out"):
        training_data(file, "dpo", min_rating=3)
    with pytest.raises(DataInvalid, match="min_rating_gap is for dpo and ranking"):
        training_data(file, "supervised", min_rating_gap=1)
    with pytest.raises(InvalidField, match=r"pairs\.min_rating_gap"):
        training_data(file, "dpo", min_rating_gap=5)
