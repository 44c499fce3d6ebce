"""`tunesmith lm sample|eval|tokenizer` on a model that was just made."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.main import main
from tests.cli.conftest import Run
from tests.cli.lm import TRAIN
from trainer_node.engines.tinylm.synthetic import write_synthetic


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder; never changed."""
    folder = tmp_path_factory.mktemp("lm")
    write_synthetic(folder / "texts", size_bytes=40_000)
    args = ("--corpus-path", str(folder / "texts"), "--output", str(folder / "model"), "--epochs", "1")
    assert main((*TRAIN, *args)) == 0
    return folder / "model"


def test_a_sample_goes_on_with_the_prompt_and_the_same_seed_gives_the_same_text(cli: Run, model: Path):
    one, again, other = (cli("lm", "sample", str(model), "The miller", "--seed", seed) for seed in ("1", "1", "2"))

    assert one.code == 0
    assert one.out.startswith("The miller")
    assert one.out == again.out != other.out


def test_a_sample_as_json_and_from_the_model_that_is_named(cli: Run, model: Path):
    args = ("El molinero", "--temperature", "0", "--top-k", "5", "--max-tokens", "4", "-o", "json")

    result = cli("lm", "sample", str(model / "final_model.pt"), *args)

    assert result.json["prompt"] == "El molinero"
    assert result.json["text"].startswith("El molinero")


def test_a_sample_of_a_model_of_the_default_size_takes_less_than_512_mb(model: Path, tmp_path: Path):
    of_default_size(tmp_path, model)
    program = (
        "import sys; from services.cli.main import main; code = main(sys.argv[1:]); "
        "print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, "lm", "sample", str(tmp_path), "The miller", "--max-tokens", "200"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stdout.startswith("The miller")
    peak_kib = int(re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)[0])
    assert 100 * 1024 < peak_kib < 512 * 1024


def of_default_size(folder: Path, small: Path) -> None:
    """A model with all its pieces, untrained; those that the small one lacks are made up."""
    from sentencepiece import sentencepiece_model_pb2

    from trainer_node.engines.tinylm import artefacts, model_proto, sealed, tokenizer
    from trainer_node.engines.tinylm.model import TinyTransformer
    from trainer_node.engines.tinylm.settings import ModelSettings

    shape = ModelSettings(vocab_size=8000)
    proto = sentencepiece_model_pb2.ModelProto.FromString((small / "tokenizer" / tokenizer.MODEL).read_bytes())
    for number in range(shape.vocab_size - len(proto.pieces)):
        proto.pieces.add(piece=f"x{number}", score=-20)
    proto.trainer_spec.vocab_size = shape.vocab_size
    pieces = model_proto.bytes_last(proto.SerializeToString())
    content = {tokenizer.MODEL: pieces, tokenizer.VOCAB: tokenizer.vocab(tokenizer.Tokenizer(pieces)).encode()}
    sealed.write_whole(folder / "tokenizer", tokenizer.MANIFEST, content, {})
    artefacts.save(folder / "best_model.pt", TinyTransformer(shape).state_dict(), shape, {})


def test_a_sample_without_a_prompt_begins_a_text(cli: Run, model: Path):
    result = cli("lm", "sample", str(model), "--max-tokens", "5")

    assert result.code == 0
    assert result.out.strip()


def test_a_text_is_measured_in_nats_perplexity_and_bits(cli: Run, model: Path):
    held_out = model / "corpus" / "validation" / "en.txt"

    facts = cli("lm", "eval", str(model), str(held_out), "-o", "json").json
    plain = cli("lm", "eval", str(model), str(held_out)).out

    characters = len(held_out.read_text())
    assert facts["characters"] == characters
    assert facts["perplexity"] == pytest.approx(math.exp(facts["loss"]))
    assert facts["bits_per_character"] == pytest.approx(facts["loss"] * facts["tokens"] / math.log(2) / characters)
    assert plain.startswith("loss=") and " bits_per_character=" in plain


def test_a_tokenizer_shows_its_pieces_and_how_it_covers_the_languages(cli: Run, model: Path):
    whole = cli("lm", "tokenizer", "inspect", str(model), "--first", "6", "-o", "json").json
    alone = cli("lm", "tokenizer", "inspect", str(model / "tokenizer" / "tokenizer.model"))

    assert (whole["pieces"], whole["byte_fallback"]) == (400, True)
    assert [one["piece"] for one in whole["first"][:4]] == ["<unk>", "<s>", "</s>", "<pad>"]
    assert [one["language"] for one in whole["coverage"]] == ["en", "es"]
    assert all(one["characters_per_token"] > 1 for one in whole["coverage"])
    assert alone.code == 0 and "pieces=400" in alone.out


def test_a_text_is_cut_into_pieces_that_make_it_up_again(cli: Run, model: Path):
    cut = cli("lm", "tokenizer", "encode", str(model), "The river", "-o", "json").json
    plain = cli("lm", "tokenizer", "encode", str(model), "The river").out.splitlines()

    assert "".join(cut["pieces"]) == "▁The▁river"
    assert len(plain) == len(cut["ids"])
    assert plain[0].startswith("id=")


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("sample", "{empty}"), 9, "or train again"),
        (("sample", "{model}", "--temperature", "-1"), 2, "temperature: -1.0 is not within 0 to 10; give 0.8"),
        (("sample", "{model}", "--temperature", "nan"), 2, "temperature: nan is not within 0 to 10; give 0.8"),
        (("sample", "{model}", "--seed", "9" * 23), 2, "is not within 0 to 2,147,483,647; give any whole number in it"),
        (("eval", "{model}", "{empty}/none.txt"), 2, "there is no "),
        (("eval", "{model}", "{blank}"), 2, "holds no text; give a file with text, a paragraph a line"),
        (("tokenizer", "inspect", "{empty}"), 2, "train it again"),
        (("tokenizer", "encode", "{blank}", "x"), 2, "train it again"),
        (("sample", "{mixed}"), 9, "was trained with another tokenizer"),
    ],
)
def test_what_cannot_be_used_is_told_with_what_to_do(
    cli: Run, model: Path, tmp_path: Path, args: tuple[str, ...], code: int, told: str
):
    (tmp_path / "blank.txt").write_text("")
    mixed = Path(shutil.copytree(model, tmp_path / "mixed"))
    for name in ("tokenizer.model", "tokenizer.vocab", "tokenizer.json"):
        shutil.copy(other_tokenizer(tmp_path, model) / name, mixed / "tokenizer" / name)
    places = {
        "model": model, "mixed": mixed, "empty": tmp_path / "empty", "blank": tmp_path / "blank.txt",
    }  # fmt: skip
    (tmp_path / "empty").mkdir()

    result = cli("lm", *(arg.format(**places) for arg in args))

    assert result.code == code
    assert told in result.err


def other_tokenizer(tmp_path: Path, model: Path) -> Path:
    """A tokenizer of the same corpus with another size."""
    from trainer_node.engines.tinylm import corpus, tokenizer

    folder = tmp_path / "other"
    if not folder.exists():
        tokenizer.train(corpus.load(model / "corpus"), folder, vocab_size=401)
    return folder
