"""The tokenizer: bit-identical for equal text, whole or absent, and without loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_node.engines.tinylm import inspection, paragraphs
from trainer_node.engines.tinylm import tokenizer as tokenizers
from trainer_node.engines.tinylm.corpus import Corpus
from trainer_node.engines.tinylm.errors import CorpusInvalid, TokenizerInvalid, VocabularyTooLarge, VocabularyTooSmall
from trainer_node.engines.tinylm.tokenizer import Tokenizer, load, train, train_model

ODD = "¿Qué? 👩‍👩‍👧 你好 ﬁn ½ naïve <s> </s> <pad> <0x41> ﷽ e\u0323\u0302"


def test_equal_text_gives_equal_bytes(corpus: Corpus, tokenizer_folder: Path, tmp_path: Path):
    train(corpus, tmp_path / "again", vocab_size=600)

    for name in (tokenizers.MODEL, tokenizers.VOCAB, tokenizers.MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (tokenizer_folder / name).read_bytes()


def test_special_pieces_have_their_ids_and_bytes_come_last(tokenizer: Tokenizer):
    texts = [piece.text for piece in inspection.pieces(tokenizer)]

    assert texts[:4] == ["<unk>", "<s>", "</s>", "<pad>"]
    assert texts[-256:] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert tokenizer.byte_fallback


def test_the_more_frequent_a_piece_the_smaller_its_id(tokenizer: Tokenizer):
    scores = [piece.score for piece in inspection.pieces(tokenizer)[4:-256]]

    assert scores == sorted(scores, reverse=True)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_no_character_is_lost(tokenizer: Tokenizer, text: str):
    said = tokenizer.decode(tokenizer.encode(text))

    assert said == paragraphs.clean(text)


def test_emoji_other_scripts_and_what_looks_special_come_back(tokenizer: Tokenizer):
    ids = tokenizer.encode(ODD)

    assert tokenizer.decode(ids) == paragraphs.clean(ODD)
    assert not {0, 1, 2, 3} & set(ids)


def test_bytes_of_a_terminal_that_are_no_text_are_refused(tokenizer: Tokenizer):
    given = os.fsdecode(b"caf\xe9")  # as a program's argument comes from a terminal that writes Latin-1

    with pytest.raises(CorpusInvalid, match=r"bytes at character 4 that are no UTF-8; write it in UTF-8"):
        tokenizer.encode(given)


def test_without_byte_fallback_unknown_characters_are_counted_as_unknown(corpus: Corpus):
    made = Tokenizer(train_model(corpus.paragraphs("train"), vocab_size=400, byte_fallback=False))

    found = inspection.coverage_of(made, "und", ["你 a 好"])

    assert not made.byte_fallback
    assert found.unknown_rate == pytest.approx(2 / found.tokens)
    assert found.byte_rate == 0


def test_ids_that_mean_nothing_are_no_text_and_ids_that_are_none_are_named(tokenizer: Tokenizer):
    begin, end, lone_byte = 1, 2, tokenizer.vocab_size - 1

    said = tokenizer.decode([begin, *tokenizer.encode("sí"), lone_byte, end, 3])

    assert said == "sí\ufffd"
    with pytest.raises(ValueError, match="there is no piece 600; ids are 0 to 599"):
        tokenizer.decode([600])


def test_a_whole_corpus_becomes_one_array_with_an_end_behind_each_paragraph(tokenizer: Tokenizer, corpus: Corpus):
    made = tokenizer.encode_corpus(corpus, "validation")

    spanish = list(corpus.paragraphs("validation", "es"))
    count = made.counts["en"]
    assert made.tokens.dtype == np.uint16
    assert made.tokens[count:].tolist() == [one for text in spanish for one in [*tokenizer.encode(text), 2]]
    assert sum(made.counts.values()) == len(made.tokens)


def test_coverage_tells_characters_a_token_by_language(tokenizer: Tokenizer, corpus: Corpus):
    english, spanish = inspection.coverage(tokenizer, corpus)

    assert (english.language, spanish.language) == ("en", "es")
    assert 1.5 < english.characters_per_token < 5
    assert english.unknown_rate == spanish.unknown_rate == 0
    assert english.characters == sum(map(len, corpus.paragraphs("validation", "en")))


def test_a_text_is_shown_as_pieces_with_ids(tokenizer: Tokenizer):
    shown = inspection.encoded(tokenizer, "the house")

    assert "".join(piece.text for piece in shown) == "▁the▁house"
    assert [piece.id for piece in shown] == tokenizer.encode("the house")


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_a_vocabulary_too_large_names_the_largest_that_fits(corpus: Corpus, tmp_path: Path, byte_fallback: bool):
    with pytest.raises(VocabularyTooLarge) as refused:
        train(corpus, tmp_path, vocab_size=30_000, byte_fallback=byte_fallback)

    largest = refused.value.largest
    assert train(corpus, tmp_path, vocab_size=largest, byte_fallback=byte_fallback).vocab_size == largest
    assert refused.value.message == (
        f"the corpus has too little text for 30,000 pieces; set vocab_size to {largest} or less, or add text"
    )


@pytest.mark.parametrize("byte_fallback", [True, False])
def test_a_vocabulary_too_small_names_the_smallest_that_fits(corpus: Corpus, byte_fallback: bool):
    texts = list(corpus.paragraphs("train"))

    with pytest.raises(VocabularyTooSmall) as refused:
        train_model(texts, vocab_size=20, byte_fallback=byte_fallback)

    smallest = refused.value.smallest
    made = Tokenizer(train_model(texts, vocab_size=smallest, byte_fallback=byte_fallback))
    assert made.vocab_size == smallest


def test_no_text_is_refused():
    with pytest.raises(CorpusInvalid, match="there is no text to train a tokenizer on"):
        train_model(["", ""], vocab_size=100)


def test_of_a_large_corpus_paragraphs_at_equal_distances_are_looked_at(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tokenizers, "TRAINED_ON_BYTES", corpus.size_bytes // 2)

    part = train(corpus, tmp_path / "part", vocab_size=400)

    monkeypatch.undo()
    assert part.fingerprint != train(corpus, tmp_path / "whole", vocab_size=400).fingerprint
    assert part.decode(part.encode("¿Qué tal, Henry?")) == "¿Qué tal, Henry?"


def test_a_model_file_alone_can_be_loaded(tokenizer: Tokenizer, tokenizer_folder: Path):
    alone = load(tokenizer_folder / "tokenizer.model")

    assert alone.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: b"", "is empty"),
        (lambda model: model[: len(model) // 2], "is cut off, or no SentencePiece model"),
        (lambda model: os.urandom(1) + b"\xff" * 2_000, "is cut off, or no SentencePiece model"),
        (lambda model: b"\0" * 100, "is cut off, or no SentencePiece model"),
        (lambda model: model.replace(b"<0x41>", b"<0xZZ>"), "its bytes are not whole"),
        (lambda model: model.replace(b"<0x41>", b"<0x42>"), "a piece is there twice"),
        (lambda model: model.replace(b"<pad>", b"\xff\xfe\xfd\xfc\xfb"), "its first pieces are not"),
        (lambda model: model + b"\x1a\x05\x12\x03abc", "it rewrites characters"),
    ],
    ids=["empty", "truncated", "garbage", "zeros", "a byte less", "a byte twice", "no text", "a character map"],
)
def test_a_file_that_is_no_model_of_ours_is_refused_before_sentencepiece_sees_it(
    tokenizer_folder: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str
):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(change((tokenizer_folder / tokenizers.MODEL).read_bytes()))

    with pytest.raises(TokenizerInvalid) as refused:
        load(path)

    assert said in refused.value.message
    assert refused.value.message.startswith(str(path))
    assert refused.value.reason == "DATA_INVALID"


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(TokenizerInvalid, match=r"give a tokenizer\.model, or the folder that has one"):
        load(tmp_path / "absent.model")


def test_a_folder_with_other_bytes_than_its_manifest_says_is_not_whole(tokenizer_folder: Path, tmp_path: Path):
    for name in (tokenizers.MODEL, tokenizers.VOCAB, tokenizers.MANIFEST):
        (tmp_path / name).write_bytes((tokenizer_folder / name).read_bytes())
    (tmp_path / tokenizers.VOCAB).write_text("other\n")

    with pytest.raises(
        TokenizerInvalid,
        match=r"tokenizer\.vocab has other bytes.*\); download it again, or train it again",
    ):
        load(tmp_path)


TRAIN = """
import sys
from pathlib import Path
from trainer_node.engines.tinylm import corpus, tokenizer

class Announced(corpus.Corpus):
    def paragraphs(self, part, code=None):
        yield from super().paragraphs(part, code)
        print("SentencePiece has all its text", flush=True)

made = corpus.load(Path(sys.argv[1]))
tokenizer.train(Announced(**vars(made)), Path(sys.argv[2]), vocab_size=600)
print("done", flush=True)
"""


@pytest.mark.parametrize("before", [0, 400])
def test_a_training_that_is_killed_leaves_nothing_or_what_was_there(
    corpus: Corpus, tokenizer_folder: Path, tmp_path: Path, before: int
):
    there = train(corpus, tmp_path / "made", vocab_size=before).fingerprint if before else ""
    child = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(corpus.folder), str(tmp_path / "made")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "SentencePiece has all its text\n"
    child.kill()

    rest = child.communicate()[0]

    assert (child.returncode, rest) == (-signal.SIGKILL, "")
    if there:
        assert load(tmp_path / "made").fingerprint == there
    else:
        assert not (tmp_path / "made").exists()
    train(corpus, tmp_path / "made", vocab_size=600)
    assert load(tmp_path / "made").fingerprint == load(tokenizer_folder).fingerprint
