"""What is drawn of a training while it goes: lines off a terminal, a panel on one."""

from __future__ import annotations

import io
import sys

from services.cli.display import LineDisplay, LiveDisplay
from services.cli.output import Output
from tunesmith.v1 import job_event_pb2, run_pb2

DPO = {"loss": 0.69, "rewards/chosen": 0.2, "rewards/margin": 0.1, "rewards/accuracy": 0.75, "logps/chosen": -4000.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def batch(step, values):
    return job_event_pb2.MetricBatch(names=list(values), steps=[step], times_us=[step], values=list(values.values()))


def test_a_plain_line_of_a_preference_run_has_margin_and_accuracy_without_their_halves(capsys):
    with LineDisplay(Output()) as display:
        display.metrics(batch(5, DPO))
        display.metrics(batch(5, {f"eval_{name}": value for name, value in DPO.items()}))

    assert capsys.readouterr().out.splitlines() == [
        "step=5 loss=0.69 rewards/margin=0.1 rewards/accuracy=0.75",
        "step=5 eval_loss=0.69 eval_rewards/margin=0.1 eval_rewards/accuracy=0.75",
    ]


def test_a_panel_keeps_a_line_of_each_validation_since_it_began(monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    with LiveDisplay(Output(color="never"), "songs") as display:
        display.run(run_pb2.Run(state="RUN_STATE_RUNNING", step=10, total_steps=20, total_epochs=2))
        for step in (10, 20):
            display.metrics(batch(step, {f"eval_{name}": value for name, value in DPO.items()}))

    drawn = terminal.getvalue()
    assert "validation at step 20: loss 0.69, margin 0.1, accuracy 0.75" in drawn
    assert "validation at step 10" not in drawn
    assert "val acc 0.75" in drawn
