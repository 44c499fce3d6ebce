"""`tunesmith adapter export` and `lineage`, and `tunesmith model import-audiocraft`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from services.cli.exit_codes import ExitCode
from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.support.audiocraft import known_width
from tests.training.adapters import random_adapter
from trainer_node.engines.musicgen.export import Adapter
from trainer_node.engines.musicgen.tiny import make_tiny
from tunesmith.v1 import adapter_pb2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with models/tiny and models/wide, whose T5 is as wide as one that audiocraft knows."""
    folder = tmp_path_factory.mktemp("work") / "models"
    known_width(make_tiny(folder / "tiny"), folder / "wide")
    return folder


@pytest.fixture(scope="module")
def trained(models: Path) -> Adapter:
    """An adapter on `wide`."""
    return random_adapter(models / "wide", models.parent / "trained" / "adapter")


@pytest.fixture(autouse=True)
def in_the_working_directory(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models.parent)


def register(fake: FakePlane, trained: Adapter, *, version: int = 2) -> adapter_pb2.Adapter:
    """Give the control plane the adapter, as the second of a chain."""
    adapter = fake.add_adapter(version=version)
    for path in sorted(trained.folder.iterdir()):
        data = path.read_bytes()
        adapter.files.add(path=path.name, digest=fake.add_blob(data), size_bytes=len(data))
    adapter.training_config.CopyFrom(trained.config)
    adapter.training_config.lineage.add(name="piano", version=1, kind="supervised", dataset_version_id="dsv_1")
    adapter.training_config.spec.dpo.adapter.base_model = "wide"
    adapter.dataset_version_id = "dsv_2"
    return adapter


def test_a_registered_adapter_becomes_a_whole_model_with_its_lineage(
    cli: Run, fake: FakePlane, trained: Adapter, tmp_path: Path
) -> None:
    register(fake, trained)

    result = cli("adapter", "export", "piano@2", str(tmp_path / "out"), "--format", "merged")

    assert (result.code, result.out) == (0, f"folder={tmp_path}/out format=merged base_model=wide\n")
    assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# piano@2" in card
    assert "supervised piano@1 → dpo piano@2" in card


def test_a_local_adapter_is_exported_without_a_control_plane(cli: Run, trained: Adapter, tmp_path: Path) -> None:
    result = cli("adapter", "export", str(trained.folder), str(tmp_path / "out"), "--format", "peft")

    assert result.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "training_config.json",
    }  # fmt: skip


def test_what_goes_to_audiocraft_comes_back_as_a_base_model(
    cli: Run, trained: Adapter, models: Path, tmp_path: Path
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    exported = cli(
        "adapter", "export", str(trained.folder), str(there), "--format", "audiocraft", "--text-encoder", "t5-small"
    )

    imported = cli("model", "import-audiocraft", str(there), str(back), "--like", str(models / "wide"))

    assert (exported.code, imported.code) == (0, 0)
    assert imported.out == f"base_model={back} like=wide\n"
    assert json.loads((back / "config.json").read_text())["model_type"] == "musicgen"


def test_what_was_written_is_told_to_programs_as_json(cli: Run, trained: Adapter, models: Path, tmp_path: Path) -> None:
    audiocraft = ("--format", "audiocraft", "--text-encoder", "t5-small")
    commands = [
        ("adapter", "export", str(trained.folder), f"{tmp_path}/there", *audiocraft),
        ("model", "import-audiocraft", f"{tmp_path}/there", f"{tmp_path}/back", "--like", str(models / "wide")),
        ("model", "make-tiny", f"{tmp_path}/tiny"),
        ("dataset", "make-demo", f"{tmp_path}/demo"),
    ]

    told = [
        cli(*command, "-o", form) for form, command in zip(("json", "jsonl", "json", "json"), commands, strict=True)
    ]

    assert [one.json for one in told] == [
        {"folder": f"{tmp_path}/there", "format": "audiocraft", "base_model": "wide"},
        {"base_model": f"{tmp_path}/back", "like": "wide"},
        {"base_model": f"{tmp_path}/tiny", "stereo": False, "seed": 0},
        {"rated": f"{tmp_path}/demo/rated.jsonl"},
    ]


def test_a_text_encoder_that_cannot_be_told_says_which_option_helps(cli: Run, trained: Adapter, tmp_path: Path) -> None:
    result = cli("adapter", "export", str(trained.folder), str(tmp_path / "out"), "--format", "audiocraft")

    assert result.code == ExitCode.USAGE
    assert "error[EXPORT_REFUSED]" in result.err
    assert "--text-encoder: t5-small, google/flan-t5-small" in result.err
    assert list(tmp_path.iterdir()) == []


def test_another_base_model_is_refused(cli: Run, trained: Adapter, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli(
        "adapter", "export", str(trained.folder), str(out), "--format", "merged", "--base-model", "models/tiny"
    )

    assert result.code == ExitCode.CONFLICT
    assert "error[BASE_MODEL_MISMATCH]: the adapter was trained on another base model than tiny" in result.err
    assert not out.exists()


def test_a_missing_base_model_is_an_error_of_the_machine(
    cli: Run, trained: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = cli("adapter", "export", str(trained.folder), "out", "--format", "merged")

    assert result.code == ExitCode.PREFLIGHT_FAILED
    assert "error[BASE_MODEL_UNAVAILABLE]" in result.err


@pytest.mark.parametrize(
    "command",
    [
        ("adapter", "export", "trained/adapter", "full", "--format", "peft"),
        ("model", "import-audiocraft", "trained", "full"),
    ],
)
def test_a_folder_that_holds_something_is_left_alone(
    command: tuple[str, ...], cli: Run, trained: Adapter, models: Path
) -> None:
    full = models.parent / "full"
    full.mkdir(exist_ok=True)
    (full / "precious").touch()

    result = cli(*command)

    assert result.code == ExitCode.CONFLICT
    assert "error[FOLDER_NOT_EMPTY]" in result.err
    assert [path.name for path in full.iterdir()] == ["precious"]


def test_a_file_that_is_no_checkpoint_is_a_usage_error(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "state_dict.bin").write_text(yaml.safe_dump({"xp.cfg": "none"}))

    result = cli("model", "import-audiocraft", str(tmp_path / "state_dict.bin"), str(tmp_path / "out"))

    assert result.code == ExitCode.USAGE
    assert "error[CHECKPOINT_REFUSED]" in result.err


def test_an_adapter_that_is_nowhere_is_not_found(cli: Run, fake: FakePlane, tmp_path: Path) -> None:
    result = cli("adapter", "export", "guitar", str(tmp_path / "out"), "--format", "peft")

    assert result.code == ExitCode.NOT_FOUND
    assert "error[ADAPTER_NOT_FOUND]" in result.err


def test_the_lineage_is_told_oldest_first(cli: Run, fake: FakePlane, trained: Adapter) -> None:
    adapter = register(fake, trained)

    text, lines = cli("adapter", "lineage", "piano"), cli("adapter", "lineage", "piano", "-o", "jsonl")

    assert text.out == (
        'kind=supervised name=piano@1 adapter_id="" dataset_version_id=dsv_1\n'
        f"kind=dpo name=piano@2 adapter_id={adapter.adapter_id} dataset_version_id=dsv_2\n"
    )
    assert [line["kind"] for line in lines.json_lines] == ["supervised", "dpo"]
