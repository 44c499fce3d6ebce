"""A data set to try things with: synthesised music, prompts that say what can be heard, and the ratings of a listener.

The listener is a rule (`taste`) with a little seeded noise, so that a model can learn it and a test can check that it
did. The clips come in the four usual formats, mono and stereo, at five sampling rates, as clips of strangers do.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from trainer_node.data.demo_synth import KEYS, REGISTERS, SCALES, TEMPI, TIMBRES, Piece, render

FORMATS = (("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"))
RATES_HZ = (16_000, 22_050, 32_000, 44_100, 48_000)
_SOUNDS_LIKE = {
    "sine": "a soft sine melody",
    "plucked": "a bright plucked string melody",
    "organ": "a warm organ melody",
    "square": "a buzzing square-wave lead",
    "bell": "a shimmering bell melody",
    "drums": "a synth bass line over drums",
}


def taste(piece: Piece) -> float:
    """How much the demo's listener likes a piece, 1 to 5: plucked strings and bells, major keys, fast tempi."""
    liking = 2.0
    liking += {"plucked": 1.5, "bell": 1.0, "drums": 0.5, "square": -1.0}.get(piece.timbre, 0.0)
    liking += 1.0 if piece.mode == "major" else -0.5
    liking += {"fast": 0.75, "slow": -0.75}.get(piece.tempo, 0.0)
    return min(5.0, max(1.0, liking))


def prompt(piece: Piece) -> str:
    """What can be heard, such as "a bright plucked string melody in C major, fast, high register"."""
    return f"{_SOUNDS_LIKE[piece.timbre]} in {piece.key} {piece.mode}, {piece.tempo}, {piece.register} register"


def write_demo(folder: Path, *, seed: int = 0, clips: int = 24) -> Path:
    """Write rated.jsonl and its clips under audio/; returns the path of rated.jsonl.

    clips: from 24 on every timbre, mode, tempo, register, format and rate occurs, and every rating but for one seed in
    hundreds. The same seed gives the same rows and the same wav and flac samples; ogg and mp3 depend on the encoder's
    version. Files of these names are replaced.
    """
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows = []
    for number in range(clips):
        piece = _piece(number, random)
        extension, subtype = FORMATS[number % len(FORMATS)]
        rate_hz, channels = RATES_HZ[number % len(RATES_HZ)], 1 + number // 4 % 2
        name = f"{number:03d}-{piece.timbre}-{piece.mode}.{extension}"
        sound = render(piece, duration_s=2 + 0.25 * (number % 5), rate_hz=rate_hz, channels=channels)
        soundfile.write(audio / name, sound, rate_hz, format=extension.upper(), subtype=subtype)
        rating = round(float(np.clip(taste(piece) + np.clip(random.normal(0, 0.25), -0.6, 0.6), 1, 5)))
        tags = {key: getattr(piece, key) for key in ("timbre", "mode", "tempo", "register")}
        rows.append({"audio": f"audio/{name}", "prompt": prompt(piece), "rating": rating, "tags": tags})
    path = folder / "rated.jsonl"
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    return path


def _piece(number: int, random: np.random.Generator) -> Piece:
    """The number-th piece. What the prompt says goes round in different steps, so that even a short demo has it all."""
    return Piece(
        timbre=list(TIMBRES)[number % 6],
        key=KEYS[int(random.integers(len(KEYS)))],
        mode=list(SCALES)[number // 6 % 2],
        tempo=list(TEMPI)[(number + number // 12) % 3],
        register=list(REGISTERS)[(number + number // 3) % 3],
        seed=int(random.integers(2**31)),
    )
