"""The extremes of a group of values, as SQL: written once, for rollups when they are stored and for queries.

Finite values compete for minimum and maximum, of equal ones the first; NaN and infinities are counted, and the first of
them is told. Postgres holds NaN to be above infinity, so one comparison finds both; a null is no value.
"""

from __future__ import annotations

EXTREMES = """
    count(value) AS points,
    (min(ARRAY[value, step]) FILTER (WHERE abs(value) < 'Infinity'))[1] AS min_value,
    (min(ARRAY[value, step]) FILTER (WHERE abs(value) < 'Infinity'))[2]::bigint AS min_step,
    (max(ARRAY[value, -step]) FILTER (WHERE abs(value) < 'Infinity'))[1] AS max_value,
    -(max(ARRAY[value, -step]) FILTER (WHERE abs(value) < 'Infinity'))[2]::bigint AS max_step,
    count(value) FILTER (WHERE abs(value) >= 'Infinity') AS non_finite_points,
    min(step) FILTER (WHERE abs(value) >= 'Infinity') AS non_finite_step
"""
"""Of grouped rows with the columns `value` (float8) and `step`."""

EXTREMES_OF_EXTREMES = """
    sum(points) AS points,
    (min(ARRAY[min_value, min_step]) FILTER (WHERE min_step IS NOT NULL))[2]::bigint AS min_step,
    -(max(ARRAY[max_value, -max_step]) FILTER (WHERE max_step IS NOT NULL))[2]::bigint AS max_step,
    min(non_finite_step) AS non_finite_step
"""
"""Of grouped rows with the columns of EXTREMES."""
