"""Clips as a run: the prompts of a text file, and in words what will be played."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.errors import FieldProblem, InvalidField

if TYPE_CHECKING:
    from tunesmith.v1.job_spec_pb2 import JobSpec

KIND = "generate"
_ONE_OF = "prompts and prompts_file do not go together; leave one of them out"


def with_prompts(
    flags: Mapping[str, Any], prompts_file: Path | None, *, is_flag: bool, spec: JobSpec
) -> dict[str, Any]:
    """The settings that flags give, with the prompts of a file among them. spec: what stands below the flags.

    is_flag: whether a flag names that file, which then stands above the prompts of `spec`; else --prompts stands above
    it. Raises InvalidField where it cannot be read, UsageError where prompts are given beside it.
    """
    if prompts_file is None or ("prompts" in flags and not is_flag):
        return dict(flags)
    if "prompts" in flags or (spec.generate.generation.prompts and not is_flag):
        raise click.UsageError(_ONE_OF)
    return {**flags, "prompts": read_prompts(prompts_file)}


def read_prompts(path: Path) -> list[str]:
    """The prompts of a UTF-8 file, one a line; blank lines are skipped. Raises InvalidField."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        what = f"{path} cannot be read ({why}); give a text file with a prompt a line"
        raise InvalidField.of([FieldProblem("prompts_file", what)]) from error
    prompts = [line.strip() for line in text.split("\n") if line.strip()]
    if not prompts:
        raise InvalidField.of([FieldProblem("prompts_file", f"{path} holds no prompt; write one a line")])
    return prompts


def plays(spec: JobSpec) -> str:
    """In words what a run plays. spec: as the server has resolved it."""
    generation = spec.generate.generation
    prompts = len(generation.prompts)
    return f"{_counted(prompts * generation.clips_per_prompt, 'clip')} for {_counted(prompts, 'prompt')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
