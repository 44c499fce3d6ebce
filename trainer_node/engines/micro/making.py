"""A micro model as a folder to hand on: trained, measured, with a card that says what it is, and a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from trainer_node.engines.micro import card, measuring
from trainer_node.engines.micro.codec import Tell
from trainer_node.engines.micro.measuring import Measured
from trainer_node.engines.micro.recipe import Recipe, is_made, train_micro
from trainer_node.engines.musicgen import family, quiet


def make_micro(folder: Path, recipe: Recipe, tell: Tell, *, threads: int = 1, clips: int = measuring.CLIPS) -> Measured:
    """Make everything in `folder`. Killed and started again it goes on after the codec, or after the training.

    clips: how many are heard for each number of the card.
    """
    if not is_made(folder, recipe, threads=threads):
        with quiet.quietly():
            train_micro(folder, recipe, tell, threads=threads)
    return describe(folder, tell, threads=threads, clips=clips)


def steps(recipe: Recipe) -> dict[str, int]:
    """How many steps each phase has, of training and of measuring, in their order."""
    return recipe.steps | {measuring.PHASE: measuring.STEPS}


def describe(folder: Path, tell: Tell, *, threads: int = 1, clips: int = measuring.CLIPS) -> Measured:
    """Measure a trained model as it was written, and write its card and manifest; files beside it are kept."""
    with quiet.quietly(), _threads(threads):
        base = family.load_base(folder, name=folder.name)
        measured = measuring.measure(base, tell, clips=clips)
    card.write(folder, measured)
    return measured


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
