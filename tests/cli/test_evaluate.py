"""`tunesmith adapter evaluate` by a wish: what is played, what is heard, what is stored, and what can go wrong."""

from __future__ import annotations

import numpy as np
import pytest

from services.cli import playing
from tests.cli.band import EXPERIMENT, Band, on_stage, wav
from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import Gone, id_of, refuse
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import run_pb2

BEFORE, AFTER = id_of("run", 1), id_of("run", 2)
GO_ON = f"tunesmith adapter evaluate piano@1 --wish mode=major --runs {BEFORE} {AFTER}"
BY_WISH = ("adapter", "evaluate", "piano@1", "--wish", "mode=major", "--clips", "4")


@pytest.fixture
def band(fake: FakePlane) -> Band:
    """A band whose adapter piano@1 has learnt to play major, and nothing else."""
    band = on_stage(fake)
    band.adapter(1, mode="major")
    return band


def test_a_wish_is_measured_before_and_after_and_the_table_is_all_that_stdout_gets(cli: Run, band: Band) -> None:
    result = cli(*BY_WISH)

    table = result.out.splitlines()
    assert result.code == 0
    assert table[0] == (
        'measure="wished share" clips=4 before="0.0 % (0.0 to 49.0)" after="100.0 % (51.0 to 100.0)" '
        'difference="+100.0 points (+16.8 to +100.0)"'
    )
    assert [line.split(" clips=")[0] for line in table[1:4]] == [
        'measure="others obeyed"',
        'measure="opposite obeyed"',
        'measure="in scale"',
    ]
    assert 'before="100.0 %' in table[2] and 'after="100.0 %' in table[2]
    assert table[4:] == [f"evaluation_id={id_of('evl', 1)}"]
    assert f"{BEFORE} plays 8 clips before, by micro\n" in result.err
    assert f"{AFTER} plays 8 clips after, by {id_of('adp', 1)}\n" in result.err
    assert f"run_id={AFTER} state=RUNNING" in result.err
    assert "next: tunesmith adapter report piano@1" in result.err


def test_both_runs_play_the_same_prompts_and_seeds_and_differ_by_the_adapter_alone(cli: Run, band: Band) -> None:
    cli(*BY_WISH, "--seed", "0")

    before, after = band.played
    assert [request.display_name for request in band.played] == [
        "evaluate piano@1: before",
        "evaluate piano@1: after",
    ]
    assert {request.experiment_id for request in band.played} == {EXPERIMENT}
    assert before.spec.generate.generation == after.spec.generate.generation
    assert before.spec.generate.player.base_model == after.spec.generate.player.base_model == "micro"
    assert (before.spec.generate.player.adapter_id, after.spec.generate.player.adapter_id) == ("", id_of("adp", 1))
    generation = after.spec.generate.generation
    assert (len(set(generation.prompts)), generation.clips_per_prompt, generation.seed) == (8, 1, 0)
    assert generation.clip_s == 3.84
    assert not generation.HasField("temperature")


def test_an_adapter_is_compared_with_another_one(cli: Run, band: Band) -> None:
    other = band.adapter(2, mode="major")

    result = cli(*BY_WISH, "--against", "piano@2", "--clip-s", "2", "--seed", "0")

    assert [request.spec.generate.player.adapter_id for request in band.played] == [other.adapter_id, id_of("adp", 1)]
    assert band.played[0].spec.generate.generation.clip_s == 2
    assert 'before="100.0 % (51.0 to 100.0)" after="100.0 %' in result.out.splitlines()[0]


def test_what_was_measured_is_stored_with_its_runs_and_shown_by_the_report(
    cli: Run, band: Band, fake: FakePlane
) -> None:
    cli(*BY_WISH)

    report = cli("adapter", "report", "piano@1")
    listed = cli("adapter", "evaluations", "piano@1").out.splitlines()

    (stored,) = fake.state.evaluations
    assert (stored.adapter_id, stored.scorer, dict(stored.wish)) == (id_of("adp", 1), "tunes", {"mode": "major"})
    assert (stored.before_run_id, stored.after_run_id) == (BEFORE, AFTER)
    assert report.out.startswith("# piano@1\n")
    assert "## Heard" in report.out.splitlines()
    assert "| mode=major | clips | before | after | difference |" in report.out.splitlines()
    assert [line.split(" create_time=")[0] for line in listed] == [
        f'evaluation_id={stored.evaluation_id} heard="mode=major" measure="wished share" '
        'difference="+100.0 points (+16.8 to +100.0)"'
    ]


def test_programs_get_the_response_and_nothing_else(cli: Run, band: Band, fake: FakePlane) -> None:
    result = cli(*BY_WISH, "-o", "json")

    assert result.json["evaluation"]["evaluation_id"] == fake.state.evaluations[0].evaluation_id
    assert result.json["evaluation"]["measures"][0]["name"] == "wished share"
    assert result.err == ""


def test_an_evaluation_whose_answer_is_lost_is_stored_once(cli: Run, band: Band, fake: FakePlane) -> None:
    calls = []

    def lost_at_first(request: object, context: object) -> None:
        calls.append(request)
        if len(calls) == 1:
            refuse(context, Gone("going down"))  # type: ignore[arg-type]  # it is the call's context

    fake.state.before["CreateAdapterEvaluation"] = lost_at_first

    result = cli(*BY_WISH)

    assert (result.code, len(fake.state.evaluations), len(calls)) == (0, 1, 2)
    assert calls[0] == calls[1]


@pytest.mark.parametrize(("state", "code", "told"), [("FAILED", 7, "RUN_FAILED"), ("CANCELLED", 8, "RUN_CANCELLED")])
@pytest.mark.parametrize(("ends_before", "run_id", "side"), [(0, BEFORE, "before"), (1, AFTER, "after")])
def test_a_run_that_does_not_play_ends_it_and_is_named(
    cli: Run, band: Band, fake: FakePlane, state: str, code: int, told: str, ends_before: int, run_id: str, side: str
) -> None:
    band.ends = ["SUCCEEDED"] * ends_before + [state]

    result = cli(*BY_WISH)

    assert result.code == code
    assert f"error[{told}]: the run that plays {side}, {run_id}, " in result.err
    assert ("OUT_OF_MEMORY: play fewer at once" in result.err) == (state == "FAILED")
    assert (f"{AFTER} is left alone. Watch it: " in result.err) == (side == "before")
    assert (result.out, fake.state.evaluations) == ("", [])


def test_ctrl_c_leaves_both_runs_alone_and_says_how_to_go_on(
    cli: Run, band: Band, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(playing, "follow", interrupted)

    result = cli(*BY_WISH)

    assert result.code == 130
    for run_id in (BEFORE, AFTER):
        assert f"{run_id} is left alone. Watch it: tunesmith run watch {run_id}\n" in result.err
        assert f"Stop it:  tunesmith run cancel {run_id}\n" in result.err
    assert f"nothing was stored; go on with what they play: {GO_ON}\n" in result.err


def test_one_goes_on_with_what_two_runs_play_and_nothing_is_played_anew(cli: Run, band: Band, fake: FakePlane) -> None:
    first = cli(*BY_WISH, "--seed", "3")

    again = cli(*GO_ON.split()[1:])
    other = cli("adapter", "evaluate", "piano@1", "--wish", "mode=minor", "--runs", BEFORE, AFTER)

    assert (again.code, again.out) == (0, first.out)  # the same measures of the same runs are stored once
    assert other.code == 2 and "4 of 8 neither leave mode open nor ask for the opposite, first " in other.err
    assert (len(band.played), len(fake.state.evaluations)) == (2, 1)


def test_runs_that_did_not_play_before_and_after_the_adapter_are_refused(cli: Run, band: Band) -> None:
    cli(*BY_WISH)

    swapped = cli("adapter", "evaluate", "piano@1", "--wish", "mode=major", "--runs", AFTER, BEFORE)
    played_anew = cli(*GO_ON.split()[1:], "--clips", "8", "--seed", "0")

    assert swapped.code == 2
    assert (
        f"evaluation.after_run_id: {BEFORE} plays the base model; give a run that plays {id_of('adp', 1)}"
        in swapped.err
    )
    assert played_anew.code == 2
    assert "leave out --clips, --seed, or --runs to play anew" in played_anew.err


@pytest.mark.parametrize(
    ("method", "alone"),
    [("WatchRun", (BEFORE, AFTER)), ("ListPreviews", ()), ("DownloadBlob", ()), ("CreateAdapterEvaluation", ())],
)
def test_after_a_mishap_one_goes_on_with_what_was_played(
    cli: Run, band: Band, fake: FakePlane, method: str, alone: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise InvalidField.of([FieldProblem("it", "is out of tune")])

    with monkeypatch.context() as patched:
        patched.setitem(fake.state.before, method, broken)
        result = cli(*BY_WISH)
    again = cli(*GO_ON.split()[1:])

    assert result.code == 2
    assert "it: is out of tune" in result.err
    assert [run_id for run_id in (BEFORE, AFTER) if f"{run_id} is left alone" in result.err] == list(alone)
    assert f"nothing was stored; go on with what they play: {GO_ON}\n" in result.err
    assert (again.code, len(band.played), len(fake.state.evaluations)) == (0, 2, 1)


def test_clips_that_the_listener_cannot_hear_are_left_to_a_scorer(cli: Run, band: Band, fake: FakePlane) -> None:
    band.alter = lambda clip: [replaced(clip, fake, wav(np.zeros(100), rate_hz=32_000))]

    result = cli(*BY_WISH)

    assert result.code == 2
    assert "the listener knows tunes at 8,000 Hz alone, and these clips have 32,000; give a --scorer" in result.err
    assert f"tunesmith adapter evaluate piano@1 --scorer MODULE:FUNCTION --runs {BEFORE} {AFTER}" in result.err


def test_a_run_that_plays_a_prompt_twice_is_refused(cli: Run, band: Band, fake: FakePlane) -> None:
    cli(*BY_WISH)
    for run in fake.state.runs.values():
        run.spec.generate.generation.prompts.append(run.spec.generate.generation.prompts[0])

    result = cli(*GO_ON.split()[1:])

    assert result.code == 2
    assert f"{AFTER} plays '" in result.err and "twice, so its clips count twice" in result.err


def test_a_clip_that_is_not_there_is_named_and_nothing_is_stored(cli: Run, band: Band, fake: FakePlane) -> None:
    band.alter = lambda clip: [] if clip.prompt_index == 3 else [clip]

    result = cli(*BY_WISH)

    prompt = band.played[0].spec.generate.generation.prompts[3]
    assert result.code == 4
    assert f"error[CLIP_UNUSABLE]: {BEFORE} lacks 1 of 8 clips, first that of {prompt!r} with seed 0" in result.err
    assert fake.state.evaluations == []


def test_a_clip_that_is_no_sound_is_named(cli: Run, band: Band, fake: FakePlane) -> None:
    band.alter = lambda clip: [replaced(clip, fake, b"no sound")]

    result = cli(*BY_WISH)

    assert result.code == 4
    assert "with seed 0 of" in result.err and "is no sound" in result.err


def test_where_several_attempts_have_played_a_clip_the_last_one_is_heard(cli: Run, band: Band, fake: FakePlane) -> None:
    band.alter = lambda clip: [replaced(clip, fake, attempt=2), replaced(clip, fake, b"cut short")]

    result = cli(*BY_WISH)

    assert result.code == 0


def replaced(clip: run_pb2.Preview, fake: FakePlane, data: bytes = b"", *, attempt: int = 1) -> run_pb2.Preview:
    """The same clip with other bytes, where they are given."""
    other = run_pb2.Preview()
    other.CopyFrom(clip)
    other.attempt = attempt
    if data:
        other.file.digest = fake.add_blob(data)
    return other


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "who listens? give --wish NAME=VALUE, or --scorer MODULE:FUNCTION"),
        (("--wish", "mode=major", "--scorer", "a:b", "--prompt", "x"), "who listens?"),
        (("--wish", "mode=major", "--prompt", "x"), "give 2 different ones, or --clips 64"),
        (("--wish", "mode=major", "--prompt", "x", "--prompt", "happy y"), "1 of 2 neither leave mode open nor ask"),
        (("--wish", "mode=major", "--against", "piano@1"), "it is compared with itself; give another adapter"),
        (("--scorer", "a:b"), "what is to be played for the scorer?"),
        (("--scorer", "no-name", "--prompt", "x", "--prompt", "y"), "write module:function"),
        (("--wish", "mode=lydian"), "mode is one of major, minor"),
        (("--wish", "mode=major", "--clips", "1"), "--clips"),
    ],
)
def test_what_is_not_said_or_said_wrongly_is_told_before_anything_is_played(
    cli: Run, band: Band, args: tuple[str, ...], said: str
) -> None:
    result = cli("adapter", "evaluate", "piano@1", *args)

    assert result.code == 2
    assert said in result.err
    assert band.played == []


def test_an_adapter_that_nobody_has_is_exit_code_3(cli: Run, band: Band) -> None:
    evaluated = cli("adapter", "evaluate", "drums", "--wish", "mode=major")
    compared = cli(*BY_WISH, "--against", "drums")
    listed = cli("adapter", "evaluations", "drums")

    assert [result.code for result in (evaluated, compared, listed)] == [3, 3, 3]
    assert band.played == []
