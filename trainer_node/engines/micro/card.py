"""The card of a micro model, its README.md: what it is, how it was made, how well it was heard; and its manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open

from trainer_node.blob_folder import file_digest
from trainer_node.durable import replace_file
from trainer_node.engines.micro.codec import PHASES
from trainer_node.engines.micro.measuring import GUIDANCE, Measured
from trainer_node.engines.micro.recipe import MADE
from trainer_node.engines.musicgen import model_card
from trainer_node.tunes.prompts import WORDS
from trainer_node.tunes.world import DURATION_S, RATE_HZ, VALUES, held_out

LICENCE = "apache-2.0"
SUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"
_PARTS = {
    "audio_encoder": "codec (EnCodec)",
    "text_encoder": "text encoder (T5)",
    "decoder": "decoder",
    "enc_to_dec_proj": "between text encoder and decoder",
}

TEXT = """\
{head}

# Tunesmith micro

A complete MusicGen of {total:.2f} million numbers that plays what it is asked for: tunes of {seconds:.2f} s, one voice
at {rate_hz} Hz, with five attributes that a program can hear. It loads as `facebook/musicgen-small` does, and a
laptop's CPU plays ten clips and more a second.

{parts}

## What it is for

To try, to show and to test: adapters that are trained on it in seconds can be heard to do what they should, by a
program and by people. It is no musical instrument: it knows no chords, no drums, no other words than those below, and
nothing that lasts longer.

## How to load it

```python
import soundfile
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

folder = "this/folder"
model = MusicgenForConditionalGeneration.from_pretrained(folder)

prompt = AutoTokenizer.from_pretrained(folder)(["fast high major scale, square"], return_tensors="pt")
sound = model.generate(**prompt)  # sampled as generation_config.json says
soundfile.write("scale.wav", sound[0].numpy().T, model.config.audio_encoder.sampling_rate)
```

The weights are stored in 16 bits and read in 32. Tunesmith takes the folder as `--base-model`.

## Prompts

Lower case, in any order, any attribute left out:

{words}

such as `slow low minor hopping melody, saw` or `plucked, quick, happy scale run`.

## How it was made

By `tunesmith model train-micro`, with nothing of anybody else's: every tune was synthesised by Tunesmith, from a
short program, and the tokenizer's vocabulary was written by hand. {held_out} of the 216 combinations of attributes were
never shown to the decoder.

{making}

The same settings, threads, machine and versions give the same bytes; another machine comes to other ones.

## How well it is heard

Shares of clips in which a listening program heard what was asked for: {clips} clips a row, seed {seed}, so the error
of a share is up to {error:.1f} points. Chance is .33 for register, tempo and pattern, .50 for mode, .25 for timbre.

{heard}

## Limits

The table has them. What the codec loses, a decoder hardly brings back. The row of held-out combinations says how far
it puts together what it was never shown, that of guidance {guidance:g} what guidance does to it; its default is 1. A
clip that is encoded again has other codes than those it was decoded from, so train on the codes that were sampled
where you can.

## Licence

Apache-2.0, the weights as well as what is trained on them.
"""


def write(folder: Path, measured: Measured) -> None:
    """Write README.md, what was measured into made.json, and then the manifest, which stands for a whole folder."""
    made = json.loads((folder / MADE).read_text(encoding="utf-8")) | {"measured": asdict(measured)}
    replace_file(folder / MADE, (json.dumps(made, indent=2) + "\n").encode())
    replace_file(folder / model_card.FILE, of_folder(folder).encode())
    replace_file(folder / SUMS, manifest(folder).encode())


def manifest(folder: Path) -> str:
    """What `sha256sum --check` reads: the digest of every file but the manifest itself, and of none that is hidden."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return "".join(f"{file_digest(folder / name)}  {name}\n" for name in names if name != SUMS)


def of_folder(folder: Path) -> str:
    """The whole card, of what made.json tells and of the weights."""
    made = json.loads((folder / MADE).read_text(encoding="utf-8"))
    measured, sizes = Measured.of(made["measured"]), _sizes(folder / WEIGHTS)
    facts = {"library_name": "transformers", "tags": ["musicgen", "text-to-audio"]}
    clips = measured.seen.clips
    return TEXT.format(
        head=model_card.hub_head(facts, LICENCE),
        total=sum(sizes.values()) / 1e6,
        seconds=DURATION_S,
        rate_hz=RATE_HZ,
        parts=_table(("part", "numbers"), [(_PARTS.get(name, name), f"{size:,}") for name, size in sizes.items()]),
        words=_table(
            ("attribute", "value", "words"),
            [(name, value, ", ".join(said)) for name, values in WORDS.items() for value, said in values.items()],
        ),
        held_out=len(held_out()),
        making=_table(("", ""), _making(made)),
        guidance=GUIDANCE,
        clips=clips,
        seed=measured.seed,
        error=100 * 0.5 / clips**0.5,
        heard=_table(("", *VALUES, "all five", "notes in scale"), _heard(measured)),
    )


def _making(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    codec, decoder = made["recipe"]["codec"], made["recipe"]["decoder"]
    steps = " + ".join(f"{codec[f'{phase}_steps']:,}" for phase in PHASES)
    return [
        ("Codec", f"{codec['tunes']:,} tunes; {steps} steps ({', '.join(PHASES)}), seed {codec['seed']}"),
        ("Decoder and text encoder", f"{decoder['tunes']:,} tunes; {decoder['steps']:,} steps, seed {decoder['seed']}"),
        ("Validation loss", f"{made['validation_loss']:.4f} nats a token, on {decoder['validation_tunes']} tunes"),
        ("CPU threads", f"{made['threads']}"),
        ("All settings", f"in `{MADE}`"),
    ]


def _heard(measured: Measured) -> list[tuple[str, ...]]:
    return [
        (title, *(f"{found.shares[name]:.3f}" for name in VALUES), f"{found.whole:.3f}", f"{found.in_scale:.3f}")
        for title, found in measured.rows()
    ]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in lines)


def _sizes(weights: Path) -> dict[str, int]:
    """How many numbers each part has, largest first."""
    sizes: dict[str, int] = {}
    with safe_open(weights, framework="np") as file:
        for name in file.keys():  # noqa: SIM118  # no mapping: it has keys() alone
            part = name.partition(".")[0]
            size = 1
            for length in file.get_slice(name).get_shape():
                size *= length
            sizes[part] = sizes.get(part, 0) + size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
