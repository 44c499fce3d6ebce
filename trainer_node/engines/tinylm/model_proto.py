"""SentencePiece's model file, looked at before SentencePiece does.

The C++ code trusts what it loads: offsets in a precompiled character map and the types of pieces decide where it reads.
So only a model of the shape that `tokenizer.train_model` writes gets there, and whatever else is a typed error.
"""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from trainer_node.engines.tinylm.errors import TokenizerInvalid

UNK, BOS, EOS, PAD = range(4)
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LARGEST_BYTES = 64_000_000
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # SentencePiece.Type
_LONGEST_PIECE = 64  # characters; SentencePiece writes at most 16


def bytes_last(model: bytes) -> bytes:
    """The same model with the 256 bytes behind all other pieces, so that ids are ordered by frequency.

    SentencePiece puts them in front; the model's tree of clusters takes the first ids for the most frequent.
    """
    proto = _parsed(model)
    pieces = list(proto.pieces)
    ordered = [*(one for one in pieces if one.type != _BYTE), *(one for one in pieces if one.type == _BYTE)]
    copies = [(one.piece, one.score, one.type) for one in ordered]
    del proto.pieces[:]
    for piece, score, kind in copies:
        proto.pieces.add(piece=piece, score=score, type=kind)
    return bytes(proto.SerializeToString(deterministic=True))


def require_own(model: bytes, name: str) -> None:
    """Raises TokenizerInvalid unless this is a whole model of the shape that we write."""
    if not model:
        raise TokenizerInvalid(f"{name} is empty; train it again")
    if len(model) > LARGEST_BYTES:
        raise TokenizerInvalid(f"{name} has {len(model):,} bytes, more than any tokenizer; give a tokenizer.model")
    try:
        wrong = _what_is_wrong(_parsed(model))
    except (DecodeError, UnicodeDecodeError) as error:
        raise TokenizerInvalid(f"{name} is cut off, or no SentencePiece model; train it again") from error
    if wrong:
        raise TokenizerInvalid(f"{name} is no tokenizer of Tunesmith's ({wrong}); train one")


def _parsed(model: bytes) -> Any:  # the generated module has no types
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made when it is imported
    proto.ParseFromString(model)
    return proto


def _what_is_wrong(proto: Any) -> str:
    """The first thing in which a model differs from ours, or nothing."""
    pieces = proto.pieces
    if len(pieces) <= len(SPECIAL) or tuple(one.piece for one in pieces[: len(SPECIAL)]) != SPECIAL:
        return "its first pieces are not <unk>, <s>, </s> and <pad>"
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if trainer.model_type != 1:
        return "it is not a unigram model"
    if (trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id) != (UNK, BOS, EOS, PAD):
        return "its special ids are others"
    if trainer.vocab_size != len(pieces):
        return f"it has {len(pieces):,} pieces and says {trainer.vocab_size:,}"
    if normalizer.precompiled_charsmap or normalizer.normalization_rule_tsv or proto.denormalizer_spec.ByteSize():
        return "it rewrites characters"
    if not normalizer.add_dummy_prefix or not normalizer.remove_extra_whitespaces or not normalizer.escape_whitespaces:
        return "it treats spaces in another way"
    return _wrong_piece(pieces, bytes_expected=trainer.byte_fallback)


def _wrong_piece(pieces: Any, *, bytes_expected: bool) -> str:
    texts = [one.piece for one in pieces]
    if not all(isinstance(text, str) for text in texts):  # protobuf gives bytes where it is no UTF-8
        return "a piece is no text"
    if len(set(texts)) != len(texts):
        return "a piece is there twice"
    kinds = [_UNKNOWN] + [_CONTROL] * 3
    if bytes_expected:
        if tuple(texts[-256:]) != BYTES:
            return "its bytes are not whole"
        kinds += [_NORMAL] * (len(texts) - len(kinds) - 256) + [_BYTE] * 256
    else:
        kinds += [_NORMAL] * (len(texts) - len(kinds))
    for number, (one, kind) in enumerate(zip(pieces, kinds, strict=False)):
        if one.type != kind or not 0 < len(one.piece) <= _LONGEST_PIECE or "\0" in one.piece:
            return f"piece {number} is of a kind that does not stand there"
        if not math.isfinite(one.score) or abs(one.score) > 1e6:
            return f"the score of piece {number} is not a number"
    return "" if len(kinds) == len(texts) else "it has too few pieces"
