"""Data set files with pairs and ranked lists: what is read, and what is told of everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.dataset_files import folder_with_clips, jsonl, problems
from trainer_node.data.jsonl import DatasetFileInvalid, digest_of, read_dataset_file

RATED = {"audio": "audio/a.wav", "prompt": "a tone", "rating": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_with_clips(tmp_path)


def pair(**changes: object) -> dict[str, object]:
    """A good pair, changed; None takes a key out."""
    record = {"prompt": "a tone", "chosen": "audio/a.wav", "rejected": "audio/b.wav"} | changes
    return {key: value for key, value in record.items() if value is not None}


def ranked(*entries: object, **changes: object) -> dict[str, object]:
    return {"prompt": "a tone", "ranked": list(entries)} | changes


def names(clips: tuple[tuple[Path, int], ...]) -> list[tuple[str, int]]:
    return [(path.stem, rank) for path, rank in clips]


def test_rows_of_every_kind_may_stand_in_one_file(folder: Path):
    best_first = ranked("audio/d.wav", ["./audio/b.wav", "audio/../audio/a.wav"], "audio/c.wav", prompt="größer")

    file = read_dataset_file(jsonl(folder, pair(), RATED, best_first))

    assert [(row.line, row.audio_path.stem) for row in file.rated] == [(2, "a")]
    first, second = file.comparisons
    assert (first.line, first.prompt, names(first.clips)) == (1, "a tone", [("a", 1), ("b", 2)])
    assert (second.line, second.prompt) == (3, "größer")
    assert names(second.clips) == [("d", 1), ("b", 2), ("a", 2), ("c", 3)]
    assert file.digests == {path: digest_of(path) for path in sorted((folder / "audio").iterdir())}


def test_a_csv_may_hold_pairs(folder: Path):
    path = folder / "pairs.csv"
    path.write_text('rejected,prompt,chosen\naudio/b.wav,"slow, piano",audio/a.wav\n')

    (row,) = read_dataset_file(path).comparisons

    assert (row.line, row.prompt, names(row.clips)) == (2, "slow, piano", [("a", 1), ("b", 2)])


def test_every_problem_of_every_row_is_told_at_once(folder: Path):
    (folder / "audio" / "cut.wav").write_bytes((folder / "audio" / "a.wav").read_bytes()[:1000])

    told = problems(
        jsonl(
            folder,
            pair(rejected="audio/none.wav", prompt=""),
            RATED | {"rating": 9},
            pair(),
            ranked("audio/a.wav", "audio/cut.wav", "audio/a.wav"),
            pair(chosen="audio/a.wav", rejected="audio/a.wav"),
        )
    )

    assert [problem.split(" ")[:5] for problem in told] == [
        ["rated.jsonl:1:", "prompt", "is", "empty;", "give"],
        ["rated.jsonl:1:", "rejected", "'audio/none.wav'", "does", "not"],
        ["rated.jsonl:2:", "rating", "is", "9;", "give"],
        ["rated.jsonl:4:", "place", "3", "of", "ranked"],
        ["rated.jsonl:4:", "audio", "'cut.wav':", "the", "file"],
        ["rated.jsonl:5:", "rejected", "'audio/a.wav'", "is", "the"],
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (pair(chosen=None), "chosen is missing; give the path of a sound file"),
        (pair(chosen=3), "chosen is 3; give the path"),
        (pair(rejected="../outside.wav"), "rejected '../outside.wav' lies outside"),
        (pair(prompt=None), "prompt is missing; give a text"),
        (pair(prompt="x" * 1001), "prompt must be at most 1000 characters"),
        (pair(rejected=None, rejectet="audio/b.wav"), "unknown key 'rejectet'; did you mean rejected?"),
        (pair(rating=3), "unknown key 'rating'; use prompt, chosen, rejected; a pair has nothing else"),
        (pair(rejected="audio/../audio/a.wav"), "is the same file as chosen 'audio/a.wav'; correct one of the paths"),
        (ranked(), "ranked has no clip, so there is nothing to rank; add the clips"),
        (ranked("audio/a.wav"), "ranked has only 'audio/a.wav', so there is nothing to rank; add the clips"),
        (ranked(["audio/a.wav"]), "ranked has only 'audio/a.wav', so there is nothing to rank"),
        (ranked(ranked="audio/a.wav"), "ranked is 'audio/a.wav'; give the sound files best first, such as ["),
        (ranked("audio/a.wav", {"clip": 1}), "place 2 of ranked is {'clip': 1}; give the path of a sound file"),
        (ranked("audio/a.wav", [], "audio/b.wav"), "place 2 of ranked is an empty list; name the files"),
        (ranked("audio/a.wav", ["audio/b.wav", ["audio/c.wav"]]), "place 2 of ranked is ['audio/c.wav']; give"),
        (ranked("audio/a.wav", "audio/b.wav", "audio/a.wav"), "is the same file as place 1 of ranked 'audio/a.wav'"),
        (ranked(["audio/a.wav", "audio/b.wav"]), "every clip is tied, so nothing is preferred; give at least two"),
        (ranked("audio/a.wav", "audio/b.wav", chosen="audio/c.wav"), "unknown key 'chosen'; use prompt, ranked; a"),
    ],
)  # fmt: skip
def test_a_bad_comparison_is_told_with_what_to_do(folder: Path, row: dict[str, object], says: str):
    told = problems(jsonl(folder, row))

    assert says in "\n".join(told)
    assert len(told) == 1 or row.get("rejectet")


def test_clips_with_the_same_bytes_under_two_names_are_told(folder: Path):
    (folder / "audio" / "copy.wav").write_bytes((folder / "audio" / "a.wav").read_bytes())

    told = problems(
        jsonl(folder, pair(rejected="audio/copy.wav"), ranked("audio/b.wav", ["audio/copy.wav", "audio/a.wav"]))
    )

    assert told == [
        "rated.jsonl:1: chosen 'audio/a.wav' and rejected 'audio/copy.wav' are the same sound; "
        "correct one of the paths",
        "rated.jsonl:2: place 2 of ranked 'audio/copy.wav' and place 2 of ranked 'audio/a.wav' are the same sound; "
        "correct one of the paths",
    ]


def test_a_list_that_is_longer_than_the_contract_allows_is_told(folder: Path):
    for number in range(65):
        (folder / "audio" / f"{number}.wav").write_bytes(b"%d" % number)

    told = problems(jsonl(folder, ranked(*[f"audio/{number}.wav" for number in range(65)])), check_audio=False)

    assert len(told) == 1
    assert "ranked has 65 clips and must contain no more than 64 item(s); make several lists of it" in told[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt,chosen\nx,audio/a.wav\n", "'prompt,chosen' without rejected; begin with prompt,chosen,rejected"),
        ("prompt,chosen,rejected,mood\n", "a pair has no 'mood'; remove the column"),
        ("prompt,ranked\n", "ranked lists do not fit into a CSV; write them as JSONL"),
        ("prompt,chosen,rejected,chosen\n", "names a column twice"),
        ("prompt,chosen,rejected\nx,audio/a.wav,\n", ":2: rejected is empty; give the path"),
        ("prompt,chosen,rejected\nx,audio/a.wav\n", ":2: 2 cells where the header has 3"),
    ],
)
def test_a_bad_csv_of_pairs_is_told_with_what_to_do(folder: Path, text: str, says: str):
    (folder / "pairs.csv").write_text(text)

    assert says in "\n".join(problems(folder / "pairs.csv"))


PATHS = st.sampled_from(["audio/a.wav", "audio/b.wav", "audio/c.wav", "none.wav", ""])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["prompt", "chosen", "rejected", "ranked", "audio"]),
        st.recursive(PATHS | st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
        min_size=1,
    )
)
def test_whatever_a_row_holds_it_is_read_or_told(folder: Path, record: dict[str, object]):
    path = jsonl(folder, json.dumps(record))

    try:
        file = read_dataset_file(path, check_audio=False)
    except DatasetFileInvalid:
        assert problems(path, check_audio=False)
    else:
        (row,) = file.comparisons
        assert len({file.digests[clip] for clip, _ in row.clips}) == len(row.clips) >= 2
        assert [rank for _, rank in row.clips] == sorted(rank for _, rank in row.clips)
        assert row.clips[-1][1] > 1
