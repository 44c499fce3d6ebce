"""`tunesmith run submit` of a language model: settings as `lm train` takes them, and text that is uploaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.plane import FakePlane
from tests.cli.plane_state import id_of
from tunesmith.v1 import experiment_pb2, job_spec_pb2

TEXTS = {"en.txt": "It was a dark night.\n", "es/quijote.txt": "En un lugar de la Mancha.\n"}


@pytest.fixture
def lm_yaml(fake: FakePlane, tmp_path: Path) -> Path:
    """A file for `lm train` and for `run submit`, its corpus beside it."""
    fake.state.experiments.append(experiment_pb2.Experiment(experiment_id=id_of("exp", 1), name="tales"))
    for path, text in TEXTS.items():
        (tmp_path / "texts" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / path).write_text(text)
    file = tmp_path / "lm.yaml"
    file.write_text("training_type: tiny_lm\ncorpus_path: texts\nepochs: 3\nmodel: {layers: 1}\n")
    return file


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def submit(cli: Run, *args: object) -> tuple[int, str, str]:
    result = cli("run", "submit", *map(str, args), "--experiment", "tales", "-d")
    return result.code, result.out, result.err


def test_text_beside_the_file_is_uploaded_and_the_run_names_it(cli: Run, fake: FakePlane, lm_yaml: Path) -> None:
    code, out, err = submit(cli, lm_yaml)

    (request,) = fake.state.requests
    lm = request.spec.tiny_lm
    assert (code, "state=QUEUED" in out) == (0, True)
    assert {file.name: file.digest for file in lm.corpus.corpus_files} == {
        name: digest(text) for name, text in TEXTS.items()
    }
    assert fake.state.blobs == {digest(text): text.encode() for text in TEXTS.values()}
    assert (lm.training.epochs, lm.model.layers, lm.training.HasField("batch_size")) == (3, 1, False)
    assert "learns from 2 text files (en 1, es 1), 47 bytes\n" in err


@pytest.mark.parametrize(
    "text",
    [
        "tiny_lm: {training: {epochs: 3}, model: {layers: 1}}\ncorpus_path: texts\n",
        "{corpus_path: [texts], training: {epochs: 3}, layers: 1}",
        "{tiny_lm: {epochs: 3, layers: 1, corpus_path: texts}, threads: 2, output: made}",
    ],
    ids=["below its kind", "kind left out", "as lm train wrote it"],
)
def test_every_form_that_lm_train_takes_is_taken(cli: Run, fake: FakePlane, lm_yaml: Path, text: str) -> None:
    lm_yaml.write_text(text)

    code, _, err = submit(cli, lm_yaml)

    (request,) = fake.state.requests
    assert code == 0
    assert len(request.spec.tiny_lm.corpus.corpus_files) == 2
    assert (request.spec.tiny_lm.training.epochs, request.spec.tiny_lm.model.layers) == (3, 1)
    told = f"output, threads of {lm_yaml} left out: the node decides; they are for `tunesmith lm train`"
    assert (told in err) == ("threads" in text)


def test_flags_stand_above_the_file_and_their_paths_are_those_of_the_shell(
    cli: Run, fake: FakePlane, lm_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lm_yaml.parent / "texts")

    submit(cli, lm_yaml, "--corpus-path", "es", "--epochs", "5", "--set", "vocab_size=500", "--head", "plain")

    lm = fake.state.requests[0].spec.tiny_lm
    assert [file.name for file in lm.corpus.corpus_files] == ["es/quijote.txt"]
    assert (lm.training.epochs, lm.tokenizer.vocab_size, lm.model.head) == (5, 500, job_spec_pb2.LM_HEAD_PLAIN)


def test_text_alone_asks_for_a_language_model(cli: Run, fake: FakePlane, lm_yaml: Path) -> None:
    code, _, _ = submit(cli, "--corpus-path", lm_yaml.parent / "texts" / "en.txt")

    assert code == 0
    assert [file.name for file in fake.state.requests[0].spec.tiny_lm.corpus.corpus_files] == ["en.txt"]


def test_text_that_is_there_is_not_sent_again(cli: Run, fake: FakePlane, lm_yaml: Path) -> None:
    fake.add_blob(TEXTS["en.txt"].encode())
    fake.state.cuts["upload"] = [1 << 30, 0]  # a second upload would be cut, and begun anew

    code, _, _ = submit(cli, lm_yaml)

    assert code == 0
    assert fake.state.cuts["upload"] == [0]


def test_a_dry_run_uploads_nothing_and_shows_the_corpus(cli: Run, fake: FakePlane, lm_yaml: Path) -> None:
    code, out, err = submit(cli, lm_yaml, "--dry-run")

    assert (code, fake.state.blobs, fake.state.runs) == (0, {}, {})
    assert "spec.tiny_lm.corpus.corpus_files[1].name=es/quijote.txt" in out.splitlines()
    assert "learns from 2 text files" in err


def test_without_text_of_ones_own_it_is_told_what_is_learned_from(cli: Run, fake: FakePlane, lm_yaml: Path) -> None:
    kept = job_spec_pb2.CorpusFile(name="en.txt", digest=fake.add_blob(b"text"))
    fake.state.experiments[0].default_spec.tiny_lm.corpus.corpus_files.append(kept)

    of_the_experiment = submit(cli)[2]
    fake.state.experiments[0].default_spec.Clear()
    downloaded = submit(cli, "--training-type", "tiny_lm")[2]
    synthetic = submit(cli, "--training-type", "tiny_lm", "--corpus-source", "synthetic")[2]

    assert "learns from the text file of its experiment\n" in of_the_experiment
    assert "learns from works in the public domain, which the node downloads (3 MB); --corpus-path" in downloaded
    assert "learns from SYNTHETIC sentences, which mean nothing; --corpus-path" in synthetic


@pytest.mark.parametrize(
    ("text", "args", "told"),
    [
        ("corpus_path: nowhere", (), "there is no "),
        ("corpus_path: empty.txt", (), "is empty; give a file with text, a paragraph a line"),
        ("corpus_path: []", (), "corpus_path: must be a path or a list of paths (given: [])"),
        ("corpus_path:", (), "corpus_path: must be a path or a list of paths (given: None)"),
        ("corpus_pth: texts", (), "corpus_pth: unknown key; did you mean corpus_path?"),
        ("{corpus_path: texts, epoch: 3}", (), "tiny_lm.epoch: unknown key; did you mean epochs?"),
        ("{corpus_path: texts, supervised: {}}", (), "corpus_path is for tiny_lm, and this is for supervised"),
        ("corpus_path: texts", ("--training-type", "ranking"), "and this is for ranking; leave one of them out"),
        ("{tiny_lm: {}, dpo: {}}", (), "`dpo` is no language model"),
        ("corpus_path: texts", ("--dataset", "songs"), "dataset does not go with tiny_lm, which learns from text"),
        ("corpus_path: texts", ("--min-rating", "4"), "min_rating does not go with tiny_lm"),
        ("corpus_path: texts", ("--start-adapter", "a"), "start_adapter does not go with tiny_lm"),
        ("corpus_path: texts", ("--corpus-source", "synthetic"), "there is a corpus_path; leave one of them out"),
        ("corpus_path: texts", ("--lora-r", "4"), "lora_r: unknown here; it belongs under supervised.adapter"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    cli: Run, fake: FakePlane, lm_yaml: Path, text: str, args: tuple[str, ...], told: str
) -> None:
    (lm_yaml.parent / "empty.txt").touch()
    lm_yaml.write_text(text)

    code, _, err = submit(cli, lm_yaml, *args)

    assert code == 2
    assert told in err
    assert (fake.state.requests, fake.state.blobs) == ([], {})


def test_ctrl_c_while_text_is_sent_says_that_nothing_was_queued(
    cli: Run, fake: FakePlane, lm_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.client.transfer.upload_blob", interrupted)

    code, _, err = submit(cli, lm_yaml)

    assert code == 130
    assert "nothing was queued; run it again: what was uploaded is not sent twice" in err
    assert not fake.state.runs
