"""A training that starts from a registered adapter: what it takes over, what its node is told, what it leaves."""

from __future__ import annotations

import psycopg
import pytest

from control_plane.adapters import store as adapters
from control_plane.adapters.model import Adapter
from control_plane.config import DispatchConfig
from control_plane.db.connection import execute
from control_plane.errors import AdapterNotFound, StartAdapterUnsuitable
from control_plane.experiments.commands import create_experiment
from control_plane.experiments.model import Experiment
from control_plane.ids import new_id
from control_plane.loops.dispatch import Dispatch
from control_plane.runs.commands import lose_attempt, resume_run
from tests.support.fakes import FakeTrainer
from tests.support.registry import BASE_MODEL, FAILED, FINGERPRINT, KINDS, Registry, clip, spec_of
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_event_pb2, job_spec_pb2

PAIR = (clip("good", rating=5, prompt="a song"), clip("bad", rating=1, prompt="a song"))
SHAPE = {"base_model": BASE_MODEL, "lora_r": 8, "lora_alpha": 12.5, "lora_targets": "LORA_TARGETS_WIDE"}


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def dispatch(registry: Registry, trainer: FakeTrainer) -> Dispatch:
    return Dispatch(registry.db, trainer, DispatchConfig())


def from_adapter(adapter: Adapter | str, kind: str = "dpo", **settings: object) -> job_spec_pb2.JobSpec:
    adapter_id = adapter if isinstance(adapter, str) else adapter.adapter_id
    return spec_of(kind, adapter={"start_adapter_id": adapter_id, **settings})


async def experiment_with_adapter(registry: Registry) -> tuple[Experiment, Adapter]:
    """An experiment on two rated clips of a prompt, and an adapter of it of an unusual shape."""
    experiment = await registry.experiment(samples=PAIR)
    return experiment, await registry.adapter(experiment, spec=spec_of("supervised", adapter=dict(SHAPE)))


async def test_what_a_spec_leaves_open_is_taken_from_the_adapter(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)

    run = await registry.queued(experiment, spec=from_adapter(adapter, lora_dropout=0.25))

    taken = run.spec.dpo.adapter
    assert (taken.base_model, taken.lora_r, taken.lora_alpha) == (BASE_MODEL, 8, 12.5)
    assert taken.lora_targets == job_spec_pb2.LORA_TARGETS_WIDE
    assert (taken.lora_dropout, taken.start_adapter_id) == (0.25, adapter.adapter_id)
    assert run.start_adapter_id == adapter.adapter_id


async def test_the_adapters_own_shape_may_be_given(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)

    run = await registry.queued(experiment, spec=from_adapter(adapter, **SHAPE))

    assert run.spec.dpo.adapter.lora_r == 8


async def test_every_setting_of_another_shape_is_refused_by_its_path(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)
    given = from_adapter(adapter, lora_r=16, lora_alpha=16, lora_targets="LORA_TARGETS_ATTENTION")

    with pytest.raises(InvalidField) as caught:
        await registry.queued(experiment, spec=given)

    assert [str(field) for field in caught.value.fields] == [
        "spec.dpo.adapter.lora_r: the adapter was trained with lora_r 8 (given: 16); leave it out, or give 8",
        "spec.dpo.adapter.lora_alpha: the adapter was trained with lora_alpha 12.5 (given: 16); leave it out, or give "
        "12.5",
        "spec.dpo.adapter.lora_targets: the adapter was trained with lora_targets wide (given: attention); leave it "
        "out, or give wide",
    ]
    assert await registry.count("runs") == 1


async def test_the_experiments_defaults_count_as_given(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)
    other = await create_experiment(
        registry.db,
        name="second",
        dataset_id=experiment.dataset_id,
        default_spec=spec_of("dpo", adapter={"base_model": BASE_MODEL, "lora_r": 4}),
    )

    with pytest.raises(InvalidField, match=r"spec\.dpo\.adapter\.lora_r: .* \(given: 4\); leave it out, or give 8"):
        await registry.queued(other, spec=from_adapter(adapter))

    run = await registry.queued(other, spec=from_adapter(adapter, lora_r=8))
    assert run.spec.dpo.adapter.lora_alpha == 12.5


async def test_an_adapter_of_another_base_model_is_unsuitable(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)

    with pytest.raises(StartAdapterUnsuitable) as caught:
        await registry.queued(experiment, spec=from_adapter(adapter, base_model="tiny"))

    assert caught.value.message == (
        f"first@1 was trained on {BASE_MODEL}, not on tiny; leave base_model out or give that, or choose an adapter of "
        "tiny"
    )


async def test_an_adapter_that_nothing_is_known_of_is_unsuitable(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)
    async with registry.db.transaction() as conn:
        await execute(conn, "UPDATE adapters SET training_config = '{}'")

    with pytest.raises(StartAdapterUnsuitable, match="first@1 does not say what it was trained with"):
        await registry.queued(experiment, spec=from_adapter(adapter))


async def test_an_adapter_that_is_not_there_is_not_found(registry: Registry):
    experiment = await registry.experiment(samples=PAIR)

    with pytest.raises(AdapterNotFound):
        await registry.queued(experiment, spec=from_adapter(new_id("adp")))

    assert await registry.count("runs") == 0


async def test_a_node_is_told_the_adapter_its_line_and_how_the_data_was_derived(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    experiment, adapter = await experiment_with_adapter(registry)
    await registry.queued(experiment, spec=from_adapter(adapter))

    await dispatch.tick()

    (job,) = trainer.started
    origin = job_event_pb2.AdapterOrigin(
        adapter_id=adapter.adapter_id,
        name="first",
        version=1,
        kind="supervised",
        dataset_version_id=str(adapter.dataset_version_id),
    )
    assert list(job.start_adapter.files) == list(adapter.files) != []
    assert job.start_adapter.base_model_fingerprint == FINGERPRINT
    assert list(job.start_adapter.lineage) == [origin]
    assert (job.derivation.count, job.derivation.pairs.min_rating_gap) == (1, 1)


async def test_a_fresh_supervised_job_has_neither(registry: Registry, trainer: FakeTrainer, dispatch: Dispatch):
    await registry.queued()
    await registry.node()

    await dispatch.tick()

    assert not trainer.started[0].HasField("start_adapter") and not trainer.started[0].HasField("derivation")


async def test_the_line_of_an_adapter_is_told_oldest_first(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    experiment, first = await experiment_with_adapter(registry)
    second = await registry.adapter(experiment, spec=from_adapter(first))
    await has_line(registry, second, first)
    await registry.queued(experiment, spec=from_adapter(second, "ranking"))

    await dispatch.tick()

    lineage = trainer.started[0].start_adapter.lineage
    assert [(each.adapter_id, each.kind) for each in lineage] == [
        (first.adapter_id, "supervised"),
        (second.adapter_id, "dpo"),
    ]


async def has_line(registry: Registry, adapter: Adapter, *line: Adapter) -> None:
    """Let an adapter's training_config name those before it, as the engine writes it there."""
    sql = "UPDATE adapters SET training_config = training_config || %(line)s WHERE adapter_id = %(id)s"
    origins = [
        {"adapter_id": one.adapter_id, "name": one.name, "version": one.version, "kind": "supervised"} for one in line
    ]
    async with registry.db.transaction() as conn:
        await execute(conn, sql, id=adapter.adapter_id, line=psycopg.types.json.Jsonb({"lineage": origins}))


async def test_a_job_that_is_started_again_is_told_the_same(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    experiment, adapter = await experiment_with_adapter(registry)
    await registry.queued(experiment, spec=from_adapter(adapter))
    node = await registry.node("maker", slots=64, kinds=KINDS)
    lost = await registry.claim(node)
    trainer.silent.add(node.name)
    await dispatch.tick()
    trainer.silent.clear()

    await dispatch.tick()
    await lose_attempt(registry.db, lost, "silence")
    await dispatch.tick()

    assert [job.attempt for job in trainer.started] == [1, 2]
    first, second = ((job.start_adapter, job.derivation) for job in trainer.started)
    assert first == second and first[0].lineage[0].adapter_id == adapter.adapter_id


async def test_a_resumed_run_keeps_its_start_adapter_and_its_pairs(
    registry: Registry, trainer: FakeTrainer, dispatch: Dispatch
):
    experiment, adapter = await experiment_with_adapter(registry)
    run = await registry.queued(experiment, spec=from_adapter(adapter))
    job = await registry.claim(await registry.node("maker", slots=64, kinds=KINDS))
    await registry.begin(job)
    await registry.checkpoint(job, 10)
    await registry.finish(job, FAILED)

    resumed = await resume_run(registry.db, run_id=run.run_id)
    await dispatch.tick()

    assert (resumed.start_adapter_id, resumed.dataset_version_id) == (adapter.adapter_id, run.dataset_version_id)
    (again,) = trainer.started
    assert (again.run_id, again.resume_from.step) == (resumed.run_id, 10)
    assert again.start_adapter.lineage[0].adapter_id == adapter.adapter_id and again.derivation.count == 1


async def test_an_adapter_names_the_one_it_was_trained_from_and_is_found_by_it(registry: Registry):
    experiment, first = await experiment_with_adapter(registry)
    second = await registry.adapter(experiment, spec=from_adapter(first))
    third = await registry.adapter(experiment, spec=from_adapter(first, "ranking"))

    async def started_from(adapter: Adapter) -> list[str]:
        async with registry.db.connection() as conn:
            found = await adapters.page(conn, start_adapter_id=adapter.adapter_id, limit=10)
        return [each.adapter_id for each in found]

    assert (first.start_adapter_id, second.start_adapter_id) == (None, first.adapter_id)
    assert await started_from(first) == [third.adapter_id, second.adapter_id]
    assert await started_from(second) == []


async def test_an_adapter_that_a_run_starts_from_stays(registry: Registry):
    experiment, adapter = await experiment_with_adapter(registry)
    await registry.queued(experiment, spec=from_adapter(adapter))

    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="start_adapter_id"):
        async with registry.db.transaction() as conn:
            await execute(conn, "UPDATE runs SET adapter_id = NULL WHERE adapter_id = %(id)s", id=adapter.adapter_id)
            await execute(conn, "DELETE FROM adapters WHERE adapter_id = %(id)s", id=adapter.adapter_id)

    async with registry.db.connection() as conn:
        assert await adapters.get(conn, adapter.adapter_id) == adapter
