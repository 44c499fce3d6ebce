"""The model card of an adapter, and of what is exported of it: what it is, where it comes from, how to load it.

It is the README.md of the folder, so that it goes wherever the weights go: Markdown below a YAML head that the Hugging
Face hub reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from trainer_node import config_words, markdown, packaged_model
from tunesmith import preferences
from tunesmith import spec as specs
from tunesmith.v1 import job_event_pb2

FILE = "README.md"
UNKNOWN = "unknown"  # as the name of a licence, in the head of a card
KNOWN = {"facebook/musicgen": "cc-by-nc-4.0"}  # licences of base models, by the beginning of their Hugging Face id


class Format(StrEnum):
    """In which form the weights lie beside the card."""

    PEFT = "peft"
    MERGED = "merged"
    AUDIOCRAFT = "audiocraft"


WHAT = {
    Format.PEFT: "LoRA matrices for the decoder of `{base}`, trained with Tunesmith",
    Format.MERGED: "`{base}` with a LoRA adapter merged into its decoder, trained with Tunesmith",
    Format.AUDIOCRAFT: "`{base}` with a LoRA adapter merged into its decoder, trained with Tunesmith, for audiocraft",
}
LIBRARY = {Format.PEFT: "peft", Format.MERGED: "transformers", Format.AUDIOCRAFT: "audiocraft"}
RELATION = {Format.PEFT: "adapter", Format.MERGED: "finetune", Format.AUDIOCRAFT: "finetune"}

LOAD_PEFT = """\
{where}

```python
import soundfile
from peft import PeftModel
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

{base_model}
base = MusicgenForConditionalGeneration.from_pretrained(base_model)
model = PeftModel.from_pretrained(base, "this/folder")

prompt = AutoTokenizer.from_pretrained(base_model)(["{prompt}"], return_tensors="pt")
sound = model.generate({sampling}
soundfile.write("{file}", sound[0].numpy().T, base.config.audio_encoder.sampling_rate)
```"""
LOAD_MERGED = """\
```python
import soundfile
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

model = MusicgenForConditionalGeneration.from_pretrained("this/folder")

prompt = AutoTokenizer.from_pretrained("this/folder")(["{prompt}"], return_tensors="pt")
sound = model.generate({sampling}
soundfile.write("{file}", sound[0].numpy().T, model.config.audio_encoder.sampling_rate)
```"""
LOAD_AUDIOCRAFT = """\
The text encoder, `{text_encoder}`, is fetched from Hugging Face the first time.

```python
import soundfile
from audiocraft.models import MusicGen

model = MusicGen.get_pretrained("this/folder")
model.set_generation_params(duration=10)

sound = model.generate(["slow piano in a minor key"])
soundfile.write("slow-piano.wav", sound[0].cpu().numpy().T, model.sample_rate)
```"""
LOAD = {Format.PEFT: LOAD_PEFT, Format.MERGED: LOAD_MERGED, Format.AUDIOCRAFT: LOAD_AUDIOCRAFT}

OF_ANY = {
    "where": "`base_model` is a Hugging Face id, or the path of a folder.",
    "base_model": 'base_model = "{base}"',
    "prompt": "slow piano in a minor key",
    "sampling": "**prompt, do_sample=True, guidance_scale=3, max_new_tokens=500)  # about 50 a second",
    "file": "slow-piano.wav",
}
# It is on no hub, knows few words, and is sampled well as its generation_config.json says.
OF_PACKAGED = {
    "where": "`{base}` is a folder that comes with Tunesmith.",
    "base_model": "from trainer_node.packaged_model import FOLDER as base_model",
    "prompt": "fast high major scale, square",
    "sampling": "**prompt)",
    "file": "scale.wav",
}

LICENCE_KNOWN = """\
The weights of the base model are under `{licence}`. What is trained on them is made of them, so it is under that
licence, too{meaning}. Respect the rights in the recordings that it was trained on as well."""
LICENCE_UNKNOWN = """\
The licence of the base model is unknown: ask whoever gave you `{base}`. What is trained on it is under its licence,
too. Respect the rights in the recordings that it was trained on as well."""

IMPORTED = """\
{head}

# A MusicGen base model

The decoder is that of an audiocraft checkpoint, `{checkpoint}`; T5, EnCodec and tokenizer are those of `{like}`. It was
imported by Tunesmith.

## How to load it

{load}

## Licence

The checkpoint does not say under which licence its weights are: ask whoever gave it to you. {licence}
"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card tells.

    base_model: as the adapter names it. licence: of the base model, such as `cc-by-nc-4.0`; empty where unknown.
    config: what decided the training; None where nobody knows. outcome: its report, where it is at hand.
    name: such as `my-taste@2`; empty for an adapter that is not registered. text_encoder: see Format.AUDIOCRAFT.
    """

    base_model: str
    licence: str
    config: job_event_pb2.TrainingConfig | None
    outcome: job_event_pb2.TrainingReport | None = None
    name: str = ""
    text_encoder: str = ""

    def text(self, form: Format) -> str:
        """The whole card."""
        facts = {"base": self.base_model}
        title = "A MusicGen adapter" if form is Format.PEFT else "A MusicGen model"
        parts = [
            self._head(form),
            f"# {self.name or title}",
            WHAT[form].format(**facts) + ".",
            self._training(),
            "## How to load it",
            _how_to_load(form, base=self.base_model, text_encoder=self.text_encoder),
            "## Licence",
            self._licence(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def write(self, folder: Path, form: Format) -> None:
        """Write the card into the folder of what it describes."""
        (folder / FILE).write_text(self.text(form), encoding="utf-8")

    def _head(self, form: Format) -> str:
        facts = {
            "base_model": self.base_model,
            "base_model_relation": RELATION[form],
            "library_name": LIBRARY[form],
            "tags": ["musicgen", "lora", "text-to-audio"],
        }
        return hub_head(facts, self.licence)

    def _training(self) -> str:
        if self.config is None:
            return "How it was trained is not known: the training's `training_config.json` was not at hand."
        rows = {"Lineage": config_words.lineage(self.config, self.name), **_settings(self.config)}
        if self.outcome is not None:
            rows |= _result(self.outcome)
        return markdown.table("How it was trained", rows)

    def _licence(self) -> str:
        if not self.licence:
            return LICENCE_UNKNOWN.format(base=self.base_model)
        meaning = ": not for commercial use" if "-nc" in self.licence else ""
        return LICENCE_KNOWN.format(licence=self.licence, meaning=meaning)


def of_import(checkpoint: str, *, like: str, licence: str) -> str:
    """The card of a base model that was imported. licence: of `like`, empty where it is unknown."""
    facts = {"library_name": "transformers", "tags": ["musicgen", "text-to-audio"]}
    head = hub_head({**facts, "license": "other", "license_name": UNKNOWN}, "")  # nobody has granted that of `like`
    known = f"What is of `{like}` is under `{licence}`." if licence else f"That of `{like}` is unknown, too."
    return IMPORTED.format(head=head, checkpoint=checkpoint, like=like, load=_how_to_load(Format.MERGED), licence=known)


def _how_to_load(form: Format, *, base: str = "", text_encoder: str = "") -> str:
    example = OF_PACKAGED if base == packaged_model.NAME else OF_ANY
    facts = {name: said.format(base=base) for name, said in example.items()}
    return LOAD[form].format(text_encoder=text_encoder, **facts)


def hub_head(facts: dict[str, Any], licence: str) -> str:
    """The YAML that the Hugging Face hub reads, at the beginning of a card. licence: empty where it is unknown."""
    named = {**facts, "pipeline_tag": "text-to-audio", **({"license": licence} if licence else {})}
    return f"---\n{yaml.safe_dump(named, sort_keys=False)}---"


def _settings(config: job_event_pb2.TrainingConfig) -> dict[str, str]:
    """The decisive settings; all of them stand in training_config.json and in the report."""
    kind = specs.kind_of(config.spec)
    if not kind:
        return {}
    settings = getattr(config.spec, kind)
    rows = {"Training": f"{kind}{_loss(settings)}"}
    if own := _own(settings):
        rows["Settings"] = own
    rows["Data"] = config_words.data(config)
    if config.HasField("derivation"):
        rows["Derived"] = preferences.summary(config.derivation)
    if config.dataset_version_id:
        rows["Data version"] = f"`{config.dataset_version_id}`"
    if config.dataset_digest:
        rows["Data, SHA-256"] = f"`{config.dataset_digest}`"
    adapter = settings.adapter
    targets = specs.short_name(adapter.DESCRIPTOR.fields_by_name["lora_targets"], _target_name(adapter))
    rows["LoRA"] = f"r {adapter.lora_r}, alpha {adapter.lora_alpha:g}, {targets}"
    rows["Learning rate"] = f"{settings.training.learning_rate:g}"
    if config.base_model_fingerprint:
        rows["Base model, fingerprint"] = f"`{config.base_model_fingerprint}`"
    return rows


def _loss(settings: Any) -> str:
    """The loss of a kind that has several."""
    field = settings.DESCRIPTOR.fields_by_name.get("loss")
    if field is None:
        return ""
    name = field.enum_type.values_by_number[settings.loss].name
    return f", loss {specs.short_name(field, name)}"


def _own(settings: Any) -> str:
    """The numbers and switches that a kind of training has to itself, such as `beta 0.02, sft_weight 0`."""
    own = {name: value for name, value in specs.in_force(settings).items() if "." not in name and name != "loss"}
    words = (f"{name} {str(value).lower() if isinstance(value, bool) else f'{value:g}'}" for name, value in own.items())
    return ", ".join(words)


def _target_name(adapter: Any) -> str:
    values = adapter.DESCRIPTOR.fields_by_name["lora_targets"].enum_type.values_by_number
    return str(values[adapter.lora_targets].name)


def _result(outcome: job_event_pb2.TrainingReport) -> dict[str, str]:
    held_out = outcome.config.validation_samples > 0
    rows = {
        "Steps": f"{outcome.steps}; the adapter is that of step {outcome.best_step}",
        "Validation loss" if held_out else "Training loss": f"{outcome.best_loss:.4f}",
    }
    return rows | {f"`{name}`": f"{value:.4f}" for name, value in sorted(outcome.final_metrics.items())}


def licence_of(base_model: str, folder: Path | str | None) -> str:
    """The licence of a base model: as known for its name, or by the card in its folder; empty where neither tells."""
    for start, known in KNOWN.items():
        if base_model.startswith(start):
            return known
    if not isinstance(folder, Path):
        return ""
    try:
        head = (folder / FILE).read_text(encoding="utf-8").split("---\n")
        facts: dict[str, object] = yaml.safe_load(head[1]) if len(head) > 2 and not head[0].strip() else {}
        licence = facts.get("license_name") if facts.get("license") == "other" else facts.get("license")
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return ""
    return licence if isinstance(licence, str) and licence != UNKNOWN else ""
