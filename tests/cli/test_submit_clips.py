"""Submitting clips to play: by whom, which prompts, and what does not go with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Result, Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import RUN, id_of
from tunesmith.v1 import experiment_pb2, job_spec_pb2, run_pb2

EXPERIMENT = id_of("exp", 1)


@pytest.fixture
def queued(fake: FakePlane) -> list[run_pb2.CreateRunRequest]:
    """The requests that reached the server. Their experiment is one of supervised runs, on data."""
    made = experiment_pb2.Experiment(experiment_id=EXPERIMENT, name="piano", dataset_id=id_of("dst", 1))
    made.default_spec.supervised.adapter.base_model = "tiny"
    fake.state.experiments.append(made)
    return fake.state.requests


@pytest.fixture
def submit(cli: Run, tmp_path: Path):
    """Submits a file of this text, or none, with these flags."""

    def call(text: str = "", *flags: str) -> Result:
        file = tmp_path / "run.yaml"
        file.write_text(text)
        return cli("run", "submit", *([str(file)] if text else []), "--experiment", "piano", "-d", *flags)

    return call


def test_flags_ask_for_clips(submit, queued):
    flags = "--training-type generate --base-model tiny --clips-per-prompt 4 --seed 7 --clip-s 2.5 --top-k 250"

    result = submit("", *flags.split(), "--prompts", "a song", "--prompts", "a drum")

    (request,) = queued
    asked = request.spec.generate
    assert result.code == 0
    assert "plays 8 clips for 2 prompts" in result.err
    assert (list(asked.generation.prompts), asked.generation.clips_per_prompt) == (["a song", "a drum"], 4)
    assert (asked.player.base_model, asked.generation.seed, asked.generation.clip_s) == ("tiny", 7, 2.5)
    assert asked.generation.top_k == 250 and not asked.generation.HasField("temperature")
    assert not request.dataset_version_id


@pytest.mark.parametrize(
    "text",
    [
        "{training_type: generate, player: {base_model: tiny}, generation: {prompts: [a song]}}",
        "generate: {player: {base_model: tiny}, generation: {prompts: [a song]}}",
    ],
)
def test_a_file_asks_for_clips_in_either_form(submit, queued, text):
    result = submit(text)

    assert "plays 1 clip for 1 prompt" in result.err
    assert [list(request.spec.generate.generation.prompts) for request in queued] == [["a song"]]


def test_prompts_are_read_from_a_file_a_line_each(submit, queued, tmp_path):
    prompts = tmp_path / "asked" / "prompts.txt"
    prompts.parent.mkdir()
    prompts.write_bytes(b"\xef\xbb\xbfa song\r\n\r\n  fast, high  \n\t\nuna canci\xc3\xb3n")

    by_flag = submit("", "--training-type", "generate", "--base-model", "tiny", "--prompts-file", str(prompts))
    by_key = submit("{training_type: generate, prompts_file: asked/prompts.txt, player: {base_model: tiny}}")

    assert (by_flag.code, by_key.code) == (0, 0)
    for request in queued:
        assert list(request.spec.generate.generation.prompts) == ["a song", "fast, high", "una canción"]


def test_prompts_of_flags_stand_above_those_of_the_file_in_whatever_form(submit, queued, tmp_path):
    (tmp_path / "prompts.txt").write_text("a song\n")
    (tmp_path / "others.txt").write_text("a drum\n")
    of_key = "{training_type: generate, prompts_file: prompts.txt, player: {base_model: tiny}}"
    of_setting = "generate: {generation: {prompts: [a song]}, player: {base_model: tiny}}"

    submit(of_key, "--prompts", "a drum")
    submit(of_key, "--prompts-file", str(tmp_path / "others.txt"))
    submit(of_setting, "--prompts-file", str(tmp_path / "others.txt"))

    assert [list(request.spec.generate.generation.prompts) for request in queued] == [["a drum"]] * 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\n \n", "prompts.txt holds no prompt; write one a line"),
        (b"", "prompts.txt holds no prompt; write one a line"),
        (b"\xff\xfe", "prompts.txt cannot be read (it is not UTF-8); give a text file with a prompt a line"),
        (None, "prompts.txt cannot be read (No such file or directory); give a text file"),
    ],
)
def test_a_file_without_prompts_is_refused_before_a_server_is_asked(submit, queued, tmp_path, data, told):
    if data is not None:
        (tmp_path / "prompts.txt").write_bytes(data)

    result = submit("{training_type: generate, prompts_file: prompts.txt}")

    assert (result.code, queued) == (2, [])
    assert "prompts_file: " in result.err and told in result.err


@pytest.mark.parametrize("name", ["drums@2", id_of("adp", 2), "drums"])
def test_who_plays_may_be_named_by_flag_key_or_setting(submit, fake, queued, name):
    for version in (1, 2):
        fake.add_adapter(version, "drums")
    asked = "training_type: generate, generation: {prompts: [a song]}"

    for flag in ("--adapter", "--adapter-id"):
        submit(f"{{{asked}}}", flag, name)
    submit(f"{{{asked}, adapter: {name}}}")
    submit(f"{{{asked}, player: {{adapter_id: {name}}}}}")

    assert [request.spec.generate.player.adapter_id for request in queued] == [id_of("adp", 2)] * 4


def test_the_settings_of_a_trainings_adapter_stand_flat_in_a_file_as_before(submit, fake, queued):
    fake.state.experiments[0].dataset_id = ""

    result = submit("{training_type: supervised, adapter: {base_model: tiny, lora_r: 4}}")

    assert result.code == 0
    assert [request.spec.supervised.adapter.lora_r for request in queued] == [4]


@pytest.mark.parametrize(
    ("text", "flags", "told"),
    [
        ("training_type: generate", "--start-adapter drums", "start_adapter does not go with generate, which trains"),
        ("training_type: generate", "--dataset songs", "dataset does not go with generate, which trains nothing"),
        ("training_type: generate", "--min-rating 4", "min_rating does not go with generate"),
        ("training_type: preference", "--adapter drums", "adapter does not go with dpo, which plays nothing; leave it"),
        ("training_type: tiny_lm", "--adapter drums", "adapter does not go with tiny_lm, which learns from text"),
        ("", "--adapter drums", "adapter does not go with supervised, which plays nothing"),
        ("", "--prompts-file PROMPTS", "prompts_file does not go with supervised"),
        ("", "--prompts a", "supervised.prompts: unknown here; it belongs under generate.generation"),
        (
            "training_type: generate",
            "--prompts-file PROMPTS --prompts a",
            "prompts and prompts_file do not go together",
        ),
        ("training_type: generate", "--epochs 3", "generate.epochs: unknown here"),
        ("{training_type: generate, prompt_file: a.txt}", "", "prompt_file: unknown key; did you mean prompts_file?"),
        ("{training_type: generate, generation: [a]}", "--prompts-file PROMPTS", "must be a mapping of settings"),
        (
            "{training_type: generate, prompts_file: prompts.txt, generation: {prompts: [a]}}",
            "",
            "prompts and prompts_file do not go together; leave one of them out",
        ),
        ("training_type: generate", "", "spec.generate.player.base_model: missing; give a Hugging Face id"),
        ("training_type: generate", "--base-model tiny", "spec.generate.generation.prompts: missing"),
    ],
)
def test_what_does_not_go_with_clips_or_is_missing_is_refused_with_the_way_out(
    submit, fake, tmp_path, queued, text, flags, told
):
    (tmp_path / "prompts.txt").write_text("a song\n")

    result = submit(text, *flags.replace("PROMPTS", str(tmp_path / "prompts.txt")).split())

    assert (result.code, fake.state.runs) == (2, {})
    assert told in result.err


def test_an_adapter_that_nobody_has_or_of_another_model_cannot_play(submit, fake, queued):
    fake.add_adapter(1, "drums")
    asked = ("--training-type", "generate", "--prompts", "a song", "--adapter")

    nobody = submit("", *asked, "flutes")
    other = submit("", *asked, "drums", "--base-model", "other")

    assert (nobody.code, other.code, fake.state.runs) == (3, 4, {})
    assert "error[ADAPTER_NOT_FOUND]" in nobody.err
    assert "error[START_ADAPTER_UNSUITABLE]" in other.err


def test_a_dry_run_shows_what_would_be_played_and_by_whom(submit, fake, queued):
    fake.add_adapter(1, "drums")
    asked = "--training-type generate --adapter drums --prompts a --clips-per-prompt 3"

    result = submit("", *asked.split(), "--dry-run")

    assert result.code == 0
    assert "spec.generate.player.base_model=tiny" in result.out.splitlines()
    assert "plays 3 clips for 1 prompt" in result.err
    assert fake.state.runs == {}


def test_clips_of_an_experiment_of_clips_need_no_training_type(submit, fake, queued):
    fake.state.experiments[0].default_spec.CopyFrom(
        job_spec_pb2.JobSpec(generate={"player": {"base_model": "tiny"}, "generation": {"clips_per_prompt": 2}})
    )

    result = submit("", "--prompts", "a song")

    assert result.out == f"run_id={RUN} state=QUEUED\n"
    assert "plays 2 clips for 1 prompt" in result.err
