"""audiocraft's settings of a decoder, `xp.cfg`: what is written, and what of a file can be read.

A checkpoint holds the whole configuration of its training, as the YAML of OmegaConf. What the model does follows from a
few of these; what this decoder cannot do is refused by name, so that no import plays something else than audiocraft.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from trainer_node.engines.musicgen.interop.errors import CheckpointRefused, ExportRefused

MOST_CODEBOOKS = 64  # of all channels; Meta's models have 4 of each
_LARGEST = 10**9  # of a size: no model comes near it
_MISSING = object()
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")

# How MusicGen's transformer is built, apart from its size.
_TRANSFORMER = {
    "activation": "gelu",
    "norm_first": True,
    "norm": "layer_norm",
    "bias_ff": False,
    "bias_attn": False,
    "bias_proj": False,
    "past_context": None,
    "causal": True,
    "layer_scale": None,
    "positional_embedding": "sin",
    "xpos": False,
    "qk_layer_norm": False,
    "qk_layer_norm_cross": False,
    "kv_repeat": 1,
}
_NEEDED = {"activation", "norm_first", "causal"}  # left out, these are not as here
_FUSER = {"cross_attention_pos_emb": False, "sum": [], "prepend": [], "cross": ["description"], "input_interpolate": []}


@dataclass(frozen=True)
class DecoderSettings:
    """The size of a decoder and what surrounds it. sample_rate_hz: of the codec. codebooks: of all channels."""

    width: int
    heads: int
    layers: int
    inner: int
    codebooks: int
    codebook_size: int
    channels: int
    sample_rate_hz: int
    text_encoder: str


def text_of(config: Any, text_encoder: str) -> str:
    """The settings that audiocraft builds such a model from, as YAML. config: of the whole MusicGen model.

    Raises ExportRefused where audiocraft has no such decoder.
    """
    decoder, codec = config.decoder, config.audio_encoder
    if decoder.scale_embedding or decoder.activation_function != "gelu":
        raise ExportRefused(
            f"the decoder scales its embeddings or uses {decoder.activation_function}, which audiocraft's does not; "
            "export with --format merged instead"
        )
    channels = decoder.audio_channels
    settings = {
        "solver": "musicgen",
        "device": "cpu",
        "dtype": "float32",
        "sample_rate": codec.sampling_rate,
        "channels": channels,
        "compression_model_checkpoint": None,
        "compression_model_n_q": None,
        "interleave_stereo_codebooks": {"use": channels == 2, "per_timestep": False},
        "dataset": {"segment_duration": 30},
        "lm_model": "transformer_lm",
        "transformer_lm": {
            **_TRANSFORMER,
            "dim": decoder.hidden_size,
            "num_heads": decoder.num_attention_heads,
            "num_layers": decoder.num_hidden_layers,
            "hidden_scale": _whole(decoder.ffn_dim / decoder.hidden_size),
            "n_q": decoder.num_codebooks,
            "card": decoder.vocab_size,
            "dropout": 0.0,
            "attention_dropout": None,
            "emb_lr": None,
            "custom": False,
            "memory_efficient": True,
            "attention_as_float32": False,
            "checkpointing": "none",
            "weight_init": "gaussian",
            "depthwise_init": "current",
            "zero_bias_init": True,
            "cross_attention": True,
            "two_step_cfg": False,
        },
        "codebooks_pattern": {"modeling": "delay", "delay": _delay(decoder.num_codebooks, channels)},
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {},
        "fuser": {**_FUSER, "cross_attention_pos_emb_scale": 1},
        "conditioners": {
            "description": {
                "model": "t5",
                "t5": {"name": text_encoder, "finetune": False, "word_dropout": 0.0, "normalize_text": False},
            }
        },
    }
    return yaml.safe_dump(settings, sort_keys=False)


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _delay(codebooks: int, channels: int) -> dict[str, object]:
    return {"delays": [k // channels for k in range(codebooks)], "flatten_first": 0, "empty_initial": 0}


def read(text: str) -> DecoderSettings:
    """The settings in a checkpoint. Raises CheckpointRefused with all that makes it another kind of model."""
    values = _values(text)
    if problems := list(_differences(values)):
        raise CheckpointRefused(
            f"the checkpoint is not a MusicGen model of text to music: {'; '.join(problems)}; only such can be imported"
        )
    width = values.whole("transformer_lm.dim")
    return DecoderSettings(
        width=width,
        heads=values.whole("transformer_lm.num_heads"),
        layers=values.whole("transformer_lm.num_layers"),
        inner=int(values.number("transformer_lm.hidden_scale") * width),
        codebooks=values.whole("transformer_lm.n_q"),
        codebook_size=values.whole("transformer_lm.card"),
        channels=values.whole("channels"),
        sample_rate_hz=values.whole("sample_rate"),
        text_encoder=str(values.get("conditioners.description.t5.name")),
    )


def sample_rate_hz(text: str) -> int:
    """The sampling rate in the settings of a codec. Raises CheckpointRefused."""
    return _values(text).whole("sample_rate")


def _values(text: str) -> _Values:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CheckpointRefused(f"the settings in the checkpoint are no YAML: {error}; export it again") from error
    return _Values(tree if isinstance(tree, dict) else {})


def _differences(values: _Values) -> Iterator[str]:
    """Each setting that makes the model another one than this decoder can be."""
    conditions = set(values.get("conditioners") or {}) - {"args"}
    if conditions != {"description"} or values.get("conditioners.description.model") != "t5":
        yield f"its conditions are {', '.join(sorted(conditions)) or 'none'}, not a description read by T5"
    wanted: dict[str, object] = {  # others may be missing: then they are so by audiocraft's defaults
        "lm_model": "transformer_lm",
        "codebooks_pattern.modeling": "delay",
        "conditioners.description.t5.finetune": False,
        **{f"transformer_lm.{name}": value for name, value in _TRANSFORMER.items()},
        **{f"fuser.{name}": value for name, value in _FUSER.items()},
    }
    channels, codebooks = values.get("channels"), values.get("transformer_lm.n_q")
    if isinstance(codebooks, int) and codebooks > MOST_CODEBOOKS:
        yield f"transformer_lm.n_q is {codebooks}, more than {MOST_CODEBOOKS}"
    elif channels in (1, 2) and isinstance(codebooks, int):
        delay = _delay(codebooks, channels)
        wanted |= {f"codebooks_pattern.delay.{name}": value for name, value in delay.items()}
        wanted["interleave_stereo_codebooks.use"] = channels == 2
        wanted["interleave_stereo_codebooks.per_timestep"] = False
    else:
        yield f"channels are {channels!r}, not 1 or 2"
    for path, value in wanted.items():
        found = values.get(path, _MISSING)
        if found is _MISSING and path.removeprefix("transformer_lm.") in _NEEDED:
            yield f"{path} is missing"
        elif found is not _MISSING and found != value:
            yield f"{path} is {found!r}, not {value!r}"


class _Values:
    """Settings by their dotted path; a reference such as `${sample_rate}` is followed."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    def get(self, path: str, missing: Any = None) -> Any:
        """The value there."""
        return self._resolved(path, missing, depth=0)

    def _resolved(self, path: str, missing: Any, depth: int) -> Any:
        value: Any = self.tree
        for name in path.split("."):
            if not isinstance(value, dict) or name not in value:
                return missing
            value = value[name]
        if isinstance(value, str) and (found := _REFERENCE.fullmatch(value)) and depth < 10:
            return self._resolved(found.group(1), missing, depth + 1)
        return value

    def whole(self, path: str) -> int:
        """A whole number above 0 there. Raises CheckpointRefused."""
        value = self.number(path)
        if value != int(value):
            raise CheckpointRefused(f"{path} in the checkpoint's settings is {value}, no whole number; export it again")
        return int(value)

    def number(self, path: str) -> float:
        """A number above 0 there that a size can be. Raises CheckpointRefused."""
        value = self.get(path)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _LARGEST:
            what = f"{path} in the checkpoint's settings is {value!r:.80}, no usable number; export it again"
            raise CheckpointRefused(what)
        return float(value)
