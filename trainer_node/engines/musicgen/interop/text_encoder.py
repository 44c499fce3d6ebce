"""The text encoder: audiocraft has none in its files, but fetches one of a few T5 models by name."""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer_node.engines.musicgen.interop.errors import ExportRefused

_PIECES = 32128  # of the vocabulary of all of them


class _Shape(NamedTuple):
    width: int
    layers: int
    heads: int
    inner: int
    gated: bool


# The names that audiocraft takes, and how these models are built. It has no width for flan-t5-xl and -xxl.
_KNOWN = {
    "t5-small": _Shape(512, 6, 8, 2048, False),
    "t5-base": _Shape(768, 12, 12, 3072, False),
    "t5-large": _Shape(1024, 24, 16, 4096, False),
    "t5-3b": _Shape(1024, 24, 32, 16384, False),
    "t5-11b": _Shape(1024, 24, 128, 65536, False),
    "google/flan-t5-small": _Shape(512, 8, 6, 1024, True),
    "google/flan-t5-base": _Shape(768, 12, 12, 2048, True),
    "google/flan-t5-large": _Shape(1024, 24, 16, 2816, True),
}


def name_for(config: Any, chosen: str) -> str:
    """The name by which audiocraft shall fetch the text encoder. chosen: by the user, or empty.

    Raises ExportRefused where none is built like this one, or where the chosen one is of another width.
    """
    if chosen:
        if chosen not in _KNOWN or _KNOWN[chosen].width == config.d_model:
            return chosen
        raise ExportRefused(
            f"--text-encoder {chosen} gives {_KNOWN[chosen].width} numbers a token, this model was trained with "
            f"{config.d_model}; {_of_width(config.d_model)}"
        )
    shape = _Shape(config.d_model, config.num_layers, config.num_heads, config.d_ff, config.is_gated_act)
    for name, known in _KNOWN.items():
        if known == shape and config.vocab_size == _PIECES:
            return name
    raise ExportRefused(
        f"audiocraft fetches its text encoder by name and knows none like this model's ({config.num_layers} layers of "
        f"{config.d_model} numbers, {config.vocab_size} pieces); {_of_width(config.d_model)}"
    )


def _of_width(width: int) -> str:
    names = [name for name, known in _KNOWN.items() if known.width == width]
    if not names:
        return f"it has none of width {width}, so export with --format merged"
    return f"where one of its own has the same weights, name it with --text-encoder: {', '.join(names)}"
