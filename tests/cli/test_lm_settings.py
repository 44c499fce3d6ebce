"""Files with the settings of a language model, which `lm train` and `run submit` take alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli import lm_settings
from tests.cli.conftest import Run
from tunesmith import spec as specs
from tunesmith.errors import InvalidField


def read(folder: Path, text: str) -> lm_settings.Layer:
    file = folder / "lm.yaml"
    file.write_text(text)
    return lm_settings.of_file(file)


@pytest.mark.parametrize(
    "text",
    [
        "{tiny_lm: {training: {epochs: 3, seed: 7}, model: {layers: 1}}, corpus_path: texts}",
        "{training_type: tiny_lm, training: {epochs: 3, seed: 7}, model: {layers: 1}, corpus_path: [texts]}",
        "{training: {epochs: 3}, seed: 7, layers: 1, corpus_path: texts}",
        "{tiny_lm: {epochs: 3, seed: 7, layers: 1, corpus_path: texts}}",
    ],
    ids=["below its kind", "beside its training_type", "bare names", "bare names below their kind"],
)
def test_every_form_of_a_file_says_the_same(tmp_path: Path, text: str) -> None:
    layer = read(tmp_path, text)

    lm = layer.spec.tiny_lm
    assert (lm.training.epochs, lm.training.seed, lm.model.layers) == (3, 7, 1)
    assert layer.own == {"corpus_path": [tmp_path / "texts"]}
    assert set(layer.where) == {"epochs", "seed", "layers", "corpus_path"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training_type: preference", "`preference` is no language model; leave it out"),
        ("dpo: {}", "`dpo` is no language model; leave it out"),
        ("{training: 3, seed: 7}", "training: must be a mapping of settings"),
        ("corpus_path: {en: a.txt}", "corpus_path: must be a path or a list of paths"),
        ("corpus_path: ['']", "corpus_path: must be a path or a list of paths"),
    ],
)
def test_what_is_no_file_of_a_language_model_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidField, match=told):
        read(tmp_path, text)


@pytest.mark.parametrize("where", ["--corpus-source", "TUNESMITH_LM_CORPUS_SOURCE", "lm.yaml"])
def test_lm_train_does_not_choose_between_text_and_a_source_that_was_asked_for(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lm.yaml").write_text("corpus_source: synthetic" if where == "lm.yaml" else "{}")
    if where.startswith("TUNESMITH_LM_"):
        monkeypatch.setenv(where, "synthetic")
    flag = (where, "synthetic") if where.startswith("--") else ()

    result = cli("lm", "train", "--corpus-path", ".", *flag, "--config", "lm.yaml", "--output", "out")

    assert (result.code, Path("out").exists()) == (2, False)
    assert f"corpus_source ({where}) says where text comes from that nobody gives" in result.err
    assert "there is a corpus_path; leave one of them out" in result.err


def test_what_a_file_gives_is_told_whatever_the_file_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("default")
    file.write_text("{epochs: 3}")
    layer = lm_settings.of_file(file)

    told = list(lm_settings.in_words(specs.resolve(layer.spec), layer, given=True))

    assert told == ["training.epochs=3 (default)"]
