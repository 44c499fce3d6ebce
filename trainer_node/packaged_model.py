"""The base model that comes with Tunesmith: a small MusicGen that plays tunes, ready without a network.

Known here by name and folder alone, so that whoever asks for it needs no PyTorch. See `engines.micro` for its making.
"""

from __future__ import annotations

from pathlib import Path

NAME = "tunesmith/micro"
FOLDER = Path(__file__).resolve().parent / "engines" / "micro" / "model"
