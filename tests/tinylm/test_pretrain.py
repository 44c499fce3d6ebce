"""The loop: it learns, says what it does, repeats itself to the last bit, and stops and goes on without a trace."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tinylm.tiny import SETTINGS, SHAPE, TEXT, VOCAB, Heard, counting, same_bits, train
from trainer_node import checkpoints
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.ports import Text
from trainer_node.engines.tinylm.pretrain import learning_rate
from trainer_node.errors import CheckpointCorrupt, DataInvalid, LossNotFinite, OutOfMemory
from trainer_node.stop_signal import Stopped
from tunesmith.errors import InvalidField


def test_a_text_with_a_rule_is_learned(tmp_path: Path) -> None:
    text = Text(training=counting(16 * 4 * 6 + 16, below=20), validation=counting(100, below=20))

    trained = train(tmp_path, text=text, epochs=24)

    losses = [row.train_loss for row in trained.progress.history]
    assert losses[:8] == sorted(losses[:8], reverse=True)
    assert trained.progress.best_loss is not None and trained.progress.best_loss < 0.5
    assert trained.progress.untrained_loss is not None and trained.progress.untrained_loss > 4


def test_every_step_is_told_and_every_epoch_summed_up(tmp_path: Path) -> None:
    heard = Heard()

    trained = train(tmp_path, heard)

    training = [(step, list(row)) for step, row in heard.rows if "loss" in row]
    assert training == [(n, ["loss", "learning_rate", "grad_norm", "tokens_per_s"]) for n in range(1, 19)]
    assert [step for step, row in heard.rows if "eval_loss" in row] == [0, 6, 12, 18]
    assert heard.epochs == trained.progress.history
    assert [(row.epoch, row.step) for row in heard.epochs] == [(1, 6), (2, 12), (3, 18)]
    losses = [row["loss"] for _, row in heard.rows if "loss" in row]
    assert heard.epochs[1].train_loss == pytest.approx(math.fsum(losses[6:12]) / 6)
    assert all(row.seconds > 0 and row.tokens_per_s > 0 for row in heard.epochs)
    assert heard.said == ["trains with fp32, 2 threads: asked for"]


def test_a_row_is_the_mean_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    every, some = Heard(), Heard()

    train(tmp_path / "every", every)
    train(tmp_path / "some", some, log_every_steps=4)

    losses = [row["loss"] for _, row in every.rows if "loss" in row]
    rows = [(step, row["loss"]) for step, row in some.rows if "loss" in row]
    assert [step for step, _ in rows] == [4, 8, 12, 16, 18]
    assert [loss for _, loss in rows] == pytest.approx(
        [sum(losses[a:b]) / (b - a) for a, b in ((0, 4), (4, 8), (8, 12), (12, 16), (16, 18))]
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_comes_to_the_same_bits(tmp_path: Path, precision: str) -> None:
    one, other, third = (train(tmp_path / str(n), precision=precision, seed=seed) for n, seed in enumerate((1, 1, 2)))

    assert same_bits(one.model.state_dict(), other.model.state_dict())
    assert not same_bits(one.model.state_dict(), third.model.state_dict())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop_after", [1, 6, 9, 18], ids=lambda step: f"after step {step}")
def test_an_interrupted_training_comes_to_the_same_bits(tmp_path: Path, precision: str, stop_after: int) -> None:
    whole, first, second = Heard(), Heard(), Heard()
    settings: dict[str, Any] = {"precision": precision, "log_every_steps": 2}
    uninterrupted = train(tmp_path / "whole", whole, **settings)

    stopped = train(tmp_path / "parts", first, stop_after=stop_after, **settings)
    resumed = train(tmp_path / "parts", second, resume=checkpoints.latest(tmp_path / "parts"), **settings)

    assert not stopped.finished and resumed.finished
    assert same_bits(resumed.model.state_dict(), uninterrupted.model.state_dict())
    assert same_bits(resumed.best, uninterrupted.best)
    assert first.losses() + second.losses() == whole.losses()
    assert [row.train_loss for row in resumed.progress.history] == [
        row.train_loss for row in uninterrupted.progress.history
    ]


@pytest.mark.parametrize(  # asked in each of two batches of an evaluation, and after each of the six steps between two
    ("question", "step"), [(9, 6), (10, 6), (17, 12), (26, 18)]
)
def test_a_stop_during_an_evaluation_keeps_the_epoch_and_evaluates_it_when_it_goes_on(
    tmp_path: Path, question: int, step: int
) -> None:
    whole, first, second = Heard(), Heard(), Heard()
    uninterrupted = train(tmp_path / "whole", whole)

    stopped = train(tmp_path / "parts", first, stop_at_question=question)
    resumed = train(tmp_path / "parts", second, resume=checkpoints.latest(tmp_path / "parts"))

    assert not stopped.finished and resumed.finished
    assert first.rows[-1][0] == step, "every step of the epoch is told"
    assert "loss" in first.rows[-1][1], "and its validation loss is not"
    assert first.losses() + second.losses() == whole.losses()
    assert same_bits(resumed.best, uninterrupted.best)


def test_a_stop_before_the_first_step_leaves_nothing(tmp_path: Path) -> None:
    heard = Heard()

    with pytest.raises(Stopped):
        train(tmp_path, heard, stop_at_question=1)

    assert heard.rows == [] and checkpoints.checkpoints(tmp_path) == []


def test_a_stop_while_texts_are_sampled_commits_the_epoch_first(tmp_path: Path) -> None:
    def stop(_: TinyTransformer) -> None:
        raise Stopped

    uninterrupted = train(tmp_path / "whole")

    stopped = train(tmp_path / "parts", sample_every_epochs=2, sample=stop)
    kept = checkpoints.latest(tmp_path / "parts")
    resumed = train(tmp_path / "parts", resume=kept)

    assert not stopped.finished and kept is not None and checkpoints.step_of(kept) == 12
    assert same_bits(resumed.model.state_dict(), uninterrupted.model.state_dict())


@pytest.mark.parametrize(("sampled", "epochs"), [(False, [2, 3]), (True, [3])])
def test_samples_that_were_interrupted_are_taken_again_unless_they_are_there(
    tmp_path: Path, sampled: bool, epochs: list[int]
) -> None:
    def stop(_: TinyTransformer) -> None:
        raise Stopped

    heard = Heard()
    train(tmp_path, sample_every_epochs=2, sample=stop)

    train(tmp_path, heard, sample_every_epochs=2, resume=checkpoints.latest(tmp_path), sampled=sampled)

    assert heard.sampled == epochs


def test_a_training_that_died_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", checkpoint_every_steps=4)

    def die(_: TinyTransformer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", checkpoint_every_steps=4, sample_every_epochs=2, sample=die)
    heard = Heard()
    resumed = train(tmp_path / "parts", heard, checkpoint_every_steps=4, resume=checkpoints.latest(tmp_path / "parts"))

    assert heard.said == ["goes on after step 12, with fp32, 2 threads"]
    assert same_bits(resumed.model.state_dict(), uninterrupted.model.state_dict())


def test_checkpoints_come_by_step_by_epoch_and_at_the_end(tmp_path: Path) -> None:
    by_step, by_epoch = Heard(), Heard()

    train(tmp_path / "step", by_step, checkpoint_every_steps=5)
    train(tmp_path / "epoch", by_epoch, checkpoint_every_epochs=2)

    assert by_step.saved == ["step-00000005", "step-00000010", "step-00000015", "step-00000018"]
    assert by_epoch.saved == ["step-00000012", "step-00000018"]


def test_a_checkpoint_holds_tensors_and_numbers_and_no_pickle(tmp_path: Path) -> None:
    train(tmp_path, checkpoint_every_steps=7)

    files = {path.name for path in (tmp_path / "step-00000007").iterdir()}

    assert files == {
        "model.safetensors", "best_model.safetensors", "optimizer.safetensors", "progress.json", "manifest.json",
    }  # fmt: skip


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    noise = torch.randint(VOCAB, (100,), generator=torch.Generator().manual_seed(0)).numpy().astype("uint16")

    trained = train(tmp_path, text=Text(training=TEXT.training, validation=noise), epochs=6)

    losses = [row.validation_loss for row in trained.progress.history]
    assert trained.progress.best_epoch == 1 + losses.index(min(losses)) < 6
    assert not same_bits(trained.best, trained.model.state_dict())
    at_best = train(
        tmp_path / "again",
        text=Text(training=TEXT.training, validation=noise),
        epochs=6,
        stop_after=trained.progress.best_step,
    )
    assert same_bits(trained.best, at_best.model.state_dict())


def test_patience_ends_a_training_that_no_longer_gets_better(tmp_path: Path) -> None:
    noise = torch.randint(VOCAB, (100,), generator=torch.Generator().manual_seed(0)).numpy().astype("uint16")

    trained = train(tmp_path, text=Text(training=TEXT.training, validation=noise), epochs=9, patience_epochs=2)

    assert trained.finished and trained.progress.stopped_early
    assert trained.progress.epoch == trained.progress.best_epoch + 2 < 9


def test_without_a_validation_text_the_last_weights_are_the_best(tmp_path: Path) -> None:
    heard = Heard()

    trained = train(tmp_path, heard, text=replace(TEXT, validation=TEXT.validation[:0]), patience_epochs=1)

    assert same_bits(trained.best, trained.model.state_dict())
    assert not any("eval_loss" in row for _, row in heard.rows)
    assert [row.validation_loss for row in heard.epochs] == [None] * 3


def test_samples_come_at_intervals_and_change_nothing(tmp_path: Path) -> None:
    heard = Heard()
    undisturbed = train(tmp_path / "without", sample_every_epochs=0)

    trained = train(tmp_path / "with", heard, sample_every_epochs=2, sample=lambda _: torch.rand(5))

    assert heard.sampled == [2, 3]
    assert same_bits(trained.model.state_dict(), undisturbed.model.state_dict())


def test_a_loss_that_is_not_finite_ends_it_with_a_rate_to_try(tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite) as failed:
        train(tmp_path, learning_rate=1e30)

    assert failed.value.message == (
        "the loss is nan at step 2; reduce learning_rate from 1e+30 to 1e+29, or give warmup_steps of a few hundred"
    )


@pytest.mark.parametrize(
    ("batch_size", "remedy"),
    [(4, "reduce batch_size from 4 to 2"), (1, "reduce max_seq_length from 16 to 8")],
)
def test_out_of_memory_names_what_to_reduce_and_to_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, remedy: str
) -> None:
    monkeypatch.setattr(TinyTransformer, "hidden", lambda *_, **__: torch.empty(1 << 50, dtype=torch.uint8))

    with pytest.raises(OutOfMemory) as failed:
        train(tmp_path, batch_size=batch_size)

    assert failed.value.message == f"memory ran out on the CPU; {remedy}"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"learning_rate": 1e-3}, "learning_rate: the checkpoint was trained with 0.01"),
        ({"epochs": 4}, "epochs: the checkpoint was trained with 3"),
        ({"precision": "bf16"}, "precision: the checkpoint was trained with 'fp32'"),
        ({"shards": 1}, "shards: the checkpoint was trained with 2"),
        ({"shape": {"ffn": 64}}, "ffn: the checkpoint was trained with 32"),
    ],
)
def test_a_checkpoint_goes_on_only_under_its_settings(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    train(tmp_path, stop_after=3)

    with pytest.raises(InvalidField) as refused:
        train(tmp_path, resume=tmp_path / "step-00000003", **changed)

    assert refused.value.message == f"{named}; resume with that, or start anew"


def test_what_is_left_open_is_taken_from_the_checkpoint(tmp_path: Path) -> None:
    heard = Heard()
    train(tmp_path, stop_after=3, precision="bf16", shards=3)

    resumed = train(tmp_path, heard, resume=tmp_path / "step-00000003", precision="auto", shards=0)

    assert resumed.finished
    assert heard.said == ["goes on after step 3, with bf16, 3 threads"]


def test_more_shards_than_windows_in_a_batch_are_as_many_as_there_are(tmp_path: Path) -> None:
    train(tmp_path, stop_after=3, shards=8)

    resumed = train(tmp_path, resume=tmp_path / "step-00000003", shards=8)

    assert resumed.finished and resumed.progress.shards == 4


def test_a_checkpoint_of_another_text_is_refused(tmp_path: Path) -> None:
    train(tmp_path, stop_after=3)
    other = TEXT.training.copy()
    other[7] = 0

    with pytest.raises(DataInvalid, match="trained on another text; resume with that one, or start anew"):
        train(tmp_path, resume=tmp_path / "step-00000003", text=replace(TEXT, training=other))


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_checkpoint_is_refused_before_anything_is_trained(tmp_path: Path, damage: str) -> None:
    train(tmp_path, stop_after=3)
    file = tmp_path / "step-00000003" / "optimizer.safetensors"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"x")

    with pytest.raises(CheckpointCorrupt, match="is not whole"):
        train(tmp_path, resume=tmp_path / "step-00000003")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.CheckpointFolder(tmp_path, keep=1)
    with folder.commit(3) as writing:
        (writing / "progress.json").write_text('{"eval_step": 3}')

    with pytest.raises(CheckpointCorrupt, match="not one of a language model"):
        train(tmp_path, resume=folder.path(3))


def test_the_rate_warms_up_in_a_line_and_falls_in_half_a_cosine() -> None:
    settings = replace(SETTINGS, learning_rate=1.0, warmup_steps=4, final_rate_share=0.1)

    rates = [learning_rate(settings, step, 12) for step in range(13)]

    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_the_rate_that_is_told_is_the_rate_that_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, applied = Heard(), list[list[float]]()
    step = torch.optim.AdamW.step

    def noted(optimizer: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        applied.append([group["lr"] for group in optimizer.param_groups])
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    train(tmp_path, heard, warmup_steps=4)

    told = [row["learning_rate"] for _, row in heard.rows if "learning_rate" in row]
    assert applied == [[rate, rate] for rate in told]
    assert told == [learning_rate(replace(SETTINGS, warmup_steps=4), number, 18) for number in range(18)]
    assert told[:4] == sorted(told[:4]) and told[4:] == sorted(told[4:], reverse=True) and told[-1] < told[4] / 5


def test_gradients_are_clipped_before_a_step_and_told_as_they_were(tmp_path: Path) -> None:
    def moved(max_grad_norm: float) -> tuple[float, float]:
        heard = Heard()
        settings: dict[str, Any] = {"stop_after": 1, "weight_decay": 0.0}
        still = train(tmp_path / "still", learning_rate=1e-30, **settings).model
        trained = train(tmp_path / str(max_grad_norm), heard, max_grad_norm=max_grad_norm, **settings).model
        both = zip(trained.parameters(), still.parameters(), strict=True)
        return sum((one - other).abs().sum().item() for one, other in both), heard.rows[1][1]["grad_norm"]

    free, as_it_was = moved(1e9)
    clipped, told = moved(1e-9)  # far below AdamW's epsilon: it divides by its own size what it can still see

    assert told == as_it_was > 0.01
    assert 0 < clipped < free / 10


def test_a_vocabulary_that_is_too_small_for_the_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="the training tokens hold the id 299, and the vocabulary ends at 99"):
        train(tmp_path, shape={"vocab_size": 100})

    assert SHAPE.vocab_size == VOCAB
