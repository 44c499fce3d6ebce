"""The MusicGen family: load a base model, put LoRA on its decoder, encode, collate and score.

What a training method sees of the model is `Clip`s in and logits out. Three things here were found the hard way:

* The model is called with T5's states and the decoder's inputs given, and through its own `forward`: then T5 and
  EnCodec do not run, and wrappers around the model (DDP, compile) still work.
* Dropout is off. transformers' decoder configurations say 0.1, the models were trained with 0, and with 0.1 the
  log-probability of one clip varies by tens of nats from pass to pass.
* EnCodec takes the highest bandwidth by name (its default is the lowest), one clip at a time (padding changes the
  codes at the end of a clip) and in 32 bits, whatever the decoder runs in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from huggingface_hub import HfApi
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from trainer_node.engines.musicgen import codes, fingerprints
from trainer_node.errors import BaseModelUnavailable
from trainer_node.lora_targets import LORA_TARGETS
from tunesmith.v1 import job_spec_pb2

# What transformers and safetensors raise over a model that is missing, cut or foreign.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError, SafetensorError)


@dataclass(frozen=True)
class Clip:
    """What the decoder learns from. codes_KT: int16 EnCodec codes; text_LD: T5's states of the prompt, 32-bit."""

    codes_KT: Tensor
    text_LD: Tensor


class Batch(TypedDict):
    """Clips side by side, padded. labels_BKS: delayed codes, IGNORE where there is no target."""

    text_BLD: Tensor
    mask_BL: Tensor
    labels_BKS: Tensor


@dataclass(frozen=True)
class BaseModel:
    """A loaded base model, all of it in 32 bits, frozen, in eval mode and without dropout."""

    name: str
    model: MusicgenForConditionalGeneration
    tokenizer: Any  # transformers' tokenizers have no types

    @property
    def clip_hz(self) -> int:
        """Sampling rate of the codec."""
        return int(self.model.config.audio_encoder.sampling_rate)

    @property
    def frame_rate_hz(self) -> float:
        """Code frames a second."""
        return float(self.clip_hz / np.prod(self.model.config.audio_encoder.upsampling_ratios))

    @property
    def channels(self) -> int:
        """1 for mono, 2 for stereo."""
        return int(self.model.config.decoder.audio_channels)

    def codec_fingerprint(self) -> str:
        """What codes depend on beside the audio."""
        settings = {"bandwidth": self._bandwidth, "channels": self.channels, "clip_hz": self.clip_hz}
        return fingerprints.of_weights(self.model.audio_encoder, settings)

    def text_fingerprint(self) -> str:
        """What text states depend on beside the prompt."""
        return fingerprints.of_weights(self.model.text_encoder, {"vocabulary": self.tokenizer.get_vocab()})

    def decoder_fingerprint(self) -> str:
        """The weights that an adapter is trained on top of."""
        trained_on = torch.nn.ModuleDict({"decoder": self.model.decoder})
        if hasattr(self.model, "enc_to_dec_proj"):
            trained_on["enc_to_dec_proj"] = self.model.enc_to_dec_proj
        return fingerprints.of_weights(trained_on, self.model.config.decoder.to_diff_dict())

    def encoder_fingerprints(self) -> dict[str, str]:
        """What features depend on beside clips and prompts. Takes a while: all weights of the encoders are read."""
        return {"codec": self.codec_fingerprint(), "text": self.text_fingerprint()}

    def fingerprint(self, encoders: Mapping[str, str] | None = None) -> str:
        """What a training and its adapter know this base model by. encoders: their fingerprints, where at hand."""
        encoders = self.encoder_fingerprints() if encoders is None else encoders
        return fingerprints.of_values({**encoders, "decoder": self.decoder_fingerprint()})

    def can_decode(self, codes_KT: Tensor) -> bool:
        """Whether these could be codes of a clip: as many codebooks, and none beyond their ends."""
        decoder = self.model.config.decoder
        fits = len(codes_KT) == decoder.num_codebooks and codes_KT.numel() > 0
        return fits and int(codes_KT.min()) >= 0 and int(codes_KT.max()) < decoder.vocab_size

    @property
    def _bandwidth(self) -> float:
        return float(self.model.config.audio_encoder.target_bandwidths[-1])

    @torch.no_grad()
    def encode_audio(self, clip_CN: NDArray[np.float32]) -> Tensor:
        """codes_KT (int16, on the CPU) of a clip at the codec's rate, with the model's number of channels."""
        codec = self.model.audio_encoder
        sound = torch.from_numpy(clip_CN).to(codec.device)[:, None]  # each channel is a batch row
        chunks = codec.encode(sound, bandwidth=self._bandwidth).audio_codes  # [chunk, channel, level, T]
        codes_CLT = torch.cat(list(chunks), -1)
        return codes_CLT.transpose(0, 1).flatten(0, 1).to(torch.int16).cpu()  # in stereo L0 R0 L1 R1 …

    @torch.no_grad()
    def encode_text(self, prompt: str) -> Tensor:
        """text_LD (32-bit, on the CPU): T5's states, before the projection to the decoder, which may be trained."""
        tokens = self.tokenizer([prompt], return_tensors="pt").to(self.model.text_encoder.device)
        states: Tensor = self.model.text_encoder(**tokens).last_hidden_state[0]
        return states.float().cpu()


def load_base(source: Path | str, *, name: str) -> BaseModel:
    """Load a base model from a folder or by Hugging Face id. Raises BaseModelUnavailable with the next step.

    An id that was fetched before is read from the cache, without asking the network.
    """
    try:
        model, tokenizer = _read(source)
    except _UNREADABLE as error:
        if isinstance(source, Path):
            why = f"the base model folder {name!r} cannot be read: {_first_line(error)}"
            raise BaseModelUnavailable(f"{why}; copy the whole model folder again", base_model=name) from error
        model, tokenizer = _fetch(source)
    model.requires_grad_(False)
    model.eval()
    _switch_dropout_off(model)
    return BaseModel(name=name, model=model, tokenizer=tokenizer)


def _fetch(hub_id: str) -> tuple[Any, Any]:
    try:
        # One question that fails at once: without a network, from_pretrained retries for most of a minute.
        kind = (HfApi().model_info(hub_id, timeout=10).config or {}).get("model_type", "musicgen")
        if kind != "musicgen":
            raise ValueError(f"its type is {kind!r}, not 'musicgen'")
        return _read(hub_id, local_files_only=False)
    except Exception as error:  # a network and its library can fail in any way; each means the same to the user
        raise BaseModelUnavailable(
            f"the base model {hub_id!r} is neither in the models directory nor could it be fetched from Hugging Face "
            f"({_first_line(error)}); on a machine without internet, put its folder into the models directory",
            base_model=hub_id,
        ) from error


def _read(source: Path | str, *, local_files_only: bool = True) -> tuple[Any, Any]:
    """Model and tokenizer. Only safetensors are read: weights in pickles could run code."""
    model, loading = MusicgenForConditionalGeneration.from_pretrained(
        source, dtype=torch.float32, use_safetensors=True, local_files_only=local_files_only, output_loading_info=True
    )
    _require_weights(model, loading["missing_keys"])
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local_files_only)
    if len(tokenizer) < model.config.text_encoder.vocab_size / 2:  # without its files transformers makes an empty one
        raise ValueError("its tokenizer is missing")
    return model, tokenizer


def _require_weights(model: torch.nn.Module, missing: Iterable[str]) -> None:
    """Raises ValueError where weights were not in the files: transformers would go on with random ones."""
    learnt = {name for name, _ in model.named_parameters()}
    learnt |= {name for name, _ in model.named_buffers() if name.endswith("codebook.embed")}
    lost = sorted(name for name in learnt & set(missing) if "embed_positions" not in name)  # those are computed
    if lost:
        raise ValueError(f"{len(lost)} of its weights are missing, such as {lost[0]}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _switch_dropout_off(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop"):
            if isinstance(getattr(module, name, None), float):  # MusicGen keeps plain numbers beside its layers
                setattr(module, name, 0.0)


def add_lora(base: BaseModel, settings: job_spec_pb2.AdapterSettings, *, dtype: torch.dtype) -> Any:
    """The base model with fresh LoRA matrices (32-bit, drawn from torch's generator) as a PeftModel.

    The whole model is wrapped, so that anyone can load the adapter onto `MusicgenForConditionalGeneration`.
    dtype: of the frozen decoder; EnCodec stays in 32 bits.
    """
    base.model.decoder.to(dtype)
    if hasattr(base.model, "enc_to_dec_proj"):
        base.model.enc_to_dec_proj.to(dtype)
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # PEFT divides by r, so a fraction is as good
        lora_dropout=settings.lora_dropout,
        target_modules=LORA_TARGETS[settings.lora_targets],
    )
    model = get_peft_model(base.model, config)
    model.peft_config["default"].base_model_name_or_path = base.name  # not this machine's path
    return model


def to_device(batch: Batch, device: str) -> Batch:
    """The batch on a device. A Trainer moves its batches by itself."""
    return Batch(
        text_BLD=batch["text_BLD"].to(device),
        mask_BL=batch["mask_BL"].to(device),
        labels_BKS=batch["labels_BKS"].to(device),
    )


def collate(clips: Sequence[Clip], *, channels: int) -> Batch:
    """Clips as one batch."""
    text_BLD, mask_BL = codes.pad_states([clip.text_LD for clip in clips])
    labels_BKS = codes.pad_labels([codes.delay(clip.codes_KT, channels=channels) for clip in clips])
    return Batch(text_BLD=text_BLD, mask_BL=mask_BL, labels_BKS=labels_BKS)


def score(model: Any, batch: Batch, *, without_prompt_B: Tensor | None = None) -> Tensor:
    """logits_BKSV of a batch; gradients reach whatever of the decoder is trained.

    without_prompt_B: true for clips to be scored without their prompt. An all-zero mask is MusicGen's null prompt: the
    model multiplies the states by it, which is what it does for the unconditional half of guidance, too.
    """
    inner = getattr(model, "module", model)
    mask_BL, labels_BKS = batch["mask_BL"], batch["labels_BKS"]
    if without_prompt_B is not None:
        mask_BL = mask_BL * (~without_prompt_B).to(mask_BL)[:, None]
    clips, codebooks, steps = labels_BKS.shape
    inputs_BKS = codes.shift_right(labels_BKS, pad_id=inner.config.decoder.pad_token_id)
    output = model(
        encoder_outputs=(batch["text_BLD"].to(inner.decoder.dtype),),
        attention_mask=mask_BL,
        decoder_input_ids=inputs_BKS.reshape(clips * codebooks, steps),
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits.view(clips, codebooks, steps, -1)
