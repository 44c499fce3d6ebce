"""Tunes are what they are said to be: a listener that knows only the samples hears every attribute."""

from __future__ import annotations

import numpy as np
import pytest

from trainer_node.tunes import prompts
from trainer_node.tunes.listener import Heard, listen
from trainer_node.tunes.pitch import pitch_of
from trainer_node.tunes.synth import frequency_of, render
from trainer_node.tunes.world import DURATION_S, RATE_HZ, VALUES, Tune, combinations, draw, held_out
from tunesmith.errors import InvalidField

SEED, COUNT = 20, 120
NOISE = 0.1 * np.random.default_rng(0).normal(size=30720)


@pytest.fixture(scope="module")
def tunes() -> list[Tune]:
    """Tunes of all kinds."""
    random = np.random.default_rng(SEED)
    return [draw(random) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def heard(tunes: list[Tune]) -> list[Heard]:
    """What is heard of each."""
    return [listen(render(tune)) for tune in tunes]


@pytest.mark.parametrize("attribute", VALUES)
def test_the_listener_hears_every_attribute_of_true_audio(
    attribute: str, tunes: list[Tune], heard: list[Heard]
) -> None:
    right = [
        found.attributes[attribute] == tune.attributes[attribute] for tune, found in zip(tunes, heard, strict=True)
    ]

    assert np.mean(right) >= 0.98


def test_the_listener_hears_the_very_notes(tunes: list[Tune], heard: list[Heard]) -> None:
    exact = [
        tuple(round(note.pitch) for note in found.notes if note.pitch is not None) == tune.notes
        for tune, found in zip(tunes, heard, strict=True)
    ]

    assert np.mean(exact) >= 0.98
    assert min(found.in_scale for found in heard) >= 0.9


def test_where_two_sounds_overlap_no_lower_note_is_heard() -> None:
    tune = draw(np.random.default_rng(1), {"register": "high", "tempo": "slow", "pattern": "scale", "timbre": "sine"})
    sound, note = render(tune).copy(), slice(4 * 3840, 5 * 3840)
    lowest = 2 / 3 * frequency_of(tune.notes[4])  # a fifth below: both repeat at a third of the note's frequency
    sound[note] += 0.3 * np.sin(2 * np.pi * lowest * np.arange(3840) / RATE_HZ)

    found = listen(sound)

    assert pitch_of(sound[note][:936].astype(float), RATE_HZ).note < tune.root - 5
    assert [one.pitch is None for one in found.notes] == [False] * 4 + [True] + [False] * 3
    assert found.attributes == tune.attributes


def test_a_lost_note_does_not_hide_that_a_tune_hops() -> None:
    tune = draw(np.random.default_rng(2), {"tempo": "medium", "pattern": "hopping"})
    sound = render(tune).copy()
    sound[4 * 1920 : 5 * 1920] = 0

    found = listen(sound)

    assert len(found.notes) < len(tune.notes)
    assert found.pattern == "hopping"


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(0),
        np.zeros(100),
        np.zeros(30720),
        np.ones(30720),
        np.sin(np.arange(30720) * 0.3),
        NOISE,
        NOISE * (np.arange(30720) % 3840 < 1200),
    ],
    ids=["nothing", "short silence", "silence", "a constant", "one long note", "noise", "bursts of noise"],
)
def test_what_is_no_tune_is_unclear_and_no_guess(sound: np.ndarray) -> None:
    found = listen(sound)

    assert (found.mode, found.pattern) == (None, None)


def test_noise_has_no_pitch() -> None:
    noise = np.random.default_rng(1).normal(size=1000)

    assert pitch_of(noise, RATE_HZ).clarity < 0.5


@pytest.mark.parametrize("note", [45, 57.5, 69, 84])
def test_a_pitch_is_right_to_a_hundredth_of_a_semitone(note: float) -> None:
    sound = np.sin(2 * np.pi * frequency_of(note) * np.arange(936) / RATE_HZ)

    assert pitch_of(sound, RATE_HZ).note == pytest.approx(note, abs=0.01)


def test_a_tune_is_as_wanted_and_the_same_for_the_same_seed() -> None:
    wanted = {"mode": "minor", "register": "high"}

    first, second = (draw(np.random.default_rng(3), wanted) for _ in range(2))

    assert first == second
    assert wanted.items() <= first.attributes.items()
    assert np.array_equal(render(first), render(second))
    assert len(render(first)) == DURATION_S * RATE_HZ


def test_some_combinations_are_held_out_and_with_them_no_single_value() -> None:
    out = held_out()
    shown = [combination for combination in combinations() if combination not in out]

    assert (len(out), len(shown)) == (18, 198)
    assert all({row[name] for row in shown} == set(values) for name, values in VALUES.items())


def test_prompts_say_what_is_asked_and_nothing_else() -> None:
    random = np.random.default_rng(4)
    tune = draw(random)
    words = set(prompts.vocabulary())

    told = [prompts.write(random, tune.attributes, say=("mode",)) for _ in range(50)]
    meant = prompts.WORDS["mode"][tune.mode]

    assert all(any(phrase in prompt for phrase in meant) for prompt in told)
    assert all(set(prompt.replace(",", "").split()) <= words for prompt in told)
    others = {phrase for value in prompts.WORDS["timbre"].values() for phrase in value}
    assert not any(phrase in prompt.split() for prompt in told for phrase in others)


def test_what_a_prompt_asks_for_can_be_read_in_any_words_and_order() -> None:
    random = np.random.default_rng(8)
    for _ in range(500):
        attributes = draw(random).attributes
        said = {name: value for name, value in attributes.items() if random.random() < 0.6}
        assert prompts.read(prompts.write(random, said)) == said


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("A  happy Mid Tempo piano at dusk", {"mode": "major", "tempo": "medium"}),
        ("mid-tempo, flute-like", {"tempo": "medium", "timbre": "sine"}),
        ("highly slowly scaled", {}),
        ("", {}),
    ],
)
def test_other_words_of_a_prompt_say_nothing(prompt: str, said: dict[str, str]) -> None:
    assert prompts.read(prompt) == said


def test_a_prompt_that_contradicts_itself_cannot_be_read() -> None:
    with pytest.raises(InvalidField, match="asks for major and for minor; ask for one mode"):
        prompts.read("happy, or sad? high")


def test_a_plain_prompt_names_the_attributes_in_their_first_words() -> None:
    attributes = {"tempo": "fast", "register": "high", "mode": "major", "timbre": "square", "pattern": "scale"}

    assert prompts.plain(attributes) == "fast high major scale, square"
    assert prompts.plain({"mode": "minor"}) == "minor melody"
