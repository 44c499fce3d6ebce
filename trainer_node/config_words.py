"""A TrainingConfig in words: what was trained on, in which unit its loss is, and from which adapters it comes."""

from __future__ import annotations

from google.protobuf.message import Message

from tunesmith import spec as specs
from tunesmith.v1 import job_event_pb2

_PREFERENCES = ("dpo", "ranking")


def data(config: job_event_pb2.TrainingConfig) -> str:
    """How much there is to train on, such as `272 pairs, 40 held out`."""
    return f"{counted(config, config.training_samples)}, {config.validation_samples} held out"


def counted(config: job_event_pb2.TrainingConfig, count: int) -> str:
    """So many examples, by what the kind of training learns from: clips, pairs, ranked lists or paragraphs."""
    kind = specs.kind_of(config.spec)
    if kind == "dpo" or config.derivation.HasField("pairs"):
        what = "pair"
    elif kind == "ranking":
        what = "ranked list"
    else:
        what = {"supervised": "clip", "tiny_lm": "paragraph"}.get(kind, "sample")
    return f"{count} {what}{'' if count == 1 else 's'}"


def settings(body: Message) -> dict[str, str]:
    """The settings in force of a kind of training, by dotted path, as a report shows them."""
    return {
        path: ", ".join(map(repr, value)) if isinstance(value, list) else f"{value}"
        for path, value in specs.in_force(body).items()
    }


def unit_of_loss(config: job_event_pb2.TrainingConfig) -> str:
    """What stands after a loss, with the space before it. The losses of preferences have no unit."""
    return "" if specs.kind_of(config.spec) in _PREFERENCES else " nats a token"


def lineage(config: job_event_pb2.TrainingConfig, name: str = "") -> str:
    """The adapters that led here, oldest first: `supervised my-taste@1 → dpo my-taste@2`. name: of the last one."""
    steps = [origin_text(origin) for origin in config.lineage]
    return " → ".join([*steps, f"{specs.kind_of(config.spec)} {name or 'this adapter'}".strip()])


def origin_text(origin: job_event_pb2.AdapterOrigin) -> str:
    """One adapter of a lineage, with the kind of training that made it."""
    name = f"{origin.name}@{origin.version}" if origin.version else origin.name
    return f"{origin.kind} {name or origin.adapter_id or 'an adapter without a name'}".strip()
