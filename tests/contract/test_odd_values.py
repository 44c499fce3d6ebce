"""Values at and beyond every limit, mixed at random: refused or answered, never a bug."""

from __future__ import annotations

import random
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.contract.language_models import new_model
from tests.contract.methods import METHODS, Method
from tests.support.control_plane import Plane
from tests.support.edge import Refusal
from tunesmith.v1 import dataset_pb2

TEXTS = ["", "a", "x" * 70, "é", "\0", "../x", "1", " ", "%_", "'; --", "\u202e", "a" * 2001]
NUMBERS = [0, 1, -1, 5, 8, 1000, 2**31 - 1, -(2**31)]
LARGE = [*NUMBERS, 2**63 - 1, -(2**63), 10_000_000_000]
REALS = [0.0, 1.0, 3.5, 5.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324]
TAME = {
    "paths": ["description", "labels", "default_spec", "dataset_id", "*"],
    "page_token": [""],
    "resume_token": [""],
    "etag": [""],
    "address": ["127.0.0.1:1"],
    "request_id": ["request-1", "request-2"],
    "id_prefix": [""],
}
WIDE = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT64)


@pytest_asyncio.fixture(scope="session")
async def known(plane: Plane) -> dict[str, str]:
    """Ids of things that are there, by the field that takes them."""
    run = await plane.new_run()
    adapter_id = await plane.finish(run.run_id, {"a.json": b"{}"})
    version = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=run.dataset_version_id)
    dataset_id = (await plane.datasets.GetDatasetVersion(version)).dataset_version.dataset_id
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "dataset_version_id": run.dataset_version_id,
        "dataset_id": dataset_id,
        "adapter_id": adapter_id,
        "start_adapter_id": adapter_id,
        "before_run_id": run.run_id,
        "after_run_id": run.run_id,
        "model_id": await new_model(plane),
        "node_id": (await plane.new_node()).node_id,
        "digest": "a" * 64,
        "audio_digest": "b" * 64,
        "name": "a-name",
    }


@dataclass
class Guesses:
    """Random values. wildness: share of them that lie at or beyond a limit."""

    chance: random.Random
    known: dict[str, str]
    wildness: float

    def fill(self, message: Message, depth: int = 0) -> None:
        """Set most of the fields, down to some depth."""
        for field in message.DESCRIPTOR.fields:
            if self.chance.random() < 0.3 and field.name not in self.known:
                continue
            if field.message_type is not None:
                self._fill_message(getattr(message, field.name), field, depth)
            elif field.is_repeated:
                getattr(message, field.name).append(self._value(field))
            else:
                setattr(message, field.name, self._value(field))

    def _fill_message(self, value, field: FieldDescriptor, depth: int) -> None:
        if field.message_type.GetOptions().map_entry:
            value[self._text("a")] = self._text("b")
        elif depth < 5:
            part = value.add() if field.is_repeated else value
            part.SetInParent()
            self.fill(part, depth + 1)

    def _value(self, field: FieldDescriptor):
        wild = self.chance.random() < self.wildness
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(self.known.get(field.name, "") or self.chance.choice(TAME.get(field.name, ["a"])))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return b"\xff" * 100 if wild else b""
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self.chance.random() < 0.5
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return self.chance.choice(REALS) if wild else self.chance.choice([0.0, 1.0, 3.0])
        if field.type == FieldDescriptor.TYPE_ENUM:
            return 99 if wild else self.chance.choice([0, 1])
        if wild:
            return self.chance.choice(LARGE if field.type in WIDE else NUMBERS)
        return self.chance.choice([0, 1, 8])

    def _text(self, tame: str) -> str:
        return self.chance.choice(TEXTS) if self.chance.random() < self.wildness else tame


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_odd_values_are_refused_or_answered_and_never_a_bug(plane: Plane, known, method: Method):
    chance = random.Random(method.name)
    bugs = []
    for turn in range(30):
        request = method.request_type()
        Guesses(chance, known, wildness=(0.0, 0.1, 0.5)[turn % 3]).fill(request)
        call = method.call(plane.channel, request.SerializeToString())
        try:
            _ = [message async for message in call] if hasattr(call, "__aiter__") else await call
        except grpc.aio.AioRpcError as error:
            refused = Refusal(error)
            if refused.reason == "INTERNAL" or refused.info.domain != "tunesmith.v1" or len(refused.text) < 10:
                bugs.append((refused, request))

    assert not bugs, bugs[0]
