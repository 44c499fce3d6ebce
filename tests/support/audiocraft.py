"""audiocraft's own code beside ours: installed without its requirements, with stand-ins for what no test calls.

`audiocraft` imports packages of which loading and playing a model uses nothing: they run trainings, cut sound into
spectrograms or spell numbers. Instead of half a gigabyte of them there are empty modules here; a real one that is
installed is taken.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import MusicgenForConditionalGeneration, T5Config, T5EncoderModel

from trainer_node.engines.musicgen.family import load_base
from trainer_node.engines.musicgen.interop import checkpoint_files
from trainer_node.engines.musicgen.tiny import make_tiny

T5_NAME = "t5-small"  # by which audiocraft finds the text encoder of `known_width` …
T5_WIDTH = 512  # … if it is as wide


class Unused:
    """Stands for any class or function that no test calls."""

    def __init__(self, *_: object, **__: object) -> None:
        raise AssertionError("a stand-in was called: the test needs the real package")


# What is imported, with the little of it that is used; the rest is `Unused`.
STAND_INS: dict[str, dict[str, object]] = {
    "dora": {},
    "dora.log": {},
    "flashy": {},  # the real one installs a package `tests`, which would hide ours
    "flashy.adversarial": {},
    "flashy.distrib": {"rank_zero_only": lambda function: function},
    "flashy.state": {},
    "flashy.utils": {},
    "librosa": {},
    "librosa.filters": {},
    "num2words": {},
    "spacy": {},
    "torchaudio": {},
    "torchaudio.functional": {},
    "torchaudio.transforms": {},
    "torchmetrics": {},
    "xformers": {},
    "xformers.ops": {"unbind": torch.unbind, "LowerTriangularMask": object},  # a mark: PyTorch's own attention is used
}


@contextmanager
def stand_ins() -> Iterator[None]:
    """Make audiocraft importable and usable; afterwards nobody finds the stand-ins any more."""
    kept = {name for name in {name.partition(".")[0] for name in STAND_INS} if _installed(name)}
    made = [name for name in STAND_INS if name.partition(".")[0] not in kept]
    for name in made:
        sys.modules[name] = _stand_in(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def _stand_in(name: str) -> ModuleType:
    def anything(attribute: str) -> type[Unused]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Unused

    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    vars(module).update(STAND_INS[name], __getattr__=anything)
    return module


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def known_width(source: Path, folder: Path) -> Path:
    """A copy of a tiny model whose T5 is as wide as one that audiocraft knows; its other weights stay."""
    old = load_base(source, name=source.name)
    text = T5Config(**{**old.model.config.text_encoder.to_dict(), "d_model": T5_WIDTH})
    config = old.model.config
    config.text_encoder = text
    torch.manual_seed(0)
    new = MusicgenForConditionalGeneration(config).eval()
    new.audio_encoder.load_state_dict(old.model.audio_encoder.state_dict())
    new.decoder.load_state_dict(old.model.decoder.state_dict())
    torch.nn.init.normal_(new.enc_to_dec_proj.weight, std=0.05)
    new.generation_config = old.model.generation_config
    new.save_pretrained(folder)
    old.tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def text_encoder_of(model: Path, folder: Path) -> Iterator[None]:
    """Let audiocraft find a model's T5 under the name T5_NAME: a name is first looked for in the working directory."""
    base = load_base(model, name=model.name)
    encoder: T5EncoderModel = base.model.text_encoder
    encoder.save_pretrained(folder / T5_NAME)
    base.tokenizer.save_pretrained(folder / T5_NAME)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def loaded(folder: Path) -> Iterator[Any]:
    """An exported model by audiocraft's own loader."""
    with stand_ins():
        from audiocraft.models import MusicGen

        yield MusicGen.get_pretrained(str(folder), device="cpu")


@dataclass
class Born:
    """A checkpoint that audiocraft itself has made. file: exported. decoder: its LMModel."""

    file: Path
    decoder: Any

    def logits(self, codes_BKT: torch.Tensor, prompt: str) -> torch.Tensor:
        """audiocraft's logits [B, K, T, V] of all steps."""
        with stand_ins(), torch.no_grad():
            from audiocraft.modules.conditioners import ConditioningAttributes

            described = [ConditioningAttributes(text={"description": prompt}) for _ in codes_BKT]
            output = self.decoder.compute_predictions(codes_BKT, described, keep_only_valid_steps=False)
        return output.logits


def born(recipe: str, file: Path) -> Born:
    """A decoder with random weights that audiocraft builds of a recipe, and its checkpoint, in half precision."""
    with stand_ins():
        from audiocraft.models.builders import get_lm_model
        from omegaconf import OmegaConf

        config = OmegaConf.create(recipe)
        built = OmegaConf.merge(config, {"device": "cpu", "dtype": "float32", "conditioners": {"args": {}}})
        del built.conditioners.args
        torch.manual_seed(3)
        decoder = get_lm_model(built).eval()
        halved = {name: tensor.half() for name, tensor in decoder.state_dict().items()}
        decoder.load_state_dict({name: tensor.float() for name, tensor in halved.items()})
        save({"best_state": halved, "xp.cfg": OmegaConf.to_yaml(config), "version": "1.3.0", "exported": True}, file)
    return Born(file, decoder)


def save_training_checkpoint(exported: Path, file: Path) -> None:
    """The same checkpoint as a training of audiocraft leaves it: its settings are an object of OmegaConf."""
    from omegaconf import OmegaConf

    tensors, text = checkpoint_files.exported(exported)
    save({"best_state": {"model": tensors}, "xp.cfg": OmegaConf.create(text), "history": []}, file)


def save(content: object, file: Path) -> None:
    """A pickle as PyTorch writes it, of anything."""
    torch.save(content, file)


class Trap:
    """Writes a file when it is unpickled by a reader that runs what it reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


@contextmanager
def brought_along(folder: Path) -> Iterator[None]:
    """What a page about audiocraft begins with: `models/musicgen`, its T5 under T5_NAME, and audiocraft to import."""
    model = known_width(make_tiny(folder / ".tiny"), folder / "models" / "musicgen")
    with stand_ins(), text_encoder_of(model, folder):
        yield


def main() -> None:
    """Say which audiocraft the tests use; fails where there is none."""
    with stand_ins():
        import audiocraft
        from audiocraft.solvers.musicgen import MusicGenSolver

    print(f"audiocraft {audiocraft.__version__} judges what is exported, by its own {MusicGenSolver.__name__} too")


if __name__ == "__main__":
    main()
