"""What keys mean to the one who rates."""

from __future__ import annotations

import pytest

from services.cli.rate_by_ear import answer, typed_keys


@pytest.mark.parametrize("key", "12345sq")
def test_the_first_key_that_answers_is_the_answer(key: str):
    keys = iter(["x", "6", "0", " ", "\r", key, "1"])

    found = answer(keys)

    assert found == key
    assert list(keys) == ["1"]  # the next question's


def test_r_plays_the_clip_again_as_often_as_it_is_typed():
    played = []

    found = answer(iter("rr4"), replay=lambda: played.append("again"))

    assert (found, played) == ("4", ["again", "again"])


def test_where_nothing_plays_r_is_a_key_like_others():
    assert answer(iter("r2")) == "2"


def test_the_end_of_the_input_is_the_end_of_the_rating():
    assert answer(iter("xr")) == "q"


@pytest.mark.parametrize("end", [EOFError(), ""], ids=["Ctrl-D", "hung up"])
def test_keys_come_one_by_one_in_lower_case_until_the_input_ends(end: str | EOFError):
    typed = iter(["4", "S", "55", "\x1b[A", end])

    def read() -> str:
        key = next(typed)
        if isinstance(key, EOFError):
            raise key
        return key

    assert list(typed_keys(read)) == ["4", "s", "5", "\x1b"]
