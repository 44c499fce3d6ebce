"""What is measured of an adapter: numbers that can be checked by hand, and intervals that hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer_node.tunes.evaluation import Answer, of_scores, of_wish, paired, ratio, wilson
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.synth import render
from trainer_node.tunes.wish import Question, open_questions, opposite_questions
from trainer_node.tunes.world import draw
from tunesmith.errors import InvalidField
from tunesmith.v1.adapter_pb2 import Estimate, Measure

WISH = {"mode": "major"}
OPEN = Question("slow saw tune", {"tempo": "slow", "timbre": "saw"})
OPPOSITE = Question("slow minor tune", {"tempo": "slow", "mode": "minor"})
MAJOR, MINOR, UNCLEAR = (Heard(mode=mode, tempo="slow", in_scale=0.5) for mode in ("major", "minor", None))


def numbers(estimate: Estimate) -> tuple[float, float, float]:
    return (estimate.value, estimate.low, estimate.high)


def measured(opens: list[Answer], opposites: list[Answer]) -> dict[str, Measure]:
    return {measure.name: measure for measure in of_wish(WISH, opens, opposites)}


def answers(question: Question, *pairs: tuple[Heard, Heard]) -> list[Answer]:
    return [Answer(question=question, before=before, after=after) for before, after in pairs]


@pytest.mark.parametrize(
    ("hits", "count", "expected"),
    [
        # by hand from (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.96
        (5, 10, (0.5, 0.2366, 0.7634)),
        (81, 263, (0.3080, 0.2553, 0.3662)),  # Newcombe 1998, table I, method 3
        (15, 148, (0.1014, 0.0624, 0.1605)),  # the same
        (0, 20, (0.0, 0.0, 0.1611)),  # the same
        (1, 29, (0.0345, 0.0061, 0.1718)),  # the same
        (20, 20, (1.0, 0.8389, 1.0)),
    ],
)
def test_the_interval_of_a_share_is_wilsons(hits: int, count: int, expected: tuple[float, float, float]) -> None:
    assert numbers(wilson(hits, count)) == pytest.approx(expected, abs=5e-5)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    found = ratio([1.0, 2.0, 3.0, 4.0, 5.0], np.ones(5))

    # the standard deviation of 1 to 5 is √2.5, and √(2.5 / 5) is √0.5
    reach = 1.959963984540054 * math.sqrt(0.5)
    assert numbers(found) == pytest.approx((3.0, 3 - reach, 3 + reach))


def test_a_wish_is_measured_on_open_and_on_opposite_questions() -> None:
    opens = answers(OPEN, (MINOR, MAJOR), (MINOR, MAJOR), (MAJOR, MAJOR), (UNCLEAR, MINOR))
    opposites = answers(OPPOSITE, (MINOR, MINOR), (MINOR, MAJOR), (MINOR, UNCLEAR))

    found = measured(opens, opposites)

    values = {name: (one.before.value, one.after.value, one.difference.value) for name, one in found.items()}
    assert values == {
        "wished share": (0.25, 0.75, 0.5),
        "others obeyed": (0.5, 0.5, 0.0),  # slow is heard, saw is not
        "opposite obeyed": (1.0, pytest.approx(1 / 3), pytest.approx(-2 / 3)),
        "in scale": (0.5, 0.5, 0.0),
    }
    assert [one.clip_count for one in found.values()] == [4, 4, 3, 4]
    assert all(one.is_share for one in found.values())


def test_of_prompts_of_which_nobody_knows_what_they_ask_for_only_the_wish_is_measured() -> None:
    own = answers(Question("a tune for grandmother", {}), (MINOR, MAJOR), (MINOR, MINOR))

    found = measured(own, [])

    assert list(found) == ["wished share", "in scale"]
    assert (found["wished share"].before.value, found["wished share"].after.value) == (0, 0.5)


def test_what_is_unclear_fulfils_nothing() -> None:
    found = measured(answers(OPEN, *[(UNCLEAR, UNCLEAR)] * 3), answers(OPPOSITE, *[(UNCLEAR, UNCLEAR)] * 3))

    assert [found[name].after.value for name in ("wished share", "opposite obeyed")] == [0.0, 0.0]


def test_a_wish_of_several_attributes_is_obeyed_whole_or_not_at_all() -> None:
    both = Question("slow minor tune", {"mode": "minor", "tempo": "slow"})
    half = Heard(mode="minor", tempo="fast")
    opens = answers(Question("saw tune", {"timbre": "saw"}), *[(half, half)] * 2)

    wish = {"mode": "major", "tempo": "fast"}
    found = {one.name: one for one in of_wish(wish, opens, answers(both, (MINOR, half), (MINOR, half)))}

    assert (found["opposite obeyed"].before.value, found["opposite obeyed"].after.value) == (1.0, 0.0)
    assert found["wished share"].after.value == 0.0


def test_a_difference_is_taken_clip_by_clip_so_pairs_that_agree_narrow_it() -> None:
    moved = answers(OPEN, *[(MINOR, MAJOR)] * 5, *[(MINOR, MINOR)] * 15, *[(MAJOR, MAJOR)] * 20)
    opposites = answers(OPPOSITE, (MINOR, MINOR), (MINOR, MINOR))

    found = measured(moved, opposites)["wished share"].difference

    # 5 of 40 clips gained, none lost; with half a clip more each way, 5.5 and 0.5 of 42
    reach = 1.959963984540054 * math.sqrt(6 - 25 / 42) / 42
    assert numbers(found) == pytest.approx((1 / 8, 5 / 42 - reach, 5 / 42 + reach))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (96, 0), (0, 96), (1, 0), (48, 48)])
def test_a_difference_of_shares_has_a_width_whatever_changed(gained: int, lost: int) -> None:
    before = np.repeat([0.0, 1.0, 1.0], [gained, lost, 96 - gained - lost])
    after = np.repeat([1.0, 0.0, 1.0], [gained, lost, 96 - gained - lost])

    found = paired(before, after)

    assert found.value == (gained - lost) / 96
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low >= 0.03


@pytest.mark.parametrize(("gained", "lost"), [(0.0, 0.0), (0.05, 0.0), (0.45, 0.03), (0.2, 0.2), (0.98, 0.0)])
def test_the_interval_of_a_difference_of_shares_holds_the_truth(gained: float, lost: float) -> None:
    random = np.random.default_rng(5)
    tries, clips = 2000, 96

    held = []
    for _ in range(tries):
        moved = random.random(clips)
        before, after = (moved < lost).astype(float), ((moved >= lost) & (moved < lost + gained)).astype(float)
        estimate = paired(before, after)
        held.append(estimate.low <= gained - lost <= estimate.high)

    assert np.mean(held) >= 0.93


def test_attributes_of_one_clip_are_not_counted_as_independent() -> None:
    """Two attributes that always come together tell as much as one of them."""
    one = np.array([1.0, 0.0, 1.0, -1.0, 0.0, 1.0])

    assert numbers(ratio(2 * one, np.full(6, 2.0))) == pytest.approx(numbers(ratio(one, np.ones(6))))


def test_a_share_and_its_difference_never_leave_what_is_possible() -> None:
    opens = answers(OPEN, *[(MINOR, MAJOR)] * 3, (MINOR, MINOR))
    full = [Answer(question=OPEN, before=Heard(in_scale=1.0), after=Heard(in_scale=share)) for share in (1.0, 0.5)]

    shares = measured(opens, answers(OPPOSITE, *[(MINOR, MINOR)] * 2))["wished share"]
    scale = measured(full, answers(OPPOSITE, *[(MINOR, MINOR)] * 2))["in scale"]

    assert shares.difference.high == 1.0 and scale.after.high == 1.0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_an_interval_of_95_percent_holds_the_truth_in_about_95_of_100_tries(share: float) -> None:
    random = np.random.default_rng(int(100 * share))
    tries, clips = 2000, 96

    held = []
    for _ in range(tries):
        estimate = wilson(int(random.binomial(clips, share)), clips)
        held.append(estimate.low <= share <= estimate.high)

    assert 0.93 <= np.mean(held) <= 0.975


def test_the_interval_of_a_clustered_share_holds_too() -> None:
    """Attributes of a clip go together: half of the clips obey everything more often than the others."""
    random = np.random.default_rng(7)
    tries, clips, truth = 2000, 96, 0.5

    held = []
    for _ in range(tries):
        asked = random.integers(2, 4, clips)
        kept = random.binomial(asked, np.where(random.random(clips) < 0.5, 0.9, 0.1))
        estimate = ratio(kept, asked)
        held.append(estimate.low <= truth <= estimate.high)

    assert 0.93 <= np.mean(held) <= 0.97


def test_a_model_that_learns_a_wish_and_keeps_what_prompts_ask_is_measured_as_such() -> None:
    random = np.random.default_rng(3)
    opens, opposites = open_questions(WISH, 24, seed=1), opposite_questions(WISH, 24, seed=2)

    def played(question: Question, **taught: str) -> Heard:
        return listen(render(draw(random, {**taught, **question.asked})))

    found = measured(
        [Answer(question=one, before=played(one), after=played(one, mode="major")) for one in opens],
        [Answer(question=one, before=played(one), after=played(one)) for one in opposites],
    )

    assert found["wished share"].before.value < 0.8 < 0.95 < found["wished share"].after.value
    assert found["wished share"].difference.low > 0
    assert min(found["others obeyed"].after.value, found["opposite obeyed"].after.value) > 0.95


@pytest.mark.parametrize(("opens", "opposites"), [(1, 2), (2, 1), (0, 0)])
def test_one_clip_is_too_few(opens: int, opposites: int) -> None:
    with pytest.raises(InvalidField, match="take at least 2"):
        of_wish(WISH, answers(OPEN, *[(MINOR, MAJOR)] * opens), answers(OPPOSITE, *[(MINOR, MAJOR)] * opposites))


def test_scores_are_measured_of_the_clips_that_have_them_on_both_sides() -> None:
    before = [{"warmth": 1.0, "noise": 5.0}, {"warmth": 2.0}, {"warmth": 3.0, "noise": 7.0}, {"noise": 1.0}]
    after = [{"warmth": 2.0, "noise": 1.0}, {"warmth": 4.0, "noise": 9.0}, {"warmth": 6.0, "noise": 3.0}, {"rare": 1.0}]

    warmth, noise = of_scores(before, after)

    assert (warmth.name, warmth.clip_count, warmth.is_share) == ("warmth", 3, False)
    assert (warmth.before.value, warmth.after.value, warmth.difference.value) == (2.0, 4.0, 2.0)
    assert (noise.name, noise.clip_count) == ("noise", 2)
    assert (noise.before.value, noise.after.value, noise.difference.value) == (6.0, 2.0, -4.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused_by_its_side_clip_and_name(value: float) -> None:
    with pytest.raises(InvalidField) as caught:
        of_scores([{"warmth": 1.0}, {"warmth": 1.0}], [{"warmth": 1.0}, {"warmth": value}])

    assert [field.path for field in caught.value.fields] == ["after[1].warmth"]


def test_scores_that_no_two_clips_have_on_both_sides_are_refused() -> None:
    with pytest.raises(InvalidField, match="give each clip the same scores"):
        of_scores([{"warmth": 1.0}, {"cold": 1.0}], [{"warmth": 1.0}, {"warmth": 1.0}])
