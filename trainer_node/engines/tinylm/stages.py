"""Stages of a pipeline: each is done once, and again only when what it is made of has changed.

    folder/stages/<name>.json      written last: what went in, what came out, and the SHA-256 of every file

A stage counts only where its record fits both what goes in now and the bytes that lie there, so whatever is killed at
any moment, or edited afterwards, is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, TypeVar

from trainer_node.engines.tinylm import layout, sealed
from trainer_node.engines.tinylm.telling import Listener, StageEnd
from trainer_node.errors import DataInvalid
from trainer_node.stop_signal import Stopped
from trainer_node.training import StopRequested

CODE = "code"  # the input that says which code made it

T = TypeVar("T")
Inputs = Mapping[str, object]


class ChangedSince(DataInvalid):
    """A training is to go on, and what it was trained on is not the same any more."""


@dataclass(frozen=True)
class Made:
    """What a stage came to. said: a few words for people; files: relative to the folder; result: plain JSON values."""

    said: str
    files: Sequence[str] = ()
    result: Mapping[str, Any] = field(default_factory=dict)


class Stages:
    """The stages of one output folder.

    going_on: a training goes on from a checkpoint, so nothing that it rests on may change: newer code leaves it as it
    is, and whatever else differs is refused before anything is touched.
    """

    def __init__(self, folder: Path, listener: Listener, stop: StopRequested, *, going_on: bool = False) -> None:
        self.folder, self.listener, self.stop, self.going_on = folder, listener, stop, going_on

    def settle(
        self,
        name: str,
        inputs: Inputs,
        make: Callable[[], Made],
        load: Callable[[Mapping[str, Any]], T],
        *,
        rested_on: bool = False,
        anew: bool = False,
    ) -> T:
        """The outcome of a stage: as it lies there, or made now.

        inputs: all that decides it, as JSON values. load: the outcome out of the result. rested_on: by the training, so
        that it stays as it is where one goes on. anew: it is made, whatever lies there. Raises Stopped where a stop was
        asked for; ChangedSince; what `make` raises; DiskFull.
        """
        fixed = self.going_on and rested_on
        if self.stop():
            raise Stopped
        begun = perf_counter()
        inputs = json.loads(json.dumps(inputs))
        before, damage = self._record(name)
        changed = _changed(before["inputs"], inputs) if before else []
        if fixed and set(changed) - {CODE}:
            raise ChangedSince(
                f"the {name} that lies there was made otherwise: {' and '.join(changed)} changed since; go on with "
                "what it was, or give --restart or --new-version"
            )
        if before is not None and not damage and not anew and (fixed or not changed):
            self.listener.ended(StageEnd(name, before["said"], perf_counter() - begun, unchanged=True))
            return load(before["result"])
        self.listener.began(name, damage or (f"{' and '.join(changed)} changed" if changed else ""))
        made = make()
        facts = {"inputs": inputs, "said": made.said, "result": made.result}
        with sealed.room(self.folder):
            (self.folder / layout.RECORDS).mkdir(parents=True, exist_ok=True)
        sealed.seal(self.folder, layout.record_of(name), made.files, facts)
        outcome = load(made.result)
        self.listener.ended(StageEnd(name, made.said, perf_counter() - begun, unchanged=False))
        return outcome

    def inputs_before(self, name: str) -> Mapping[str, Any]:
        """What went into a stage when it was last done; empty where it was not."""
        before, _ = self._record(name)
        return before["inputs"] if before else {}

    def is_whole(self, name: str) -> bool:
        """Whether a stage was done, and all that came of it is there."""
        return sealed.is_whole(self.folder, layout.record_of(name))

    def _record(self, name: str) -> tuple[dict[str, Any] | None, str]:
        """The record of a stage, and what is wrong with its files."""
        path = self.folder / layout.record_of(name)
        try:
            record = json.loads(path.read_bytes())
            if not {"inputs", "said", "result", "files"} <= record.keys() or not isinstance(record["inputs"], dict):
                return None, f"{path} cannot be read"
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError, AttributeError):
            return None, f"{path} cannot be read"
        try:
            sealed.facts_of(self.folder, layout.record_of(name))
        except sealed.NotSealed as error:
            return record, str(error)
        return record, ""


def code_of(*modules: ModuleType) -> str:
    """The SHA-256 of these modules' source: another one may make something else of the same inputs."""
    whole = hashlib.sha256()
    for module in modules:
        whole.update(Path(module.__file__ or "").read_bytes())
    return whole.hexdigest()


def _changed(before: Inputs, now: Inputs) -> list[str]:
    """The names of the inputs that differ."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]
