"""Which module does which kind of job. A module is imported only when its kind is run, in the process that runs it:
the rest of the node starts without PyTorch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from trainer_node.errors import TrainingKindUnavailable
from trainer_node.training import Train

KINDS: Mapping[str, str] = {
    "supervised": "trainer_node.engines.musicgen.supervised",
    "dpo": "trainer_node.engines.musicgen.dpo",
    "ranking": "trainer_node.engines.musicgen.ranking",
    "tiny_lm": "trainer_node.engines.tinylm.pipeline",
    "generate": "trainer_node.engines.musicgen.generate",
}


def engine_for(kind: str) -> Train:
    """The engine of a kind of training, such as `supervised`. Raises TrainingKindUnavailable."""
    if kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise TrainingKindUnavailable(
            f"this node cannot train {kind or 'a job of no kind'}; it trains: {known}", kind=kind
        )
    return cast(Train, importlib.import_module(KINDS[kind]).train)
