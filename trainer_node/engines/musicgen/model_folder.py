"""A whole MusicGen model as a folder: everything that `from_pretrained` and a processor read, whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import EncodecFeatureExtractor, MusicgenProcessor

from trainer_node.engines.musicgen.family import BaseModel


def write(base: BaseModel, folder: Path) -> None:
    """Write a model, as safetensors, with its configuration and its tokenizer."""
    base.model.save_pretrained(folder)
    extractor = EncodecFeatureExtractor(feature_size=base.channels, sampling_rate=base.clip_hz, padding_side="left")
    MusicgenProcessor(extractor, base.tokenizer).save_pretrained(folder)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A new folder, which becomes `folder` when the block has ended well, and is gone otherwise.

    folder: new or empty. One that stands may be a mount, or where a shell is, so it is not replaced: it is filled.
    """
    folder = folder.resolve()
    stands = folder.is_dir()
    partial = (folder if stands else folder.parent) / f".tunesmith-{uuid.uuid4().hex[:8]}"
    partial.mkdir(parents=True)
    try:
        yield partial
        if stands:
            for path in list(partial.iterdir()):
                path.rename(folder / path.name)
            partial.rmdir()
        else:
            partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
