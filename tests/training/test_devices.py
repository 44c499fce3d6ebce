"""Which device trains: the one that was asked for, or a sentence."""

from __future__ import annotations

import pytest
import torch

from trainer_node.engines.musicgen import devices
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_spec_pb2

AUTO = job_spec_pb2.PRECISION_AUTO


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that what `choose` sets is undone


@pytest.mark.parametrize("asked", [None, "", "cpu"])
def test_without_a_gpu_the_cpu_trains(asked: str | None) -> None:
    assert str(devices.choose(asked, AUTO, threads=None)) == "cpu fp32"


@pytest.mark.parametrize("asked", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_not_replaced_by_the_cpu(asked: str) -> None:
    with pytest.raises(InvalidField, match=rf"device: {asked}.*give another, or cpu"):
        devices.choose(asked, AUTO, threads=None)


def test_a_gpu_beyond_those_this_process_may_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")

    with pytest.raises(InvalidField, match="CUDA_VISIBLE_DEVICES"):
        devices.choose("cuda:2", AUTO, threads=None)


@pytest.mark.parametrize("asked", ["gpu", "cuda:x", "cuda:-1", "cpu:0"])
def test_a_device_of_no_known_kind_is_refused(asked: str) -> None:
    with pytest.raises(InvalidField, match="give cpu, cuda or cuda:1"):
        devices.choose(asked, AUTO, threads=None)
