"""Clips as clients rely on them: the real control plane, and the fake of the command line's tests."""

from __future__ import annotations

import grpc
import pytest

from tests.cli.plane_settings import Setting
from tests.contract.clips import playing
from tests.support.edge import refusal
from tunesmith.v1 import job_spec_pb2, run_pb2, run_pb2_grpc


@pytest.fixture
def create(setting: Setting, channel: grpc.aio.Channel):
    """Creates a run with these settings."""

    async def call(spec: job_spec_pb2.JobSpec) -> run_pb2.CreateRunResponse:
        await setting.player()
        request = run_pb2.CreateRunRequest(experiment_id=await setting.experiment(), spec=spec)
        return await run_pb2_grpc.RunServiceStub(channel).CreateRun(request)

    return call


async def test_nobody_and_nothing_to_play_are_refused_both_at_once(create):
    refused = await refusal(create(job_spec_pb2.JobSpec(generate={})))

    assert refused.reason == "INVALID_FIELD"
    assert sorted(refused.fields) == ["spec.generate.generation.prompts", "spec.generate.player.base_model"]


async def test_an_adapter_plays_on_its_own_base_model(setting, create):
    adapter_id = await setting.adapter()

    run = (await create(playing("a song", base_model="", adapter_id=adapter_id))).run
    other = await refusal(create(playing("a song", base_model="other", adapter_id=adapter_id)))
    nobody = await refusal(create(playing("a song", adapter_id=f"adp_{'Z' * 26}")))

    assert run.spec.generate.player.base_model == "tiny"
    assert run.spec.generate.generation.clip_s == 5
    assert (other.reason, nobody.reason) == ("START_ADAPTER_UNSUITABLE", "ADAPTER_NOT_FOUND")
