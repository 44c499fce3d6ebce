"""What a run would be: its settings resolved, its data found, a node that could do it. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.datasets import freeze, version_store
from control_plane.datasets import store as datasets
from control_plane.datasets.model import Form
from control_plane.db.pool import Database
from control_plane.errors import DatasetVersionUnsuitable, TrainingKindUnavailable
from control_plane.experiments import store as experiments
from control_plane.experiments.model import Experiment
from control_plane.nodes import store as nodes
from control_plane.nodes.model import Node
from control_plane.ports import Blobs
from control_plane.runs import corpus
from control_plane.runs.model import TAKES
from control_plane.runs.start_adapter import adopt
from tunesmith import spec as specs
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import dataset_pb2, job_spec_pb2


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a client asked for. spec: its own settings, above the experiment's."""

    experiment_id: str
    dataset_version_id: str | None
    min_rating: float | None
    spec: job_spec_pb2.JobSpec | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What it comes to. selection: what to freeze first, where no version that is there will do."""

    spec: job_spec_pb2.JobSpec
    dataset_version_id: str | None = None
    selection: freeze.Selection | None = None


async def plan(db: Database, blobs: Blobs, wish: Wish) -> Plan:
    """Resolve a wish. Raises what `create_run` raises."""
    async with db.connection() as conn:
        experiment = await experiments.get(conn, wish.experiment_id)
        offered = await nodes.offered_kinds(conn)
        merged = specs.merge(experiment.default_spec or job_spec_pb2.JobSpec(), wish.spec or job_spec_pb2.JobSpec())
        spec = specs.resolve(await adopt(conn, merged))
    kind = specs.kind_of(spec)
    if offered is not None and kind not in offered:
        raise TrainingKindUnavailable(
            f"no node runs {kind}; this installation runs: {', '.join(offered) or 'nothing'}", kind=kind
        )
    if not TAKES[kind]:
        _refuse_data(wish, kind)
        await corpus.require_usable(blobs, spec)
        return Plan(spec=spec)
    return await _with_data(db, wish, experiment, spec, takes=TAKES[kind])


async def _with_data(
    db: Database, wish: Wish, experiment: Experiment, spec: job_spec_pb2.JobSpec, *, takes: Sequence[Form]
) -> Plan:
    """The version that was asked for; else the latest of the experiment's data set that holds what is taken, or with a
    filter one that is equal to what it lets in now; else one that is to be frozen."""
    kind = specs.kind_of(spec)
    if wish.min_rating is not None:
        _require_filterable(wish, kind, takes)
    if wish.dataset_version_id:
        version_id = await _fitting(db, wish.dataset_version_id, kind, takes)
        return Plan(spec=spec, dataset_version_id=version_id)
    if experiment.dataset_id is None:
        what = f"missing; give one, or set dataset_id of experiment {experiment.name}"
        raise InvalidField.of([FieldProblem("dataset_version_id", what)])
    if wish.min_rating is None:
        async with db.connection() as conn:
            latest = await version_store.latest(conn, experiment.dataset_id, form=takes[0])
        if latest is not None:
            return Plan(spec=spec, dataset_version_id=latest.dataset_version_id)
    if takes[0] is not Form.RATED_CLIPS:
        wanted = _DERIVED[takes[0]]
        return Plan(
            spec=spec, selection=await freeze.select_derived(db, dataset_id=experiment.dataset_id, wanted=wanted)
        )
    selection = await freeze.select(db, dataset_id=experiment.dataset_id, min_rating=wish.min_rating)
    async with db.connection() as conn:
        frozen = await version_store.equal(
            conn, dataset_id=experiment.dataset_id, min_rating=wish.min_rating, digest=selection.digest
        )
    if frozen is not None:
        return Plan(spec=spec, dataset_version_id=frozen.dataset_version_id)
    return Plan(spec=spec, selection=selection)


# by the default settings of the contract
_DERIVED = {
    Form.PAIRS: dataset_pb2.Derivation(pairs=dataset_pb2.PairSettings()),
    Form.RANKED_LISTS: dataset_pb2.Derivation(ranked_lists=dataset_pb2.RankedListSettings()),
}
_OPTIONS = {Form.RATED_CLIPS: "", Form.PAIRS: " --pairs", Form.RANKED_LISTS: " --ranked-lists"}


def _require_filterable(wish: Wish, kind: str, takes: Sequence[Form]) -> None:
    if wish.dataset_version_id:
        what = "not beside dataset_version_id, which is frozen already; leave one of them out"
        raise InvalidField.of([FieldProblem("min_rating", what)])
    if Form.RATED_CLIPS not in takes:
        what = f"{kind} takes {' or '.join(takes)}, which need the clips that are not liked, too; leave it out"
        raise InvalidField.of([FieldProblem("min_rating", what)])


async def _fitting(db: Database, dataset_version_id: str, kind: str, takes: Sequence[Form]) -> str:
    """The id of a version that a kind of training takes. Raises DatasetVersionNotFound, DatasetVersionUnsuitable."""
    async with db.connection() as conn:
        version = await datasets.get_version(conn, dataset_version_id)
        dataset = await datasets.get(conn, version.dataset_id)
    if version.form not in takes:
        freeze_command = f"tunesmith dataset version create {dataset.name}{_OPTIONS[takes[0]]}"
        raise DatasetVersionUnsuitable(
            f"the version holds {version.form}, and {kind} takes {' or '.join(takes)}; freeze some with "
            f"`{freeze_command}`",
            dataset_version_id=dataset_version_id,
            holds=version.form,
            takes=", ".join(takes),
        )
    return version.dataset_version_id


def _refuse_data(wish: Wish, kind: str) -> None:
    given = {"dataset_version_id": wish.dataset_version_id, "min_rating": wish.min_rating}
    problems = [FieldProblem(name, f"{kind} takes no rated clips; leave it out") for name in given if given[name]]
    if problems:
        raise InvalidField.of(problems)


def waiting_reason(kind: str, known: Sequence[Node]) -> str:
    """Why a queued run of a kind is not given to any of the known nodes; empty where one has room."""
    if not known:
        return "no node has joined yet; start one with `tunesmith node`"
    offering = [node for node in known if kind in node.kinds]
    online = [node for node in offering if node.online]
    if not online:
        silent = f"; silent: {', '.join(sorted(node.name for node in offering)[:5])}" if offering else ""
        return f"no node is online that runs {kind}{silent}"
    if any(node.used_slots < node.slots for node in online):
        return ""
    slots = sum(node.slots for node in online)
    return f"the only slot that runs {kind} is taken" if slots == 1 else f"all {slots} slots that run {kind} are taken"
