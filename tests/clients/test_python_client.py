"""The Python client against the control plane itself: a language model by its name, and its files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.language_models import new_model
from tests.contract.methods import METHODS
from tests.support.control_plane import Plane
from tunesmith.client import names
from tunesmith.client.client import Client
from tunesmith.client.errors import ApiError
from tunesmith.client.transfer import pull_model
from tunesmith.v1 import blob_pb2, model_pb2

FILES = {"README.md": b"# A model\n", "best_model.pt": bytes(range(256)) * 5_000, "empty.txt": b""}


@pytest.fixture
def client(plane: Plane) -> Iterator[Client]:
    """A client of the control plane; it blocks, so tests call it beside the loop that serves it."""
    with Client(plane.address) as client:
        yield client


async def test_a_model_is_meant_by_its_id_a_prefix_its_name_or_a_version_of_it(plane: Plane, client: Client):
    experiment = await plane.new_experiment()
    first, second = [await new_model(plane, experiment.experiment_id) for _ in range(2)]
    said = [first, first[:-1], first.removeprefix("mdl_")[:-1], f"{experiment.name}@1", experiment.name]

    meant = [await asyncio.to_thread(names.resolve_model, client, text) for text in said]

    assert meant == [first, first, first, first, second]


@pytest.mark.parametrize("text", ["mdl_7ZZ", "nobody", "nobody@3"])
async def test_a_model_that_nobody_has_is_not_found_and_how_to_list_them_is_said(client: Client, text):
    with pytest.raises(ApiError, match="`tunesmith model list`") as caught:
        await asyncio.to_thread(names.resolve_model, client, text)

    assert (caught.value.reason, caught.value.code) == ("MODEL_NOT_FOUND", "NOT_FOUND")


async def test_a_model_is_pulled_whole_and_only_what_is_missing_is_read_again(
    plane: Plane, client: Client, tmp_path: Path
):
    model_id = await new_model(plane, files=FILES)
    request = model_pb2.GetModelRequest(model_id=model_id)
    model = (await asyncio.to_thread(client.models.GetModel, request)).model

    def pull() -> list[Path]:
        return pull_model(client, model, tmp_path / "model")

    pulled = await asyncio.to_thread(pull)
    kept = (tmp_path / "model" / "best_model.pt").stat().st_ino
    (tmp_path / "model" / "README.md").unlink()
    again = await asyncio.to_thread(pull)

    assert {path.name: path.read_bytes() for path in pulled} == FILES and again == pulled
    assert (tmp_path / "model" / "best_model.pt").stat().st_ino == kept


async def test_a_model_that_names_a_file_outside_its_folder_is_refused(client: Client, tmp_path: Path):
    model = model_pb2.Model(model_id="mdl_" + "0" * 26, files=[blob_pb2.File(path="../best_model.pt")])

    with pytest.raises(ApiError, match="the model names a file outside its folder") as caught:
        pull_model(client, model, tmp_path / "model")

    assert caught.value.reason == "UNSAFE_PATH" and list(tmp_path.iterdir()) == []


def test_a_client_can_call_every_method_of_the_control_plane():
    with Client("127.0.0.1:1") as client:
        stubs = {type(stub).__name__: stub for stub in vars(client).values()}

    missing = [
        method.name
        for method in METHODS
        if not hasattr(stubs.get(f"{method.descriptor.containing_service.name}Stub"), method.descriptor.name)
    ]
    assert not missing
