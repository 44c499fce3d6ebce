"""What was measured of an adapter, in words: for the command line, and for the report of the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer_node.markdown import grid

if TYPE_CHECKING:
    from tunesmith.v1.adapter_pb2 import AdapterEvaluation, Estimate, Measure


def level(measure: Measure, estimate: Estimate) -> str:
    """What was measured before or after, with its interval: `41.7 % (32.3 to 51.7)`, `0.83 (0.79 to 0.87)`."""
    return _number(estimate, " %" if measure.is_share else "", sign="")


def difference(measure: Measure) -> str:
    """What has changed, with its sign and interval: `+41.7 points (+29.2 to +54.1)`; a point is a hundredth of all."""
    return _number(measure.difference, " points" if measure.is_share else "", sign="+")


def subject(evaluation: AdapterEvaluation) -> str:
    """What was listened for: the wish, or else the scorer."""
    wished = ", ".join(f"{name}={value}" for name, value in sorted(evaluation.wish.items()))
    return wished or evaluation.scorer


def heard(evaluations: Sequence[AdapterEvaluation]) -> str:
    """The section `Heard` of a report, a table for each evaluation; empty where there is none."""
    if not evaluations:
        return ""
    return "\n\n".join(["## Heard", "In brackets: intervals of 95 %.", *map(_table, evaluations)])


def _table(evaluation: AdapterEvaluation) -> str:
    runs = (evaluation.before_run_id, evaluation.after_run_id)
    before, after = (f"in {run_id}" if run_id else "elsewhere" for run_id in runs)
    made = (
        f"`{evaluation.evaluation_id}` by `{evaluation.scorer}`, {evaluation.create_time.ToDatetime():%Y-%m-%d %H:%M}"
    )
    rows = [
        (one.name, str(one.clip_count), level(one, one.before), level(one, one.after), difference(one))
        for one in evaluation.measures
    ]
    table = grid((subject(evaluation), "clips", "before", "after", "difference"), rows)
    return f"{made} UTC; before played {before}, after {after}:\n\n{table}"


def _number(estimate: Estimate, unit: str, *, sign: str) -> str:
    factor, form = (100, f"{sign}.1f") if unit else (1, f"{sign}.4g")
    value, low, high = (f"{factor * one:{form}}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value}{unit} ({low} to {high})"
