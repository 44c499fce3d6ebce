"""The data set files that users write: what is read, and what is told of everything that is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.dataset_files import folder_with_clips, jsonl, problems
from trainer_node.data.jsonl import DatasetFileInvalid, digest_of, read_dataset_file, read_rated_file, training_samples
from trainer_node.errors import DataInvalid


@pytest.fixture
def folder(tmp_path):
    return folder_with_clips(tmp_path)


def row(**changes: object) -> dict[str, object]:
    """A good row, changed; None takes a key out."""
    record = {"audio": "audio/a.wav", "prompt": "a tone", "rating": 4, "tags": {"mode": "major"}} | changes
    return {key: value for key, value in record.items() if value is not None}


def test_jsonl_rows_are_read_with_their_lines_and_resolved_paths(folder):
    path = jsonl(folder, row(), row(audio="./audio/../audio/b.wav", prompt="ein Ton, größer", rating=2.5, tags=None))

    first, second = read_rated_file(path)

    assert (first.line, first.prompt, first.rating, first.tags) == (1, "a tone", 4.0, {"mode": "major"})
    assert (second.line, second.prompt, second.rating, second.tags) == (2, "ein Ton, größer", 2.5, {})
    assert second.audio_path == folder / "audio" / "b.wav"


def test_space_around_a_prompt_makes_no_other_prompt_of_it(folder):
    said = {"prompt": " a tone", "chosen": "audio/a.wav", "rejected": "audio/b.wav"}
    path = jsonl(folder, row(), row(audio="audio/b.wav", prompt="a tone \t"), said)

    file = read_dataset_file(path)

    assert {each.prompt for each in (*file.rated, *file.comparisons)} == {"a tone"}


def test_a_comparison_is_no_rated_clip(folder):
    path = jsonl(folder, row(), {"prompt": "a tone", "chosen": "audio/a.wav", "rejected": "audio/b.wav"})

    with pytest.raises(
        DatasetFileInvalid, match=r"rated.jsonl:2: a comparison where rated clips are wanted; give audio"
    ):
        read_rated_file(path)


def test_csv_columns_beyond_the_three_are_tags_and_lines_are_those_where_rows_begin(folder):
    path = folder / "rated.csv"
    path.write_text(
        "rating,audio,prompt,mode,by\n"
        '4,audio/a.wav,"a tone,\nover two lines",major,\n'
        "2.5,audio/b.wav,another,,me\n"
    )  # fmt: skip

    first, second = read_rated_file(path)

    assert (first.line, first.prompt, first.tags) == (2, "a tone,\nover two lines", {"mode": "major"})
    assert (second.line, second.rating, second.tags) == (4, 2.5, {"by": "me"})


@pytest.mark.parametrize("name", ["rated.jsonl", "rated.csv"])
def test_a_byte_order_mark_crlf_and_empty_last_lines_do_no_harm(folder, name):
    text = "audio,prompt,rating\r\naudio/a.wav,x,3\r\n" if name.endswith("csv") else json.dumps(row()) + "\r\n"
    (folder / name).write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")

    assert len(read_rated_file(folder / name)) == 1


def test_every_problem_of_every_row_is_told_at_once(folder):
    (folder / "audio" / "cut.wav").write_bytes((folder / "audio" / "a.wav").read_bytes()[:1000])

    told = problems(
        jsonl(
            folder,
            row(rating=9, prompt=""),
            row(),
            row(audio="audio/cut.wav", rating="4"),
            '{"audio": "audio/b.wav", "prompt": ',
            row(audio="audio/none.wav", promt="x", prompt=None),
        )
    )

    assert [problem.split(" ")[:3] for problem in told] == [
        ["rated.jsonl:1:", "rating", "is"],
        ["rated.jsonl:1:", "prompt", "is"],
        ["rated.jsonl:3:", "rating", "is"],
        ["rated.jsonl:3:", "audio", "'cut.wav':"],
        ["rated.jsonl:4:", "not", "valid"],
        ["rated.jsonl:5:", "unknown", "key"],
        ["rated.jsonl:5:", "audio", "'audio/none.wav'"],
        ["rated.jsonl:5:", "prompt", "is"],
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"audio": None}, "audio is missing; give the path of a sound file"),
        ({"audio": 3}, "audio is 3; give the path"),
        ({"audio": "audio/none.wav"}, "does not exist"),
        ({"audio": "audio"}, "does not exist"),
        ({"audio": "a\0.wav"}, "not a usable path"),
        ({"audio": "\ud800.wav"}, "not a usable path"),
        ({"audio": "x" * 5000}, "not a usable path"),
        ({"audio": "../outside.wav"}, "lies outside"),
        ({"audio": "/etc/passwd"}, "lies outside"),
        ({"prompt": None}, "prompt is missing; give a text"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": ["a"]}, "prompt is ['a']"),
        ({"prompt": "x" * 1001}, "prompt must be at most 1000 characters"),
        ({"prompt": "a\0b"}, "prompt holds a NUL character"),
        ({"prompt": "a\ud800"}, "prompt holds half of a surrogate pair"),
        ({"rating": None}, "rating is missing; give a number from 1 to 5"),
        ({"rating": 0.99}, "rating is 0.99"),
        ({"rating": 5.01}, "rating is 5.01"),
        ({"rating": float("nan")}, "rating is nan"),
        ({"rating": 10**400}, "rating is 1000"),
        ({"rating": "5"}, "rating is '5'"),
        ({"rating": True}, "rating is True"),
        ({"tags": ["a"]}, "tags is ['a']"),
        ({"tags": {"year": 1999}}, "tag 'year' is 1999; give a text, in quotes"),
        ({"tags": {"a b": "x"}}, "is no name of a tag"),
        ({"tags": {"a": "x" * 257}}, "must be at most 256 characters"),
        ({"tags": {"a": "\0"}}, "NUL"),
        ({"tags": {str(n): "x" for n in range(33)}}, "32"),
        ({"Rating ": 4}, "did you mean rating?"),
        ({"genre": "punk"}, "anything else goes into tags"),
    ],
)
def test_a_bad_value_is_told_with_what_to_do(folder, changes, says):
    (told,) = problems(jsonl(folder, row(**changes)))

    assert told.startswith("rated.jsonl:1: ")
    assert says in told
    assert len(told) < 6000


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"audio": "a.wav" "prompt": "x"}', "not valid JSON at column 19"),
        ("[1, 2]", "not an object but '[1, 2]'"),
        ("null", "not an object"),
        ('{"rating": 3, "rating": 4}', "'rating' is given twice"),
        ("[" * 100_000, "not usable as JSON"),
        ('{"rating": ' + "9" * 5000 + "}", "not usable as JSON"),
    ],
)
def test_a_line_that_is_no_row_is_told(folder, line, says):
    told = problems(jsonl(folder, row(), line))

    assert len(told) == 1
    assert told[0].startswith("rated.jsonl:2: ")
    assert says in told[0]


def test_an_empty_line_in_the_middle_is_a_lost_row(folder):
    assert problems(jsonl(folder, row(), "", row(prompt="other")))[0].startswith("rated.jsonl:2: the line is empty")


def test_the_same_clip_and_prompt_twice_is_told_with_the_first_line(folder):
    told = problems(jsonl(folder, row(), row(prompt="other"), row(rating=1, audio="audio/../audio/a.wav")))

    assert told == ["rated.jsonl:3: the same clip and prompt as line 1; remove one of them"]


def test_the_same_sound_under_two_names_is_not_rated_twice_for_a_prompt(folder):
    (folder / "audio" / "copy.wav").write_bytes((folder / "audio" / "a.wav").read_bytes())
    copy = row(audio="audio/copy.wav", rating=1)

    told = problems(jsonl(folder, row(rating=5), copy | {"prompt": "other"}, copy))

    assert told == ["rated.jsonl:3: copy.wav is the same sound as a.wav in line 1, of the same prompt; remove one"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\n\n", "empty"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip-compressed; unpack it"),
        (b"PK\x03\x04" + bytes(50), "zip archive"),
        ('{"audio": 1}'.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b'{"prompt": "caf\xe9"}\n', ":1: byte 16 of the line is not UTF-8"),
        (b'{"prompt": "' + b"x" * (1 << 20) + b'"}', ":1: the line is longer than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_text_of_rows_is_told_as_such(folder, data, says):
    (folder / "rated.jsonl").write_bytes(data)

    assert says in problems(folder / "rated.jsonl")[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("audio,prompt\na.wav,x\n", "without rating"),
        ("audio;prompt;rating\n", "save the file with commas"),
        ("audio,prompt,rating,rating\n", "names a column twice"),
        ("audio,prompt,rating,a b\n", "'a b' is no name of a tag"),
        ("audio,prompt,rating,\n", "'' is no name of a tag"),
        ("audio,prompt,rating\n", "has no rows"),
        ("audio,prompt,rating\naudio/a.wav,a, b,3\n", ":2: 4 cells where the header has 3"),
        ("audio,prompt,rating\naudio/a.wav,x\n", ":2: 2 cells where the header has 3"),
        ('audio,prompt,rating\naudio/a.wav,"x" y,3\n', ":2: not valid CSV"),
        ('audio,prompt,rating\naudio/a.wav,"x,3\n', ":2: not valid CSV"),
        ("audio,prompt,rating\naudio/a.wav,x,\n", ":2: rating is empty"),
        ("audio,prompt,rating\naudio/a.wav,x,good\n", ":2: rating is 'good'"),
        ("audio,prompt,rating\naudio/a.wav,x,nan\n", ":2: rating is nan"),
        ("audio,prompt,rating\n\naudio/a.wav,x,3\n", ":2: the line is empty"),
    ],
)
def test_a_bad_csv_is_told_with_what_to_do(folder, text, says):
    (folder / "rated.csv").write_text(text)

    assert says in problems(folder / "rated.csv")[0]


def test_a_file_that_is_missing_or_of_another_kind_is_told(folder):
    (folder / "rated.parquet").write_bytes(b"PAR1")

    assert "no such file" in problems(folder / "none.jsonl")[0]
    assert "no such file" in problems(folder)[0]
    assert "neither .jsonl nor .csv" in problems(folder / "rated.parquet")[0]


def test_a_link_out_of_the_audio_folder_is_not_followed_unless_that_folder_is_named(folder):
    (folder / "audio" / "link.wav").symlink_to(folder.parent / "outside.wav")
    path = jsonl(folder, row(audio="audio/link.wav"))

    assert "lies outside" in problems(path)[0]
    path = jsonl(folder, row(audio="set/audio/link.wav"))
    assert read_rated_file(path, audio_folder=folder.parent)[0].audio_path == folder.parent / "outside.wav"


def test_audio_is_decoded_once_a_file_and_only_where_wanted(folder):
    (folder / "audio" / "b.wav").write_bytes(b"no sound")
    path = jsonl(folder, row(audio="audio/b.wav"), row(audio="audio/b.wav", prompt="other"), row())
    seen: list[tuple[int, int]] = []

    told = problems(path, on_audio=lambda done, of: seen.append((done, of)))

    assert [problem.partition(" ")[0] for problem in told] == ["rated.jsonl:1:", "rated.jsonl:2:"]
    assert seen == [(1, 2), (2, 2)]
    assert len(read_rated_file(path, check_audio=False)) == 3


def test_rows_rated_high_enough_become_training_samples_with_their_digest(folder):
    rows = read_rated_file(jsonl(folder, row(rating=4), row(audio="audio/b.wav", rating=2)))

    (sample,) = training_samples(rows, min_rating=3)

    assert (sample.prompt, sample.rating) == ("a tone", 4.0)
    assert sample.audio_digest == digest_of(sample.audio_path)
    assert len(training_samples(rows)) == 2
    with pytest.raises(DataInvalid, match=r"lower min_rating, the highest is 4"):
        training_samples(rows, min_rating=4.5)


@pytest.mark.parametrize("name", ["rated.jsonl", "rated.csv"])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.dictionaries(st.sampled_from(["audio", "prompt", "rating", "tags"]), st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
        max_leaves=4)).map(lambda record: json.dumps(record).encode()),
    st.lists(st.text(max_size=8), min_size=1, max_size=6).map(
        lambda cells: ("audio,prompt,rating\n" + ",".join(cells)).encode("utf-8", "surrogatepass")),
))  # fmt: skip
def test_no_bytes_whatever_cause_anything_but_told_problems(folder, name, data):
    (folder / name).write_bytes(data)

    problems(folder / name)


def test_a_file_of_noise_ends_in_a_bounded_number_of_problems(folder):
    noise = np.random.default_rng(0).integers(0, 256, 4_000_000, dtype=np.uint8).tobytes()
    (folder / "rated.jsonl").write_bytes(b"x\n" + noise)

    assert len(problems(folder / "rated.jsonl")) <= 10_001
