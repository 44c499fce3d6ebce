"""Previews as files with names that say what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.client.client import Client
    from tunesmith.v1.run_pb2 import Preview


def fetch_previews(client: Client, previews: Iterable[Preview], folder: Path) -> dict[tuple[int, int, int], Path]:
    """Read WAV files into `folder`; returns their paths by (step, prompt index, attempt). Whole ones are kept."""
    from tunesmith.client.transfer import download_blob

    return {
        (one.step, one.prompt_index, one.attempt): download_blob(client, one.file.digest, folder / file_name(one))
        for one in previews
    }


def file_name(preview: Preview) -> str:
    """`prompt0-a-calm-piano-step000040.wav`; step 0 is called base."""
    words = re.sub(r"[^a-z0-9]+", "-", preview.prompt.lower())[:41].rpartition("-")[0].strip("-") or "preview"
    step = f"step{preview.step:06d}" if preview.step else "base"
    return f"prompt{preview.prompt_index}-{words}-{step}.wav"
