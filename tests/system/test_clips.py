"""Clips through the programs that a user starts: by a base model, by an adapter, and after a node was lost."""

from __future__ import annotations

from tests.support.installation import Installation, small_training, wait_for
from tunesmith import spec as specs
from tunesmith.v1 import job_spec_pb2, run_pb2

Digests = dict[tuple[int, int], str]
"""Of each clip, by prompt and seed."""


def playing(clips_per_prompt: int = 2, clip_s: float = 0.5, **player: str) -> job_spec_pb2.JobSpec:
    """Clips of two prompts."""
    generation = {
        "prompts": ["a slow organ melody", "fast bells"],
        "clips_per_prompt": clips_per_prompt,
        "clip_s": clip_s,
    }
    return specs.parse({"generate": {"player": player, "generation": generation}}, job_spec_pb2.JobSpec())


def clips(installation: Installation, run_id: str, *, attempt: int = 1) -> Digests:
    """What an attempt has played."""
    request = run_pb2.ListPreviewsRequest(run_id=run_id, page_size=1000)
    found = installation.client.runs.ListPreviews(request).previews
    return {(one.prompt_index, one.seed): one.file.digest for one in found if one.attempt == attempt}


async def test_an_adapter_plays_other_clips_than_its_base_model_and_each_the_same_again(
    installation: Installation,
) -> None:
    installation.start_control_plane()
    installation.start_node()
    experiment_id = installation.new_experiment()
    trained = installation.ended(installation.submit(experiment_id, small_training(epochs=4)))

    played: list[Digests] = []
    for player in ({"base_model": "tiny"}, {"adapter_id": trained.adapter_id}, {"adapter_id": trained.adapter_id}):
        run = installation.ended(installation.submit(experiment_id, playing(**player)))
        assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
        assert (run.adapter_id, run.model_id, run.dataset_version_id) == ("", "", "")
        assert (run.step, run.total_steps, run.total_epochs) == (4, 4, 0)
        assert {name for name, _ in installation.metrics(run.run_id)} == {"clips_per_s"}
        played.append(clips(installation, run.run_id))

    base, adapted, again = played
    assert list(base) == list(adapted) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(set(base.values())) == 4, "each seed and prompt is heard"
    assert adapted == again
    assert set(base.values()).isdisjoint(adapted.values())


async def test_a_run_whose_node_is_killed_plays_every_clip_anew_and_the_same(installation: Installation) -> None:
    installation.start_control_plane("--lease-s", "3")
    installation.start_node()
    experiment_id = installation.new_experiment()
    asked = playing(clips_per_prompt=64, clip_s=1, base_model="tiny")
    run_id = installation.submit(experiment_id, asked)
    before = wait_for(lambda: clips(installation, run_id), within_s=60)

    training = installation.training_process()
    installation.kill("node-a")
    training.kill()
    installation.start_node("node-b")
    run = installation.ended(run_id)

    after = clips(installation, run_id, attempt=2)
    assert (run.state, run.attempt) == (run_pb2.RUN_STATE_SUCCEEDED, 2), run
    assert len(after) == 128
    assert {place: after[place] for place in before} == before
