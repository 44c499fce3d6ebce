"""A rater made of a listener: it likes what it wishes for, and errs now and then, as people do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from trainer_node.tunes.listener import Heard
from trainer_node.tunes.wish import is_fulfilled
from trainer_node.tunes.world import Attributes

LIKED, UNSURE, DISLIKED = 5.0, 3.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Rater:
    """noise: how often a clip that is clear is rated the wrong way round, 0 to 1. seed: tells one rater's errors from
    another's."""

    wish: Attributes
    noise: float = 0.0
    seed: int = 0

    def rate(self, heard: Heard, clip: str) -> float:
        """5 where the wish is fulfilled, 1 where it is not, 3 where that is unclear; `clip` names what was heard.

        The same rater errs over the same clips, in whatever order they come.
        """
        fulfilled = is_fulfilled(heard, self.wish)
        if fulfilled is None:
            return UNSURE
        return LIKED if fulfilled != self._errs(clip) else DISLIKED

    def _errs(self, clip: str) -> bool:
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}:{clip}".encode()).digest()[:8])
        return drawn / 2**64 < self.noise
