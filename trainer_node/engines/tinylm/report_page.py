"""What a language model's training leaves for people: report.md with the loss curve and samples, and a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_node.engines.tinylm import layout, synthetic
from trainer_node.engines.tinylm.corpus import Corpus
from trainer_node.engines.tinylm.plan import words_of
from trainer_node.engines.tinylm.telling import TextSample
from trainer_node.markdown import table


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that the pages tell. history: training_history.json; validation: by language, and of all.

    settings: by dotted name; source: of the corpus; samples: those while it trained, then the best model's. run_id:
    empty where nobody but this folder knows of the training.
    """

    history: Mapping[str, Any]
    validation: Mapping[str, Any]
    settings: Mapping[str, str]
    corpus: Corpus
    source: str
    samples: Sequence[TextSample]
    best_samples: Sequence[TextSample]
    environment: Mapping[str, str]
    run_id: str = ""

    @property
    def epochs(self) -> Sequence[Mapping[str, Any]]:
        """The rows of the history."""
        rows: Sequence[Mapping[str, Any]] = self.history["epochs"]
        return rows

    @property
    def is_synthetic(self) -> bool:
        """Whether a program wrote the text that it learned from."""
        return self.source == "synthetic"


def curves(findings: Findings) -> dict[str, list[tuple[float, float]]]:
    """Loss by epoch."""
    rows = findings.epochs
    held = [(row["epoch"], row["validation_loss"]) for row in rows if row["validation_loss"] is not None]
    untrained = findings.history["untrained_validation_loss"]
    if held and untrained is not None:
        held = [(0, untrained), *held]
    found = {"training": [(row["epoch"], row["train_loss"]) for row in rows], "validation": held}
    return {name: points for name, points in found.items() if points}


def page(findings: Findings) -> str:
    """report.md."""
    parts = [
        "# Training report",
        f"> **{_capital(synthetic.NOTICE)}.**" if findings.is_synthetic else "",
        table("Result", result(findings)),
        f"## Loss\n\n![Loss by epoch, in nats a token]({layout.CURVE})",
        _epochs(findings),
        _languages(findings),
        _samples("Samples of the best model", findings.best_samples),
        _while_training(findings.samples),
        table("Corpus", corpus_rows(findings)),
        table("Settings", findings.settings),
        table("Environment", findings.environment),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def card(findings: Findings) -> str:
    """README.md: what this folder is, for whoever finds it."""
    data = words_of(findings.source)
    warning = f"**{_capital(synthetic.NOTICE)}.**\n\n" if findings.is_synthetic else ""
    return f"""# A small language model

{warning}A TinyTransformer of {findings.history["parameters"]:,} parameters, trained by Tunesmith on \
{findings.corpus.size_bytes / 1e6:.1f} MB of {data}. It shows how language models are made; it knows nothing, and what \
it writes means nothing.

{table("Result", result(findings))}

## Use

```console
$ tunesmith lm sample . "{findings.best_samples[0].prompt if findings.best_samples else "The"}"
```

`{layout.BEST}` (lowest validation loss) and `{layout.FINAL}` hold tensors and plain values: \
`torch.load(path, weights_only=True)`. The tokenizer is in `{layout.TOKENIZER}/`, a SentencePiece unigram model. How \
it was trained: {_how(findings.run_id)}[{layout.HISTORY}]({layout.HISTORY}).
"""


def _how(run_id: str) -> str:
    """Where the report is: beside a training in the foreground; a model that is downloaded has none with it."""
    here = f"[{layout.PAGE}]({layout.PAGE}), [{layout.CONFIG}]({layout.CONFIG}), "
    return f"the report of the run `{run_id}`, " if run_id else here


def result(findings: Findings) -> dict[str, str]:
    """The figures that people ask for first."""
    history, last = findings.history, findings.epochs[-1]
    rows = {
        "Training loss, last epoch": f"{last['train_loss']:.4f} nats a token",
        "Best model": f"of epoch {history['best_epoch']}, step {history['best_step']:,}",
    }
    if whole := findings.validation["all"]:
        rows["Validation loss"] = f"{whole['loss']:.4f} nats a token"
        rows["Validation loss, untrained"] = f"{history['untrained_validation_loss']:.4f}"
        rows["Perplexity"] = f"{whole['perplexity']:.1f}"
        rows["Bits a character"] = f"{whole['bits_per_character']:.3f}"
        rows["Validation − training, last epoch"] = f"{last['validation_loss'] - last['train_loss']:+.4f}"
    else:
        rows["Validation loss"] = "nothing was held out"
    seconds = sum(row["seconds"] for row in findings.epochs)
    rows["Epochs"] = f"{len(findings.epochs)}" + (", stopped early" if history["stopped_early"] else "")
    rows["Steps"] = f"{last['step']:,}"
    rows["Time of the steps"] = f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"
    rows["Parameters"] = f"{history['parameters']:,}"
    rows["Arithmetic"] = history["arithmetic"]
    return rows


def corpus_rows(findings: Findings) -> dict[str, str]:
    """What it learned from."""
    rows = {"Source": words_of(findings.source), "SHA-256": findings.corpus.digest}
    for language in findings.corpus.languages:
        rows[language.code] = (
            f"{language.paragraphs:,} paragraphs, {language.validation_paragraphs:,} of them held out; "
            f"{language.size_bytes / 1e6:.2f} MB"
        )
    rows |= {f"Note {number}": note for number, note in enumerate(findings.corpus.notes, 1)}
    return rows


def _epochs(findings: Findings) -> str:
    lines = ["| epoch | training | validation | learning rate | tokens/s | seconds |", "| --: " * 6 + "|"]
    for row in findings.epochs:
        held = "" if row["validation_loss"] is None else f"{row['validation_loss']:.4f}"
        lines.append(
            f"| {row['epoch']} | {row['train_loss']:.4f} | {held} | {row['learning_rate']:.3g} | "
            f"{row['tokens_per_s']:,.0f} | {row['seconds']:.1f} |"
        )
    return "\n".join(lines)


def _languages(findings: Findings) -> str:
    rows = {
        code: f"{one['loss']:.4f} nats a token, perplexity {one['perplexity']:.1f}, "
        f"{one['bits_per_character']:.3f} bits a character"
        for code, one in findings.validation["languages"].items()
    }
    return table("Validation by language", rows) if rows else ""


def _while_training(samples: Sequence[TextSample]) -> str:
    epochs = dict.fromkeys(sample.epoch for sample in samples)
    parts = [
        _samples(f"Samples after epoch {epoch}", [one for one in samples if one.epoch == epoch]) for epoch in epochs
    ]
    return "\n\n".join(parts)


def _samples(title: str, samples: Sequence[TextSample]) -> str:
    if not samples:
        return ""
    texts = [f"> **{_plain(one.prompt)}**{_plain(one.text.removeprefix(one.prompt))}" for one in samples]
    return "\n\n".join([f"## {title}", *texts])


def _plain(text: str) -> str:
    """Text as Markdown shows it: nothing in it is a command to whoever draws the page."""
    escaped = "".join(f"\\{character}" if character in "\\`*_{}[]<>()#+!|~" else character for character in text)
    return escaped.replace("&", "&amp;").replace("\n", " ")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
