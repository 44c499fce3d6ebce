"""What is killed, and what must survive it. Everything is measured against the spool: what the training has emitted."""

from __future__ import annotations

import os
import signal

import psutil

from tests.support.installation import Installation, ledger_of, small_training, wait_for
from tunesmith.v1 import adapter_pb2, job_event_pb2, run_pb2


async def test_killing_the_control_plane_during_a_run_loses_and_doubles_nothing(installation: Installation) -> None:
    installation.start_control_plane()
    installation.start_node()
    run_id = installation.submit(installation.new_experiment(), small_training(epochs=120))

    for step in (20, 120, 220):
        installation.run_at_step(run_id, step)
        installation.kill("control-plane")
        before = installation.spooled()[-1].seq
        wait_for(lambda before=before: installation.spooled()[-1].seq > before, within_s=20)  # it trains on meanwhile
        installation.start_control_plane()
    run = installation.ended(run_id)

    assert run.state == run_pb2.RUN_STATE_SUCCEEDED and run.attempt == 1, run
    events = installation.spooled()
    assert installation.metrics(run_id) == ledger_of(events)
    watched = installation.watched(run_id)
    assert len(watched) == len(ledger_of(events)), "no point twice"
    emitted = [
        line
        for stream in (job_event_pb2.LOG_STREAM_STDOUT, job_event_pb2.LOG_STREAM_STDERR)
        for event in events
        if event.logs.stream == stream
        for line in event.logs.lines
    ]
    assert sorted(installation.log_texts(run_id)) == sorted(emitted)


async def test_killing_the_node_service_leaves_the_training_running_and_loses_nothing(
    installation: Installation,
) -> None:
    installation.start_control_plane("--lease-s", "60")
    installation.start_node()
    run_id = installation.submit(installation.new_experiment(), small_training(epochs=60))
    installation.run_at_step(run_id, 20)
    training = installation.training_process()

    installation.kill("node-a")
    assert training.is_running()
    installation.start_node()
    run = installation.ended(run_id)

    assert run.state == run_pb2.RUN_STATE_SUCCEEDED and run.attempt == 1, run
    assert installation.metrics(run_id) == ledger_of(installation.spooled())


async def test_a_lost_nodes_run_goes_on_elsewhere_from_its_last_checkpoint(installation: Installation) -> None:
    installation.start_control_plane("--lease-s", "3", "--node-silence-s", "6")
    installation.start_node("node-a")
    spec = small_training(epochs=60)
    run_id = installation.submit(installation.new_experiment(), spec)
    wait_for(lambda: installation.checkpoints(run_id), within_s=90)

    training = installation.training_process("node-a")
    installation.kill("node-a")
    training.kill()
    installation.start_node("node-b")
    run = installation.ended(run_id)

    assert run.state == run_pb2.RUN_STATE_SUCCEEDED and run.attempt == 2, run
    started = next(event.started for event in installation.spooled("node-b") if event.HasField("started"))
    assert started.resumed_step > 0
    steps = {step for name, step in installation.metrics(run_id) if name == "loss"}
    assert steps == set(range(1, run.total_steps + 1)), "the curve has no hole where the node was lost"


async def test_a_killed_training_fails_its_run_with_exit_code_and_keeps_its_checkpoints(
    installation: Installation,
) -> None:
    installation.start_control_plane()
    installation.start_node()
    run_id = installation.submit(installation.new_experiment(), small_training(epochs=200))
    wait_for(lambda: installation.checkpoints(run_id), within_s=90)

    installation.training_process().kill()
    run = installation.ended(run_id, within_s=20)

    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.failure.reason == "PROCESS_DIED" and run.failure.exit_code == -signal.SIGKILL
    assert run.failure.message
    assert installation.checkpoints(run_id), "checkpoints are kept"
    assert not installation.client.adapters.ListAdapters(adapter_pb2.ListAdaptersRequest()).adapters


async def test_a_cancelled_runs_processes_are_gone_within_ten_seconds_and_leave_a_checkpoint(
    installation: Installation,
) -> None:
    installation.start_control_plane()
    installation.start_node()
    run_id = installation.submit(installation.new_experiment(), small_training(epochs=200))
    installation.run_at_step(run_id, 10)
    group = os.getpgid(installation.training_process().pid)

    installation.client.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run_id))
    wait_for(lambda: not _group_lives(group), within_s=10)
    run = installation.ended(run_id, within_s=10)

    assert run.state == run_pb2.RUN_STATE_CANCELLED
    (checkpoint,) = installation.checkpoints(run_id)[-1:]
    assert checkpoint.step >= 10 and checkpoint.files


async def test_a_resumed_runs_losses_are_bit_identical_to_an_uninterrupted_one(installation: Installation) -> None:
    installation.start_control_plane()
    installation.start_node()
    experiment_id = installation.new_experiment()
    spec = small_training(epochs=40)
    whole = installation.submit(experiment_id, spec)
    installation.ended(whole)
    broken = installation.submit(experiment_id, spec)
    installation.run_at_step(broken, 17)
    installation.client.runs.CancelRun(run_pb2.CancelRunRequest(run_id=broken))
    assert installation.ended(broken).state == run_pb2.RUN_STATE_CANCELLED

    resumed = installation.client.runs.ResumeRun(run_pb2.ResumeRunRequest(run_id=broken)).run
    run = installation.ended(resumed.run_id)

    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    assert run.resumed_from_run_id == broken and run.resumed_from_step >= 17
    expected, first, second = (installation.metrics(each) for each in (whole, broken, run.run_id))
    # stopped at the end of an epoch, the evaluation of that very step is the resumed run's
    assert {key: value for key, value in expected.items() if key not in first} == second
    interrupted = first | second
    assert {key: interrupted[key] for key in expected} == expected
    assert installation.run(whole).final_loss == run.final_loss


def _group_lives(group: int) -> bool:
    def member(process: psutil.Process) -> bool:
        try:
            return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    return any(member(process) for process in psutil.process_iter())
