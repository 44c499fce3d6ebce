"""`tunesmith model list|get|report|label|download`: language models of the control plane on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import RUN, id_of
from tests.cli.test_completion import complete
from tunesmith.v1 import model_pb2

FILES = {
    "best_model.pt": b"weights of the best epoch",
    "loss.svg": b"",
    "tokenizer/tokenizer.json": b"{}",
    "tokenizer/tokenizer.model": b"pieces",
}


def add(fake: FakePlane, version: int = 1, **fields: object) -> model_pb2.Model:
    """A model that a run has made."""
    made_by = {"run_id": RUN, "experiment_id": id_of("exp", 1), "best_loss": 4.71, "final_loss": 4.5}
    return fake.add_model(version, files=FILES, **{**made_by, **fields})


def test_models_are_listed_newest_first_and_by_their_name(cli: Run, fake: FakePlane) -> None:
    for version, name in ((1, "tales"), (2, "tales"), (3, "news")):
        add(fake, version, name=name)

    every = cli("model", "list").out.splitlines()
    tales = cli("model", "list", "--name", "tales").out.splitlines()

    assert [line.split()[1] for line in every] == ["name=news@3", "name=tales@2", "name=tales@1"]
    assert [line.split()[1] for line in tales] == ["name=tales@2", "name=tales@1"]
    assert every[0].startswith(f"model_id={id_of('mdl', 3)} name=news@3 best_loss=4.71 final_loss=4.5 run_id={RUN} ")


@pytest.mark.parametrize("text", ["tales@2", "tales", id_of("mdl", 2), "mdl_01J00000000000000000000002"])
def test_a_model_is_named_by_its_id_or_by_its_name_with_or_without_a_version(
    cli: Run, fake: FakePlane, text: str
) -> None:
    for version in (1, 2):
        add(fake, version)

    lines = cli("model", "get", text).out.splitlines()

    assert f"model_id={id_of('mdl', 2)}" in lines
    assert "best_loss=4.71" in lines
    assert "files[2].path=tokenizer/tokenizer.json" in lines


def test_a_model_that_nobody_has_is_exit_code_3_and_says_where_to_look(cli: Run, fake: FakePlane) -> None:
    add(fake)

    for text in ("tales@9", "poems", f"mdl_{'Z' * 26}"):
        result = cli("model", "get", text)

        assert result.code == 3
        assert "error[MODEL_NOT_FOUND]" in result.err
        assert ("`tunesmith model list` shows what there is" in result.err) == (not text.startswith("mdl_"))


def test_a_report_is_markdown_for_people_and_the_response_for_programs(cli: Run, fake: FakePlane) -> None:
    add(fake)

    assert cli("model", "report", "tales@1").out == "# tales@1\n"
    assert cli("model", "report", "tales@1", "-o", "json").json["report"]["final_loss"] == 4.5


def test_a_downloaded_model_is_whole_through_cuts_and_the_next_command_is_told(
    cli: Run, fake: FakePlane, tmp_path: Path
) -> None:
    add(fake, 3)
    fake.state.cuts["model"] = [0, 2, 1]
    folder = tmp_path / "my tales"

    result = cli("model", "download", "tales@3", str(folder))

    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert result.out.splitlines() == [f"{folder}/{path}" for path in FILES]
    assert result.err == f"next: tunesmith lm sample '{folder}' \"The old man\"\n"


def test_a_download_goes_to_a_folder_with_the_name_and_the_version_where_none_is_given(
    cli: Run, fake: FakePlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(fake, 3)
    monkeypatch.chdir(tmp_path)

    answer = cli("model", "download", "tales", "-o", "json").json

    assert answer["model"]["model_id"] == id_of("mdl", 3)
    assert (tmp_path / "tales-v3" / "tokenizer" / "tokenizer.model").read_bytes() == b"pieces"


def test_labels_are_set_and_taken_away_and_the_others_stay(cli: Run, fake: FakePlane) -> None:
    model = add(fake, labels={"for": "demo", "by": "me"})

    result = cli("model", "label", "tales@1", "for=", "quality=good")

    assert dict(model.labels) == {"by": "me", "quality": "good"}
    assert "labels.quality=good" in result.out.splitlines()
    assert result.err == "labels of tales@1 changed\n"


def test_names_of_models_are_completed(fake: FakePlane) -> None:
    model = add(fake, 2)

    assert complete("tunesmith model download ") == ["tales@2"]
    assert complete("tunesmith model get mdl_") == [model.model_id]
