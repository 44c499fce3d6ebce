"""Every reason and every method of the contract is served, documented and used."""

from __future__ import annotations

import re
from collections import Counter

from services.rpc.errors import CODES
from tests.contract.descriptors import SERVICES
from tests.rules.sources import ROOT, python_files, report
from tunesmith.v1 import error_reason_pb2

# Reasons that nothing gives yet, each with what it waits for.
RESERVED: dict[str, str] = {}


def reasons() -> list[str]:
    """Every reason, without its prefix."""
    names = [name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name]
    return [name for name in names if name != "UNSPECIFIED"]


def test_every_reason_has_its_code_at_the_edge():
    assert sorted(CODES) == sorted(reasons())


def test_every_reason_is_given_somewhere_or_reserved():
    words = Counter(
        word
        for source in python_files()
        if source.in_product
        for word in re.findall(r"\b[A-Z][A-Z_]{4,}\b", source.text)
    )

    # once is the table of codes itself
    problems = [name for name in reasons() if words[name] < 2 and name not in RESERVED]
    stale = [name for name in RESERVED if words[name] >= 2]

    assert not problems, report(["nothing gives these reasons; use them, or reserve them:", *problems])
    assert not stale, report(["these are given, and are no longer reserved:", *stale])


def test_every_reason_is_documented():
    page = (ROOT / "docs/reference/errors.md").read_text()

    documented = dict(re.findall(r"^## ([A-Z_]+)\n\n`?([A-Za-z_ ]+)`?:", page, re.MULTILINE))

    assert sorted(documented) == sorted(reasons())
    for reason, said in documented.items():
        assert said in (CODES[reason].name, "A training failed"), f"{reason} is {CODES[reason].name}, not {said}"


def test_every_method_has_a_recipe():
    page = (ROOT / "docs/how-to/use-grpcurl.md").read_text()

    called = set(re.findall(r"tunesmith\.v1\.(\w+/\w+)", page))
    methods = {f"{service.name}/{method.name}" for service in SERVICES for method in service.methods}

    assert called == methods
