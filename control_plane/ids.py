"""Ids: a type prefix and a ULID, so that they are readable, and sort by the time they were made."""

from __future__ import annotations

import secrets
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
PREFIXES = frozenset({"exp", "dst", "smp", "cmp", "dsv", "run", "nod", "job", "adp", "mdl", "evl"})


def new_id(prefix: str) -> str:
    """`<prefix>_` and 26 digits: 48 bits of milliseconds since 1970, then 80 random bits.

    Ids of the same millisecond have no order among themselves.
    """
    return new_ids(prefix, 1)[0]


def new_ids(prefix: str, count: int) -> list[str]:
    """`count` new ids in ascending order, for rows whose order is to be kept."""
    if prefix not in PREFIXES:
        raise ValueError(f"no such id prefix: {prefix}")
    millisecond = time.time_ns() // 1_000_000
    return sorted(f"{prefix}_{_base32(millisecond << 80 | secrets.randbits(80))}" for _ in range(count))


def _base32(number: int) -> str:
    return "".join(ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))
