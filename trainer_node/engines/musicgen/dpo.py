"""Direct preference optimisation: TRL's DPOTrainer, which brings the losses, on the loop that all adapters share.

TRL trains causal language models. What it is told of MusicGen is `Scored`: one row of log-probabilities a clip, as if
its codes were one sequence. The model itself stays as it is, so wrappers around it, previews and checkpoints work as
for every method; what TRL's constructor changes on it is put back (`acceptable_to_trl`). The reference comes with the
batch: it was computed once, see reference.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset  # type: ignore[import-untyped]  # has no types
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from trainer_node import preflight
from trainer_node.engines.musicgen import family, losses
from trainer_node.engines.musicgen.codes import IGNORE
from trainer_node.engines.musicgen.examples import Example
from trainer_node.engines.musicgen.family import Batch
from trainer_node.engines.musicgen.loop import AdapterTrainer
from trainer_node.engines.musicgen.session import Kind, Parts, run
from trainer_node.training import Blobs, Outcome, StopRequested, Telemetry, TrainingJob
from tunesmith.v1 import job_spec_pb2

METRICS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margin",
    "rewards/accuracy",
    "logps/chosen",
    "logps/rejected",
)
_MEANS_OVER_TOKENS = ("sigmoid_norm", "ipo")


class PairBatch(Batch):
    """P pairs as B = 2 P clips: all chosen ones, then the rejected ones in the same order.

    reference_B: log-probability of each clip under the reference, in nats; 64-bit.
    """

    reference_B: Tensor


@dataclass(frozen=True)
class Scored:
    """What TRL reads from the output of a causal language model. log_probs: [B, K S], 0 where there is no target.

    The others feed metrics that are not kept: none of them is worth a pass over the whole vocabulary.
    """

    log_probs: Tensor

    @property
    def entropy(self) -> Tensor:
        """Nothing, in the shape of log_probs."""
        return self.log_probs.new_zeros(()).expand_as(self.log_probs)

    mean_logits = entropy

    @property
    def is_top1(self) -> Tensor:
        """Nothing, as booleans."""
        return self.entropy.bool()


def collate(examples: Sequence[Example], *, channels: int) -> PairBatch:
    """Pairs, each with its reference, as one batch."""
    clips = family.collate([example.clips[place] for place in (0, 1) for example in examples], channels=channels)
    reference_B = [example.reference[place] for place in (0, 1) for example in examples]
    return PairBatch(**clips, reference_B=torch.tensor(reference_B, dtype=torch.float64))


def score(model: Any, batch: PairBatch) -> Tensor:
    """logps_BN of the codes of each clip in a row, N = K S, 0 where there is no target.

    In 64 bits: what counts is small differences of sums of thousands.
    """
    return -losses.token_nll(family.score(model, batch), batch["labels_BKS"]).double().flatten(1)


def trl_settings(spec: job_spec_pb2.DpoSpec) -> dict[str, Any]:
    """The loss as a DPOConfig names it.

    TRL's sigmoid does not know label smoothing e. The conservative loss (1-e) L(d) + e L(-d) of its L is
    2 (1-e) sigmoid - (1-2e) robust, where robust = ((1-e) L(d) - e L(-d)) / (1-2e).
    """
    loss, smoothing = job_spec_pb2.DpoLoss.Name(spec.loss).removeprefix("DPO_LOSS_").lower(), spec.label_smoothing
    weights = {loss: 1.0}
    if loss == "sigmoid" and smoothing:
        weights = {"sigmoid": 2 * (1 - smoothing), "robust": -(1 - 2 * smoothing)}
    if spec.sft_weight:
        weights["sft"] = spec.sft_weight
    return {
        "loss_type": list(weights),
        "loss_weights": list(weights.values()),
        "beta": spec.beta,
        "label_smoothing": smoothing,
    }


class Preferences:
    """The method: a batch of pairs, and TRL's loss of it. It has no randomness of its own."""

    generators: Mapping[str, torch.Generator] = {}

    def __init__(self, trainer: DpoTrainer, *, channels: int) -> None:
        self.trainer = trainer
        self.channels = channels

    def collate(self, examples: Sequence[Example]) -> PairBatch:
        """Pairs as one batch."""
        return collate(examples, channels=self.channels)

    def targets(self, batch: PairBatch) -> Tensor:
        """What the two parts of a loss are means over: pairs, and codes of the chosen clips."""
        pairs = len(batch["reference_B"]) // 2
        codes = losses.count_targets(batch["labels_BKS"][:pairs])
        return torch.stack([codes.new_tensor(pairs), codes])

    def loss(self, model: Any, batch: PairBatch, targets: Tensor | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch's share of the loss of a step that has `targets`."""
        logps_BN = score(model, batch)
        share = None if targets is None else self.targets(batch).double() / targets
        return self._loss(logps_BN, batch, slice(None), share), self._metrics(logps_BN.detach(), batch)

    def evaluate(self, model: Any, batch: PairBatch) -> Mapping[str, Tensor]:
        """The same of each pair."""
        logps_BN = score(model, batch)
        pairs = len(logps_BN) // 2
        loss_P = torch.stack([self._loss(logps_BN, batch, slice(pair, None, pairs)) for pair in range(pairs)])
        return {"loss": loss_P, **self._metrics(logps_BN, batch)}

    def _loss(self, logps_BN: Tensor, batch: PairBatch, clips: slice, share: Tensor | None = None) -> Tensor:
        has_target_BN = batch["labels_BKS"].flatten(1) != IGNORE
        return self.trainer.trl_loss(logps_BN[clips], has_target_BN[clips], batch["reference_B"][clips], share)

    def _metrics(self, logps_BN: Tensor, batch: PairBatch) -> Mapping[str, Tensor]:
        """METRICS of each pair. A reward is beta times what the loss compares, a log-ratio to the reference."""
        logps_B = logps_BN.sum(1)
        ratios_B = logps_B - batch["reference_B"]
        if self.trainer.loss_types[0] in _MEANS_OVER_TOKENS:
            ratios_B = ratios_B / (batch["labels_BKS"] != IGNORE).sum((1, 2))
        chosen_P, rejected_P = (self.trainer.beta * ratios_B).chunk(2)
        values = (chosen_P, rejected_P, chosen_P - rejected_P, (chosen_P > rejected_P).double(), *logps_B.chunk(2))
        return dict(zip(METRICS, values, strict=True))


class DpoTrainer(AdapterTrainer, DPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """The loop of all adapters, with TRL's losses. What of TRL this relies on, tests/training/test_dpo_trl.py names."""

    accelerator: Any

    def __init__(self, parts: Parts, spec: job_spec_pb2.DpoSpec) -> None:
        base = parts.prepared.base
        args = DPOConfig(**parts.arguments, **trl_settings(spec), bf16=False, max_length=None, disable_dropout=False)
        # The Trainer goes by the new name, activation_checkpointing. By this one TRL would hook the embedding of T5.
        args.gradient_checkpointing = False
        with acceptable_to_trl(parts.model):
            super().__init__(
                Preferences(self, channels=base.channels),
                course=parts.course,
                model=parts.model,
                args=args,
                train_dataset=Dataset.from_dict({"pair": [0]}),  # it takes no list
                processing_class=base.tokenizer,
                callbacks=parts.callbacks,
            )
        self.train_dataset = parts.prepared.training
        self.eval_dataset = parts.prepared.validation or None
        self.processing_class = None  # or the Trainer would write the tokenizer's special tokens over the model's
        self.precompute_ref_logps = True
        self.wanted_weights: tuple[float, ...] = tuple(args.loss_weights)

    def trl_loss(self, logps_BN: Tensor, has_target_BN: Tensor, reference_B: Tensor, share: Tensor | None) -> Tensor:
        """TRL's loss of a batch whose codes have these log-probabilities; all chosen clips, then the rejected ones.

        share: the batch's part of the pairs and of the chosen codes of its step; None where it is the whole step.
        """
        weights = zip(self.loss_types, self.wanted_weights, strict=True)
        self.loss_weights = [
            weight if share is None else weight * share[int(kind == "sft")] for kind, weight in weights
        ]
        target_BN = F.pad(has_target_BN, (1, 0)).long()  # to TRL the first token of a row predicts nothing
        chosen_P, rejected_P = reference_B.chunk(2)
        inputs = {"ref_chosen_logps": chosen_P, "ref_rejected_logps": rejected_P, "completion_mask": target_BN}
        inputs |= {"input_ids": target_BN, "attention_mask": target_BN}  # only their shape counts
        with self._trl_metrics_dropped():
            loss: Tensor = self._compute_loss(lambda **_: Scored(logps_BN), inputs, False)
        return loss

    @contextmanager
    def _trl_metrics_dropped(self) -> Iterator[None]:
        """TRL logs means of batches, and waits for all processes to do so. AdapterTrainer logs means of pairs."""
        kept = self._metrics, self.accelerator
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self.accelerator = SimpleNamespace(device=self.accelerator.device, gather=_same, gather_for_metrics=_same)
        try:
            yield
        finally:
            self._metrics, self.accelerator = kept

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """Nothing: clips are encoded already."""
        return dataset

    def _send_telemetry(self) -> None:
        """Nothing: trainings are nobody else's business."""


def _same(values: Tensor) -> Tensor:
    return values


@contextmanager
def acceptable_to_trl(model: Any) -> Iterator[None]:
    """Let TRL's constructor take MusicGen, and put back what it changes.

    It asks for the one configuration of a text model, of which MusicGen has two; overwrites pad tokens; puts its own
    `forward` before the model's; adds its tags, and a copy of the adapter named `ref`.
    """
    inner = model.get_base_model()
    decoder, generation = inner.config.decoder, inner.generation_config
    pads = (decoder.pad_token_id, generation.pad_token_id)
    had = {name: vars(inner)[name] for name in ("forward", "model_tags") if name in vars(inner)}
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    inner.config.get_text_config = lambda *_, **__: decoder
    try:
        yield
    finally:
        del inner.config.get_text_config
        decoder.pad_token_id, generation.pad_token_id = pads
        for name in ("forward", "model_tags"):
            vars(inner).pop(name, None)
        vars(inner).update(had)
        if "ref" in model.peft_config:
            model.delete_adapter("ref")
        for name, part in model.named_parameters():
            part.requires_grad_(name in trained)


def train(job: TrainingJob, telemetry: Telemetry, blobs: Blobs, stop: StopRequested) -> Outcome:
    """Train an adapter on preference pairs; see trainer_node.training.Train."""
    spec = job.job.spec.dpo
    preflight.require_pairs(job.comparisons)
    kind = Kind(build=lambda parts: DpoTrainer(parts, spec), needs_reference=True, metrics=METRICS)
    return run(job, telemetry, blobs, stop, settings=spec, kind=kind)
