"""Why a sound file is refused, in sentences that end in the next step."""

from __future__ import annotations

from tunesmith.errors import TunesmithError

MAX_PIECES = 250_000  # chunks, pages or frames; 600 s in the shortest usual frames stay below it
AGAIN = "copy it here again, or export it again"


class AudioRefused(TunesmithError):
    """A sound file that cannot be taken: what is wrong with it and what to do. The message names no path."""

    reason = "SAMPLE_INVALID"


def ends_early(what: str) -> AudioRefused:
    """The refusal of a file of which a part is missing."""
    return AudioRefused(f"the file ends early: {what}; {AGAIN}")


def damaged(what: str) -> AudioRefused:
    """The refusal of a file whose framing contradicts itself."""
    return AudioRefused(f"the file is damaged: {what}; {AGAIN}")


def unstated(kind: str) -> AudioRefused:
    """The refusal of a file that should state its length and does not."""
    return AudioRefused(
        f"a {kind} file whose length was never written (it was streamed), so nobody can tell whether it is whole; "
        "open it in an audio editor and export it again"
    )


def bounded(pieces: int) -> None:
    """Raise AudioRefused where a file makes its reader walk through too many pieces."""
    if pieces > MAX_PIECES:
        raise AudioRefused(f"the file is cut into more than {MAX_PIECES:,} pieces; export it again")
