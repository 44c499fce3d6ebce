"""The table of legal moves, over all pairs of states."""

from __future__ import annotations

import itertools

import pytest

from control_plane.runs.model import IllegalMove, RunState, require_move

LEGAL = """
queued: starting paused cancelled
paused: queued cancelled
starting: running stopping queued failed cancelled
running: stopping queued succeeded failed cancelled
stopping: succeeded cancelled
"""
PAIRS = {
    (RunState(origin.strip()), RunState(target))
    for line in LEGAL.strip().splitlines()
    for origin, targets in [line.split(":")]
    for target in targets.split()
}


@pytest.mark.parametrize(("origin", "target"), itertools.product(RunState, RunState))
def test_a_run_makes_the_moves_of_the_table_and_no_other(origin: RunState, target: RunState):
    if (origin, target) in PAIRS:
        require_move(origin, target)
    else:
        with pytest.raises(IllegalMove):
            require_move(origin, target)


@pytest.mark.parametrize("state", [state for state in RunState if state.terminal])
def test_terminal_is_final(state: RunState):
    assert not any(origin is state for origin, _ in PAIRS)
