"""What the language model learns at the default settings, over several seeds, beside what was promised of it.

Each seed is trained by the pipeline that `tunesmith lm train` runs, in a folder `seed-N`; where that lies in a folder
that stays, its finished stages are done once. A seed decides the weights and what is held out. Then each best model
writes: after nothing, and after the prompts that every training samples from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.bench.figures import Figure, Limit, at_least, at_most, below
from tests.bench.text_quality import Languages, N, Repetition, repetition_of
from trainer_node import checkpoints
from trainer_node.engines.tinylm import corpus, layout, pipeline, trained, training_stage
from trainer_node.engines.tinylm.plan import PROMPTS, Plan
from trainer_node.engines.tinylm.settings import SamplingSettings
from trainer_node.engines.tinylm.telling import LineListener
from trainer_node.engines.tinylm.trained import Trained
from trainer_node.foreground import OutputFiles
from trainer_node.stop_signal import never
from tunesmith import spec as specs
from tunesmith.v1 import job_event_pb2, job_spec_pb2, trainer_pb2

VALIDATION_LOSS, GAP, SPREAD = 5.0, 0.5, 0.05  # promised: less than that
UNPROMPTED, PROMPTED = 0.1, 0.9  # at least this share of texts in each language; of those that stay in their prompt's
MORE_REPEATED, MOST_REPEATED, RUN = 0.02, 0.5, 4  # at most: above the held-out text's share; in one text; tokens
TEXTS = 10  # after each prompt, and twice as many after none, by each model


@dataclass(frozen=True)
class Options:
    """corpus_paths: text, in English and Spanish as the prompts are. epochs: None for the default. output: a folder
    that stays, with its finished trainings; None for one that does not."""

    corpus_paths: Sequence[Path]
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    epochs: int | None = None
    output: Path | None = None


@dataclass(frozen=True)
class Losses:
    """Of a training's epochs, in nats a token. training: at least one; validation: at the end."""

    training: Sequence[float]
    validation: float

    @property
    def rises(self) -> list[int]:
        """The epochs, from 1, whose training loss is not below the one before."""
        return [epoch for epoch, (one, other) in enumerate(pairwise(self.training), 2) if not other < one]

    @property
    def gap(self) -> float:
        """How much better the model tells what it was trained on."""
        return self.validation - self.training[-1]


@dataclass(frozen=True)
class Written:
    """A text of a model. language: of what follows the prompt; wanted: the prompt's own; None without one."""

    tokens: Sequence[int]
    language: str
    wanted: str | None


def measure(options: Options, folder: Path) -> Iterator[Figure]:
    """Figures of each seed as its training ends, then of all of them."""
    losses: list[Losses] = []
    texts: list[Written] = []
    held_out: list[Sequence[int]] = []
    told: dict[str, list[bool]] = {}
    for seed in options.seeds:
        output = train(options, seed, options.output or folder)
        losses.append(losses_of(output))
        yield from of_training(seed, losses[-1])
        reader, model = Reader(output), trained.open_folder(output)
        texts += written(model, reader.languages, SamplingSettings(), times=TEXTS)
        held_out += reader.held_out(model)
        for code, right in reader.tries():
            told.setdefault(code, []).append(right)
    if len(losses) > 1:
        yield from of_seeds(losses)
    yield from of_languages(texts, told)
    yield from of_repetition(repetition_of([text.tokens for text in texts]), repetition_of(held_out))


def train(options: Options, seed: int, folder: Path) -> Path:
    """The finished training of a seed: as it lies there, gone on with, or made now. Returns its folder."""
    output = folder / f"seed-{seed}"
    chosen = {"seed": seed} | ({"epochs": options.epochs} if options.epochs else {})
    spec = specs.resolve(specs.parse({"tiny_lm": {"training": chosen}}, job_spec_pb2.JobSpec()))
    finished = (output / layout.record_of(layout.TRAINING)).is_file()
    plan = Plan(
        job=trainer_pb2.Job(spec=spec, attempt=1),
        output_dir=output,
        cache_dir=folder / "cache",
        corpus_paths=options.corpus_paths,
        resume_dir=None if finished else checkpoints.latest(output / layout.CHECKPOINTS),
    )
    listener = LineListener(partial(print, f"    seed {seed}:", file=sys.stderr, flush=True), lambda _: None)
    outcome = pipeline.run(plan, listener, OutputFiles(), never)
    assert isinstance(outcome, job_event_pb2.JobSucceeded), outcome
    return output


def losses_of(output: Path) -> Losses:
    """What a finished training in that folder says of itself."""
    rows = training_stage.history_of(output)["epochs"]
    return Losses([row["train_loss"] for row in rows], rows[-1]["validation_loss"])


class Reader:
    """Has read the held-out part of a training's corpus."""

    def __init__(self, output: Path) -> None:
        self.corpus = corpus.load(output / "corpus")
        self.codes = [language.code for language in self.corpus.languages]
        self.languages = Languages({code: self.corpus.paragraphs("validation", code) for code in self.codes})

    def held_out(self, model: Trained) -> list[Sequence[int]]:
        """Held-out paragraphs in tokens, no longer than what the model writes."""
        most = SamplingSettings().max_tokens
        return [model.tokenizer.encode(text)[:most] for text in self.corpus.paragraphs("validation")]

    def tries(self, most: int = 1000) -> Iterator[tuple[str, bool]]:
        """Whether it tells the language of texts that it has not read: the first paragraphs that were trained on."""
        for code in self.codes:
            for _, text in zip(range(most), self.corpus.paragraphs("train", code), strict=False):
                yield code, self.languages.of(text) == code


def written(
    model: Trained, languages: Languages, sampling: SamplingSettings, *, times: int, prompts: Sequence[str] = PROMPTS
) -> Iterator[Written]:
    """What a model writes: `times` after each prompt, twice as many after none, each with a seed of its own."""
    for prompt, count in [("", 2 * times), *((prompt, times) for prompt in prompts)]:
        for seed in range(count):
            settings = replace(sampling, seed=seed)
            text = trained.continuation(model.model, model.tokenizer, prompt, settings)
            yield Written(
                tokens=model.tokenizer.encode(text),
                language=languages.of(text.removeprefix(prompt)),
                wanted=languages.of(prompt) if prompt else None,
            )


def of_training(seed: int, losses: Losses) -> Iterator[Figure]:
    """Whether one training came to what was promised of each."""
    limit = below(losses.validation, VALIDATION_LOSS, "{:.1f}")
    yield Figure(f"seed {seed}: validation loss", f"{losses.validation:.3f}", limit=limit)
    epochs, rises = len(losses.training), losses.rises
    falls = f"{epochs - 1 - len(rises)} of {epochs - 1}"
    how = f"it rose in epoch {', '.join(map(str, rises))}" if rises else ""
    yield Figure(f"seed {seed}: epochs in which the training loss falls", falls, how, Limit("all", not rises))
    yield Figure(f"seed {seed}: validation − training", f"{losses.gap:.3f}", limit=below(losses.gap, GAP))


def of_seeds(losses: Sequence[Losses]) -> Iterator[Figure]:
    """How far the seeds are apart."""
    ends = {"validation": [one.validation for one in losses], "training": [one.training[-1] for one in losses]}
    for what, values in ends.items():
        apart = spread(values)
        how = f"{min(values):.3f} to {max(values):.3f}"
        name = f"spread of the {what} loss over {len(values)} seeds"
        yield Figure(name, f"{apart:.1%}", how, below(apart, SPREAD, "{:.0%}"))


def spread(values: Sequence[float]) -> float:
    """How far the greatest is above the least, as a share of the least."""
    return max(values) / min(values) - 1


def of_languages(texts: Sequence[Written], told: dict[str, list[bool]]) -> Iterator[Figure]:
    """In which languages the models write, of themselves and after a prompt."""
    free = [text.language for text in texts if text.wanted is None]
    for code, rights in told.items():
        share = free.count(code) / len(free)
        how = f"of {len(free)} texts; by its words, which tell {sum(rights) / len(rights):.1%} of other texts rightly"
        yield Figure(f"texts in {code}, without a prompt", f"{share:.0%}", how, at_least(share, UNPROMPTED, "{:.0%}"))
    for code in told:
        after = [text.language == code for text in texts if text.wanted == code]
        if after:
            share = sum(after) / len(after)
            limit = at_least(share, PROMPTED, "{:.0%}")
            yield Figure(f"texts that go on in {code} after a prompt in it", f"{share:.0%}", f"of {len(after)}", limit)


def of_repetition(texts: Repetition, held_out: Repetition) -> Iterator[Figure]:
    """How much the models repeat themselves, beside how much people do."""
    limit = at_most(texts.share, held_out.share + MORE_REPEATED, "{:.1%}")
    how = f"held-out text: {held_out.share:.1%}"
    yield Figure(f"groups of {N} tokens that were there before", f"{texts.share:.1%}", how, limit)
    limit, how = at_most(texts.most, MOST_REPEATED, "{:.0%}"), f"held-out text: {held_out.most:.0%}"
    yield Figure("the same in the worst text", f"{texts.most:.0%}", how, limit)
    limit, how = at_most(texts.run, max(RUN, held_out.run)), f"held-out text: {held_out.run}"
    yield Figure("times that one token comes after itself", str(texts.run), how, limit)
