"""A trained language model with its tokenizer: what it writes, and how well it tells a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer_node.engines.tinylm import artefacts, evaluation, layout, paragraphs, sample, speed, text_files, tokenizer
from trainer_node.engines.tinylm.artefacts import Loaded, ModelFileUnreadable
from trainer_node.engines.tinylm.errors import CorpusInvalid
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.model_proto import BOS, EOS, PAD, UNK
from trainer_node.engines.tinylm.settings import SamplingSettings
from trainer_node.engines.tinylm.tokenizer import Tokenizer
from trainer_node.stop_signal import Stopped, never
from trainer_node.training import StopRequested

NO_TEXT = (UNK, BOS, PAD)  # pieces that are never drawn
_UNFINISHED = "\ufffd"  # what the first bytes of a character decode to


@dataclass(frozen=True)
class Trained:
    """A model and the tokenizer that it was trained with."""

    loaded: Loaded
    tokenizer: Tokenizer

    @property
    def model(self) -> TinyTransformer:
        """The network."""
        return self.loaded.model


@dataclass(frozen=True)
class Score:
    """How well a model tells a text. loss: nats a token. characters: of the text, an end of paragraph counts one."""

    loss: float
    tokens: int
    characters: int

    @property
    def perplexity(self) -> float:
        """Between how many pieces the model wavers, so to speak."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_character(self) -> float:
        """Comparable between tokenizers, as the loss of a token is not."""
        return self.loss * self.tokens / math.log(2) / max(1, self.characters)

    def facts(self) -> dict[str, float]:
        """All of it, to be written down."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "tokens": self.tokens,
            "characters": self.characters,
        }


def open_folder(path: Path) -> Trained:
    """The model that `tunesmith lm train` left: its output folder (the best model), or one .pt file in it.

    Raises ModelFileUnreadable, TokenizerInvalid.
    """
    folder, file = (path, path / layout.BEST) if path.is_dir() else (path.parent, path)
    loaded = artefacts.load(file)
    beside = folder / layout.TOKENIZER
    pieces = tokenizer.load(beside)
    if loaded.about.get("tokenizer") not in (None, pieces.fingerprint):
        raise ModelFileUnreadable(
            f"{file} was trained with another tokenizer than the one in {beside}, so its ids would be read "
            "as other pieces; go on with the training there, or take both from one folder"
        )
    return Trained(loaded, pieces)


def continuation(
    model: TinyTransformer, pieces: Tokenizer, prompt: str, settings: SamplingSettings, *, stop: StopRequested = never
) -> str:
    """The prompt and what the model adds. stop: asked after each token. Raises Stopped."""
    ids = pieces.encode(prompt)
    for token in _added(model, ids, settings):
        if stop():
            raise Stopped
        ids.append(token)
    return pieces.decode(ids)


def written(model: TinyTransformer, pieces: Tokenizer, prompt: str, settings: SamplingSettings) -> Iterator[str]:
    """The same in parts, as they come; characters that are written as several bytes come whole."""
    ids, told = pieces.encode(prompt), 0
    for token in _added(model, ids, settings):
        ids.append(token)
        whole = pieces.decode(ids).rstrip(_UNFINISHED)
        if len(whole) > told:
            yield whole[told:]
            told = len(whole)
    rest = pieces.decode(ids)[told:]
    if rest:
        yield rest


def _added(model: TinyTransformer, prompt: Sequence[int], settings: SamplingSettings) -> Iterator[int]:
    """The pieces that the model adds, as they come; on one thread, for a step is too small to share."""
    with speed.one_thread_each():
        yield from sample.sample(model, prompt, settings, end=EOS, excluded=NO_TEXT)


def score_file(trained: Trained, path: Path) -> Score:
    """How well the model tells a text file, read as a corpus is. Raises CorpusInvalid."""
    texts: list[str] = []
    for file in text_files.find([path]):
        texts += paragraphs.read(file, paragraphs.Tally())
    if not texts:
        raise CorpusInvalid(f"{path} holds no text; give a file with text, a paragraph a line")
    return score(trained, texts)


def score(trained: Trained, texts: Iterable[str]) -> Score:
    """How well the model tells these paragraphs, each followed by an end of text. Raises DataInvalid."""
    ids: list[int] = []
    characters = 0
    for text in texts:
        ids += [*trained.tokenizer.encode(text), EOS]
        characters += len(text) + 1
    return Score(loss_of(trained.model, torch.tensor(ids)), len(ids), characters)


def loss_of(model: TinyTransformer, tokens: Tensor, *, stop: StopRequested = never) -> float:
    """As `evaluation.mean_loss`, a batch on each core that this process may use, up to four.

    Raises DataInvalid, Stopped.
    """
    threads = speed.default_shards(speed.MAX_SHARDS)
    pool = ThreadPoolExecutor(threads, "evaluation", initializer=torch.set_num_threads, initargs=(1,))
    with speed.one_thread_each(), pool:

        def run_each(work: Callable[..., float], batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[float]:
            return pool.map(work, *zip(*batches, strict=True))

        return evaluation.mean_loss(model, tokens, run_each=run_each, stop=stop)
