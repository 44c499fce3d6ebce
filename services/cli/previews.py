"""Previews as files with names that say what they are: a clip is a WAV file, what a language model wrote a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.run_pb2 import Preview

MOST_LETTERS = 40  # of a prompt in a file's name


def fetch_previews(client: Client, previews: Iterable[Preview], folder: Path) -> dict[tuple[int, int, int], Path]:
    """Write previews into `folder`; returns their paths by (step, prompt index, attempt). Whole clips are kept."""
    from tunesmith.client.transfer import download_blob

    paths = {}
    for one in previews:
        path = folder / file_name(one)
        if one.text:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{one.text}\n", encoding="utf-8")
        else:
            download_blob(client, one.file.digest, path)
        paths[one.step, one.prompt_index, one.attempt] = path
    return paths


def file_name(preview: Preview) -> str:
    """`prompt0-a-calm-piano-step000040.wav`; step 0 is called base."""
    words = re.sub(r"[^a-z0-9]+", "-", preview.prompt.lower()).strip("-")
    if len(words) > MOST_LETTERS:
        words = words[: MOST_LETTERS + 1].rpartition("-")[0] or words[:MOST_LETTERS]
    step = f"step{preview.step:06d}" if preview.step else "base"
    return f"prompt{preview.prompt_index}-{words or 'preview'}-{step}.{'txt' if preview.text else 'wav'}"
