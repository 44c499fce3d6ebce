"""Flags of how pairs and ranked lists follow from ratings: the settings of a Derivation, by their names.

Range, default and meaning stand in dataset.proto; nothing here knows a setting beside its unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import Derivation

F = TypeVar("F", bound=Callable[..., Any])

PAIRS, RANKED_LISTS = "pairs", "ranked_lists"  # fields of Derivation
_HELP = {
    "min_rating_gap": "Least difference of two ratings, above 0 and up to 4; a smaller one is a tie.",
    "max_pairs_per_prompt": "Most pairs of a prompt that follow from ratings, the widest gaps first; 1 to 10,000.",
    "max_list_size": "Most clips of a ranked list, 2 to 64; more are dealt to several lists.",
}


def derivation_flags(*forms: str) -> Callable[[F], F]:
    """Adds a flag for each setting of pairs, of ranked lists, or of both; `wanted_derivation` reads them."""

    def decorate(command: F) -> F:
        for name, field in reversed(_settings(forms).items()):
            from tunesmith import spec

            kind = float if field.type == field.TYPE_DOUBLE else int
            words = f"{_HELP[name]} [default: {spec.default_of(field)}]"
            flag = "--" + name.replace("_", "-")
            command = click.option(flag, name, type=kind, metavar="G" if kind is float else "N", help=words)(command)
        return command

    return decorate


def wanted_derivation(form: str, keywords: Mapping[str, Any]) -> Derivation:
    """What to derive, with the settings among `keywords` that were given.

    Raises UsageError for a setting of the other form, and InvalidField for one out of range.
    """
    from tunesmith import spec
    from tunesmith.errors import FieldProblem, InvalidField
    from tunesmith.v1 import dataset_pb2

    wanted = dataset_pb2.Derivation()
    settings = getattr(wanted, form)
    settings.SetInParent()
    for name in _HELP:
        if keywords.get(name) is None:
            continue
        if name not in settings.DESCRIPTOR.fields_by_name:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} is not a setting of {form.replace('_', ' ')}; leave it out")
        try:
            setattr(settings, name, keywords[name])
        except ValueError as error:  # more than 32 bits
            raise InvalidField.of([FieldProblem(name, f"{keywords[name]} is far out of range")]) from error
    if problems := spec.check(settings):
        raise InvalidField.of(problems)
    return wanted


def _settings(forms: tuple[str, ...]) -> dict[str, Any]:
    from tunesmith.v1 import dataset_pb2

    messages = [type(getattr(dataset_pb2.Derivation(), form)) for form in forms]
    return {field.name: field for message in messages for field in message.DESCRIPTOR.fields}
