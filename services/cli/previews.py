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


def latest(previews: Iterable[Preview]) -> list[Preview]:
    """Of each run, step, prompt and seed what the last attempt left, in the order given."""
    newest: dict[tuple[str, int, int, int], Preview] = {}
    for one in previews:
        place = (one.run_id, one.step, one.prompt_index, one.seed)
        if place not in newest or one.attempt > newest[place].attempt:
            newest[place] = one
    return list(newest.values())


def fetch_previews(
    client: Client, previews: Iterable[Preview], folder: Path, *, by_seed: bool = False
) -> dict[tuple[int, int, int], Path]:
    """Write previews into `folder`; returns their paths by (step, prompt index, seed). Whole clips are kept.

    by_seed: tell them apart by their seeds, for clips of generate; else by their steps.
    """
    from tunesmith.client.transfer import download_blob

    paths = {}
    for one in previews:
        path = folder / file_name(one, by_seed=by_seed)
        if one.text:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{one.text}\n", encoding="utf-8")
        else:
            download_blob(client, one.file.digest, path)
        paths[one.step, one.prompt_index, one.seed] = path
    return paths


def file_name(preview: Preview, *, by_seed: bool = False) -> str:
    """`prompt0-a-calm-piano-step000040.wav`; step 0 is called base. by_seed: `prompt0-a-calm-piano-seed3.wav`."""
    words = re.sub(r"[^a-z0-9]+", "-", preview.prompt.lower()).strip("-")
    if len(words) > MOST_LETTERS:
        words = words[: MOST_LETTERS + 1].rpartition("-")[0] or words[:MOST_LETTERS]
    which = f"seed{preview.seed}" if by_seed else f"step{preview.step:06d}" if preview.step else "base"
    return f"prompt{preview.prompt_index}-{words or 'preview'}-{which}.{'txt' if preview.text else 'wav'}"
