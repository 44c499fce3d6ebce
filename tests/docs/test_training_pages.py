"""The pages on language models answer what was asked of them: each requirement has a heading with its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from tests.rules.sources import ROOT

TRAINING = "docs/explanation/training/"
HOW_TO = "docs/how-to/train-a-language-model.md"
TROUBLE = "docs/troubleshooting/language-model.md"
COURSE = (
    *("index", "corpus", "tokenization", "embeddings", "attention", "loss", "backpropagation", "training-loop"),
    *("evaluation", "sampling", "hyperparameters"),
)
FEW = 40  # words: a section with fewer answers nothing


@dataclass(frozen=True)
class Answer:
    """Where something is answered. anchor: of the heading; says: words that the answer cannot do without."""

    page: str
    anchor: str
    says: tuple[str, ...]


def course(page: str, anchor: str, *says: str) -> Answer:
    """An answer on a page of the course."""
    return Answer(f"{TRAINING}{page}.md", anchor, says)


def how_to(anchor: str, *says: str) -> Answer:
    """An answer where the commands are."""
    return Answer(HOW_TO, anchor, says)


def trouble(anchor: str, *says: str) -> Answer:
    """An answer where something is wrong."""
    return Answer(TROUBLE, anchor, says)


ANSWERS: dict[str, tuple[Answer, ...]] = {
    "FR-001 one command for corpus, tokenizer and training": (
        how_to("by-one-command", "tunesmith lm train", "downloads"),
    ),
    "FR-002 disk, packages and corpus are checked before": (
        how_to("by-one-command", "checked first"),
        trouble("the-disk-is-full", "Room is checked first", "free"),
    ),
    "FR-003 checkpoints at intervals that can be set": (
        how_to("by-one-command", "--checkpoint-every-epochs", "fifth epoch"),
        course("training-loop", "the-loop", "save", "every 5 epochs"),
    ),
    "FR-004 progress: epoch, both losses, rate, samples": (
        how_to("by-one-command", "train_loss=", "validation_loss=", "learning_rate=", "sample_epoch="),
    ),
    "FR-005 best and final model, tokenizer, history": (
        how_to("by-one-command", "best_model.pt", "final_model.pt", "tokenizer/", "training_history.json"),
    ),
    "FR-006 an interrupted training goes on": (
        how_to("interrupt-it-and-go-on", "--resume", "--restart", "--new-version"),
        course("training-loop", "stopped-and-gone-on-with", "checkpoint"),
    ),
    "FR-007 tokenization: vocabulary, BPE and unigram, special tokens": (
        course("tokenization", "byte-pair-encoding", "merge"),
        course("tokenization", "unigram-which-is-ours", "probability"),
        course("tokenization", "special-pieces", "<unk>", "<s>", "</s>", "<pad>"),
    ),
    "FR-008 phases: data, batches, forward, loss, backward, optimization": (
        course("training-loop", "the-loop", "batch", "forward", "loss", "backward", "clip", "step"),
        course("training-loop", "batches", "window"),
        course("attention", "a-block-line-by-line", "ln_attention", "ln_ffn"),
        course("backpropagation", "adamw", "mean"),
    ),
    "FR-009 diagrams of the loop and of how data changes shape": (
        course("training-loop", "the-loop", "```diagram", "[32, 128]"),
        course("index", "the-whole-way", "```diagram", "[32, 128, 128]", "[32, 128, 8,000]"),
        course("tokenization", "tokenization", "```diagram"),
    ),
    "FR-010 troubleshooting: memory, divergence, poor text": (
        trouble("memory-runs-out", "--batch-size", "**Confirm:**"),
        trouble("the-loss-diverges", "--learning-rate", "**Confirm:**"),
        trouble("the-text-is-poor", "--temperature", "**Confirm:**"),
    ),
    "FR-011 samples while it trains": (
        how_to("by-one-command", "writes a few samples", "--sample-every-epochs"),
        course("sampling", "seed", "epoch 10"),
    ),
    "FR-012 flags for rate, batch, epochs, length": (
        how_to("settings", "Flags stand above", "--epochs 1"),
        course("hyperparameters", "measured", "--learning-rate", "--batch-size", "--epochs", "--max-seq-length"),
    ),
    "FR-013 nine tenths to train on, one held out": (
        course("corpus", "the-split", "tenth", "blocks of 16"),
        course("evaluation", "what-is-held-out", "blocks of 16"),
    ),
    "FR-014 gradients are clipped": (course("backpropagation", "clipping", "max_grad_norm", "clip_grad_norm_"),),
    "FR-015 the rate follows a cosine": (course("backpropagation", "the-rate-over-time", "cosine"),),
    "SC-001 20 epochs on 3 MB in ten minutes": (
        how_to("by-one-command", "3 MB", "20 epochs", "minutes"),
        course("training-loop", "what-makes-it-fast", "bf16"),
    ),
    "SC-002 no hand is needed on the way": (how_to("by-one-command", "alone is enough"),),
    "SC-003 validation loss below 5.0": (
        course("evaluation", "validation-loss", "below 5.0"),
        course("loss", "training-loss-and-validation-loss", "validation"),
    ),
    "SC-004 a reader can explain the training": tuple(
        course(page, "questions-and-answers", "?**") for page in COURSE
    ),
    "SC-005 seeds lie within five per cent": (course("hyperparameters", "seed", "0.05 * one.validation_loss"),),
    "SC-006 common troubles are solved without help": (
        trouble("the-loss-does-not-fall", "fix"),
        trouble("overfitting", "**Fix,**"),
        trouble("corpus-and-tokenizer", "--vocab-size"),
        trouble("it-is-slow", "--threads"),
        trouble("there-is-no-network", "--corpus-source synthetic"),
    ),
    "SC-007 what was computed before an interruption is kept": (
        trouble("it-was-interrupted", "Ctrl-C", "same bits"),
        how_to("interrupt-it-and-go-on", "same bits", "state=unchanged"),
    ),
    "SC-008 metrics are kept and can be compared": (
        how_to("by-one-command", "training_history.json", "report.md"),
        how_to("as-a-run", "run metrics"),
    ),
    "SC-009 text is coherent": (
        trouble("the-text-is-poor", "grammar", "circles"),
        course("sampling", "top-k", "likeliest"),
    ),
    "SC-010 both languages": (course("evaluation", "bits-per-character", "'en', 'es'"),),
    "SC-011 the training loss falls": (
        trouble("the-loss-diverges", 'second["train_loss"] < first["train_loss"]'),
        course("training-loop", "a-whole-training", "assert"),
    ),
    "SC-012 validation less training stays below 0.5": (
        course("evaluation", "validation-loss", "less than 0.5"),
        trouble("overfitting", "Validation − training", "0.5"),
    ),
    "SC-013 progress is shown": (how_to("by-one-command", "a bar with the time that is left", "epoch=1/3"),),
    "SC-014 errors say what to change, to which value": (
        trouble("memory-runs-out", "reduce batch_size from 32 to 16"),
        trouble("the-loss-diverges", "reduce learning_rate from 1 to 0.1"),
    ),
    "SC-015 examples run as they stand": (course("index", "how-a-language-model-is-made", "every block of code"),),
    "inference-SC-005 memory": (course("sampling", "what-writing-costs", "400 MB"),),
    "inference-SC-006 latency": (course("sampling", "what-writing-costs", "250 ms"),),
    "inference-SC-007 battery": (course("sampling", "what-writing-costs", "battery"),),
    "inference-SC-008 offline": (course("sampling", "what-writing-costs", "no network", "OSError"),),
}  # fmt: skip


@cache
def sections(page: str) -> dict[str, str]:
    """Each heading's anchor, as forges make it, with all that stands below it up to the next of its level or above."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    inside, headings = False, list[tuple[int, int, str]]()
    for number, line in enumerate(lines):
        inside ^= line.startswith("```")
        if not inside and (found := re.match(r"(#+) (.+)", line)):
            anchor = re.sub(r"[^\w\- ]", "", found[2].lower()).strip().replace(" ", "-")
            headings.append((number, len(found[1]), anchor))
    ends = [next((n for n, d, _ in headings if n > at and d <= depth), len(lines)) for at, depth, _ in headings]
    return {anchor: "\n".join(lines[at + 1 : end]) for (at, _, anchor), end in zip(headings, ends, strict=True)}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(asked, answer) for asked, answers in ANSWERS.items() for answer in answers],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) else f"{Path(value.page).stem}#{value.anchor}",
)
def test_what_is_asked_of_the_documentation_is_answered_where_it_says(asked: str, answer: Answer):
    found = sections(answer.page)

    assert answer.anchor in found, f"{asked}: {answer.page} has no #{answer.anchor}"
    text = found[answer.anchor]
    assert len(text.split()) >= FEW, f"{asked}: #{answer.anchor} says next to nothing"
    assert [words for words in answer.says if words not in text] == [], asked


def test_every_requirement_has_an_answer():
    asked = {name.partition(" ")[0] for name in ANSWERS}

    assert {f"FR-{number:03}" for number in range(1, 16)} <= asked
    assert {f"SC-{number:03}" for number in range(1, 16)} <= asked
    assert {f"inference-SC-{number:03}" for number in range(5, 9)} <= asked
    assert all(ANSWERS.values())


@pytest.mark.parametrize("page", COURSE)
def test_every_page_ends_in_questions_and_leads_on(page: str):
    path = ROOT / TRAINING / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    questions = sections(f"{TRAINING}{page}.md")["questions-and-answers"]
    last = text.rstrip().rpartition("\n\n")[2]

    assert text.rpartition("\n## ")[2].startswith("Questions and answers\n")
    assert re.search(r"^\*\*.+?\?\*\* \S", questions, re.MULTILINE | re.DOTALL)
    assert re.match(r"Next: \[[^\]]+\]\([^)]+\.md\)", last), last


def test_the_pages_lead_through_the_whole_course():
    follows = {
        page: re.search(r"\nNext: \[[^\]]+\]\(([\w-]+)\.md", (ROOT / TRAINING / f"{page}.md").read_text())
        for page in COURSE[:-1]
    }

    assert [(page, found[1]) for page, found in follows.items() if found] == list(pairwise(COURSE))


@pytest.mark.parametrize("page", COURSE)
def test_every_page_has_a_picture(page: str):
    text = (ROOT / TRAINING / f"{page}.md").read_text(encoding="utf-8")

    assert re.search(r"^```diagram\n(?:.*\n)*?.*[─│▼►┌└]", text, re.MULTILINE)


def test_no_page_of_the_course_stands_outside_of_it():
    pages = {path.stem for path in (ROOT / TRAINING).glob("*.md")}

    assert pages == set(COURSE)
