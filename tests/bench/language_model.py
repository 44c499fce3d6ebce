"""A step of the language model four ways, by turns: a plain loop, ours in bf16 and in fp32, transformers.Trainer.

The turns are taken within each round, and each figure is the median over the rounds of a ratio within one, so that a
neighbour on the machine slows all of them alike. The text is random, with the share of frequent pieces that a real one
has. Memory and latency of sampling are measured in a process of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from tests.bench.figures import Figure, at_least
from trainer_node.engines.tinylm import artefacts, beginning, speed
from trainer_node.engines.tinylm.heads import PlainHead, TreeHead, ranks_by_frequency
from trainer_node.engines.tinylm.model import TinyTransformer
from trainer_node.engines.tinylm.pretrain import gradients
from trainer_node.engines.tinylm.settings import ModelSettings, PretrainSettings
from trainer_node.engines.tinylm.windows import Epoch, Windows

ROUNDS = int(os.environ.get("TUNESMITH_BENCH_ROUNDS", "30"))
UNCOUNTED = 3  # first rounds: caches, allocators and oneDNN's kernels get ready
SHAPE, SETTINGS = ModelSettings(vocab_size=8000), PretrainSettings()
TOKENS_A_STEP = SETTINGS.batch_size * SHAPE.max_seq_length
MATMUL = 2048
PROMISED = {"plain": 3.5, "trainer": 2.0}  # times as fast, in the arithmetic that the machine is fastest in

Step = Callable[[int], object]


def measure(folder: Path) -> Iterator[Figure]:
    """TUNESMITH_BENCH_ROUNDS: how many rounds, 30 unless told."""
    windows = Windows(text(), seq=SHAPE.max_seq_length, batch_size=SETTINGS.batch_size, seed=0)
    epoch = windows.epoch(0)
    cores = len(os.sched_getaffinity(0))
    speed.keep_freed_memory()
    with ExitStack() as stack:
        ways: dict[str, Step] = {
            "plain": plain_loop(epoch, threads=cores),
            "bf16": stack.enter_context(FastLoop(windows, bf16=True)).step,
            "fp32": stack.enter_context(FastLoop(windows, bf16=False)).step,
            "matmul fp32": matmul(torch.float32, threads=cores),
            "matmul bf16": matmul(torch.bfloat16, threads=cores),
        }
        taken_s = by_turns(ways, windows, folder, threads=cores)
    yield from steps(taken_s)
    yield from shares_of_peak(taken_s, windows.tokens)
    yield from sampling(folder)


def text() -> Tensor:
    """Random pieces: of 8,000, the first 200 make up 59 % and the next 1,100 23 %, as in 3 MB of real text."""
    shares_V = 1 / (np.arange(SHAPE.vocab_size) + 6) ** 1.1
    drawn = np.random.default_rng(0).choice(SHAPE.vocab_size, 1_000_000, p=shares_V / shares_V.sum())
    return torch.from_numpy(drawn)


def plain_loop(epoch: Epoch, *, threads: int) -> Step:
    """The same model as anyone would train it: fp32, one softmax over all logits, PyTorch's own dropout and AdamW."""
    model = TinyTransformer(ModelSettings(vocab_size=SHAPE.vocab_size, head="plain"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.learning_rate)
    assert isinstance(model.head, PlainHead)
    output = model.head.output

    def step(number: int) -> None:
        torch.set_num_threads(threads)
        inputs_BT, targets_BT = epoch.batch(number)
        logits_BTV = output(model.hidden(inputs_BT, lambda x: F.dropout(x, SHAPE.dropout)))
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.max_grad_norm)
        optimizer.step()

    return step


class FastLoop:
    """The steps of `pretrain.train`, one at a time."""

    def __init__(self, windows: Windows, *, bf16: bool) -> None:
        self.epoch = windows.epoch(0)
        self.model = TinyTransformer(SHAPE, ranks_V=ranks_by_frequency(windows.tokens, SHAPE.vocab_size))
        self.optimizer = beginning.make_optimizer(self.model, SETTINGS)
        arithmetic = speed.Arithmetic(bf16, speed.default_shards(SETTINGS.batch_size))
        self.sharded = speed.Sharded(self.model, arithmetic, gradients, seed=0)

    def step(self, number: int) -> None:
        """Batch, forward, loss, backward, clip, step."""
        torch.set_num_threads(1)
        inputs_BT, targets_BT = self.epoch.batch(number)
        self.sharded.step(inputs_BT, targets_BT, step=number)
        nn.utils.clip_grad_norm_(self.model.parameters(), SETTINGS.max_grad_norm).item()
        self.optimizer.step()

    def __enter__(self) -> FastLoop:
        self.sharded.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.sharded.__exit__()


def matmul(dtype: torch.dtype, *, threads: int) -> Step:
    """A product of two square matrices: what the machine can do at best."""
    one, other = (torch.randn(MATMUL, MATMUL).to(dtype) for _ in range(2))

    def step(_: int) -> None:
        torch.set_num_threads(threads)
        torch.mm(one, other)

    return step


class Turns(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Lets every other way take its step between two steps of a Trainer, and times them all."""

    def __init__(self, ways: dict[str, Step], *, threads: int) -> None:
        self.ways, self.threads = ways, threads
        self.taken_s: dict[str, list[float]] = {name: [] for name in [*ways, "trainer"]}
        self.begun = perf_counter()

    def on_step_end(self, *_: object, state: Any = None, **__: Any) -> None:
        """A round ends: what has passed since the last one ended is the Trainer's own step, its data included."""
        self.taken_s["trainer"].append(perf_counter() - self.begun)
        for name, step in self.ways.items():
            begun = perf_counter()
            step(len(self.taken_s["trainer"]))
            self.taken_s[name].append(perf_counter() - begun)
        torch.set_num_threads(self.threads)
        self.begun = perf_counter()


def by_turns(ways: dict[str, Step], windows: Windows, folder: Path, *, threads: int) -> dict[str, list[float]]:
    """Seconds of each way in each round that counts."""
    config = GPT2Config(
        vocab_size=SHAPE.vocab_size, n_positions=SHAPE.max_seq_length, n_embd=SHAPE.d_model, n_layer=SHAPE.layers,
        n_head=SHAPE.heads, n_inner=SHAPE.ffn, resid_pdrop=SHAPE.dropout, embd_pdrop=SHAPE.dropout, attn_pdrop=0.0,
        tie_word_embeddings=False,
    )  # fmt: skip
    rows = windows.tokens[: TOKENS_A_STEP * (ROUNDS + UNCOUNTED)].view(-1, SHAPE.max_seq_length)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), per_device_train_batch_size=SETTINGS.batch_size, num_train_epochs=1,
        learning_rate=SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay, lr_scheduler_type="cosine",
        max_grad_norm=SETTINGS.max_grad_norm, save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, log_level="error", dataloader_pin_memory=False,
    )  # fmt: skip
    turns = Turns(ways, threads=threads)
    torch.set_num_threads(threads)
    data = [{"input_ids": row, "labels": row} for row in rows]
    trainer = Trainer(model=GPT2LMHeadModel(config), args=arguments, train_dataset=data, callbacks=[turns])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return {name: taken[UNCOUNTED:] for name, taken in turns.taken_s.items()}


def steps(taken_s: dict[str, list[float]]) -> Iterator[Figure]:
    """Each way's step, and how many times faster than the plain loop ours are, round by round."""
    names = {
        "plain": "plain fp32 loop, all logits",
        "trainer": "transformers.Trainer, GPT-2 of the same size",
        "fp32": "ours in fp32",
        "bf16": "ours in bf16",
    }
    for name, what in names.items():
        median_s = statistics.median(taken_s[name])
        yield Figure(f"step of {TOKENS_A_STEP} tokens, {what}", f"{1000 * median_s:.1f} ms", per_second(median_s))
    fastest = min(("fp32", "bf16"), key=lambda name: statistics.median(taken_s[name]))
    for ours in ("fp32", "bf16"):
        for other, what in (("plain", "the plain loop"), ("trainer", "transformers.Trainer")):
            ratios = sorted(a / b for a, b in zip(taken_s[other], taken_s[ours], strict=True))
            spread = f"middle half of the rounds: {ratios[len(ratios) // 4]:.2f} to {ratios[-len(ratios) // 4]:.2f}"
            ratio = statistics.median(ratios)
            limit = at_least(ratio, PROMISED[other], "{:g} ×") if ours == fastest else None
            yield Figure(f"{what} / ours in {ours}", f"{ratio:.2f} ×", spread, limit)


def per_second(step_s: float) -> str:
    """Tokens a second, and what 20 epochs of 3 MB of text take, which are 173 steps each."""
    return f"{TOKENS_A_STEP / step_s:,.0f} tokens/s; 20 epochs of 3 MB: {20 * 173 * step_s / 60:.1f} min"


def shares_of_peak(taken_s: dict[str, list[float]], tokens: Tensor) -> Iterator[Figure]:
    """How much of what the machine multiplies at best each way gets done: in products that it really computes."""
    for dtype in ("fp32", "bf16"):
        yield Figure(f"matmul peak {dtype}, {MATMUL}³", f"{peak(taken_s, dtype):.0f} GFLOP/s")
    for name, dtype, head in (("plain", "fp32", "plain"), ("fp32", "fp32", "tree"), ("bf16", "bf16", "tree")):
        needed = flops_a_token(head, tokens)
        done = needed * TOKENS_A_STEP / statistics.median(taken_s[name]) / 1e9
        what = "the plain loop" if name == "plain" else f"ours in {name}"
        yield Figure(f"{what}, share of the {dtype} peak", f"{done / peak(taken_s, dtype):.0%}", f"{done:.0f} GFLOP/s")


def peak(taken_s: dict[str, list[float]], dtype: str) -> float:
    """GFLOP/s of the product of large matrices."""
    return float(2 * MATMUL**3 / statistics.median(taken_s[f"matmul {dtype}"]) / 1e9)


def flops_a_token(head: str, tokens: Tensor) -> float:
    """Additions and multiplications in products, forward and backward: three times 2 for each weight that is met."""
    blocks = SHAPE.layers * (4 * SHAPE.d_model**2 + 2 * SHAPE.d_model * SHAPE.ffn)
    attention = SHAPE.layers * 2 * SHAPE.max_seq_length * SHAPE.d_model
    classes = float(SHAPE.vocab_size)
    if head == "tree":
        ranks_V = ranks_by_frequency(tokens, SHAPE.vocab_size)
        tree = TreeHead(SHAPE.d_model, SHAPE.vocab_size, ranks_V)
        ranks_N = ranks_V[tokens]
        classes = tree.root.out_features + sum(
            (end - begin) * ((ranks_N >= begin) & (ranks_N < end)).float().mean().item() for begin, end in tree.bounds
        )
    return 6 * (blocks + attention + classes * SHAPE.d_model)


def sampling(folder: Path) -> Iterator[Figure]:
    """Memory and latency of a model of this size, in a fresh process."""
    path = artefacts.save(folder / "model.pt", TinyTransformer(SHAPE).state_dict(), SHAPE, {})
    command = [sys.executable, "-m", "tests.bench.sampling", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([".", "proto"])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    used = json.loads(done.stdout)
    yield Figure("sampling, resident at most", f"{used['resident_mb']:.0f} MB", f"peak {used['peak_mb']:.0f} MB")
    yield Figure("next token, 95 of 100 within", f"{used['p95_ms']:.1f} ms", f"half within {used['p50_ms']:.1f} ms")
