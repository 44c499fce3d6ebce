"""What makes training fast on a CPU, none of which changes what is learned beyond rounding.

- A batch is trained in shards at the same time, a thread each, and their gradients are added up: no thread waits for
  another within a step, where threads that share every product wait after each.
- Where the processor multiplies bf16, a bf16 replica of the fp32 weights does the work (embeddings stay fp32).
- Dropout masks are cut from a pool of random bits drawn once: PyTorch draws them one by one, on one thread.
- Freed memory is kept: at some hundred MB a step, giving it back costs as much as a product.

All of it is repeatable: the same seed, precision and number of shards give the same bits, in any number of threads.
"""

from __future__ import annotations

import copy
import ctypes
import os
import platform
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from trainer_node.engines.tinylm.model import Drop, TinyTransformer, keep_all
from trainer_node.engines.tinylm.settings import Precision

MAX_SHARDS = 4  # of a batch of 32, eight windows each: beyond it, the threads mostly wait for memory
POOL_BITS = 1 << 22
TRIAL_STEPS = 3  # of each precision, after one that does not count
CLEARLY = 1.1  # times faster
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

ShardGradients = Callable[[TinyTransformer, Tensor, Tensor, Drop, int], tuple[Tensor, Sequence[Tensor]]]


@dataclass(frozen=True)
class Arithmetic:
    """What decides the bits of a training beside its seed. bf16: or fp32; shards: parts of a batch."""

    bf16: bool
    shards: int

    @property
    def device(self) -> str:
        """Device and number format, as every kind of training tells them: `cpu bf16`."""
        return f"cpu {'bf16' if self.bf16 else 'fp32'}"

    def __str__(self) -> str:
        return f"{'bf16' if self.bf16 else 'fp32'}, {self.shards} {'thread' if self.shards == 1 else 'threads'}"


TrialSeconds = Callable[[TinyTransformer, ShardGradients, Arithmetic, tuple[Tensor, Tensor]], float]


class MaskPool:
    """Dropout by masks out of one pool. p: probability that a number is dropped; the others grow by 1/(1 − p)."""

    def __init__(self, p: float, *, seed: int, dtype: torch.dtype) -> None:
        self.p, self.seed = p, seed
        generator = torch.Generator().manual_seed(seed)
        self.pool = ((torch.rand(POOL_BITS, generator=generator) >= p) / (1 - p)).to(dtype) if p else None

    def masks(self, *, step: int, shard: int) -> Drop:
        """The dropout of one shard of one step. It follows from these numbers alone, so nothing of it is ever saved."""
        if self.pool is None:
            return keep_all
        pool, offsets = self.pool, random.Random(f"{self.seed}/{step}/{shard}")

        def drop(x: Tensor) -> Tensor:
            begin = offsets.randrange(max(1, len(pool) - x.numel()))
            bits = pool[begin : begin + x.numel()]
            if len(bits) < x.numel():  # larger than the pool: it is laid end to end
                bits = pool.repeat(-(-x.numel() // len(pool)))[: x.numel()]
            return x * bits.view(x.shape)

        return drop


class Sharded:
    """A model whose batches are trained in shards. A context manager: its threads end with it."""

    def __init__(self, model: TinyTransformer, arithmetic: Arithmetic, gradients: ShardGradients, *, seed: int) -> None:
        self.arithmetic = arithmetic
        self._gradients = gradients
        self._masters: list[Tensor] = list(model.parameters())
        self._replica = _bf16_replica(model) if arithmetic.bf16 else model
        self._copies: list[Tensor] = list(self._replica.parameters())
        dtype = torch.bfloat16 if arithmetic.bf16 else torch.float32
        self._pool = MaskPool(model.settings.dropout, seed=seed, dtype=dtype)
        self._threads = ThreadPoolExecutor(arithmetic.shards, "shard", initializer=torch.set_num_threads, initargs=(1,))

    def step(self, inputs_BT: Tensor, targets_BT: Tensor, *, step: int) -> float:
        """Set the `.grad` of every fp32 weight for a batch; returns its loss, in nats a token."""
        if self.arithmetic.bf16:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._masters)
        shards, tokens = self.arithmetic.shards, targets_BT.numel()
        running = [
            self._threads.submit(
                self._gradients, self._replica, inputs, targets, self._pool.masks(step=step, shard=shard), tokens
            )
            for shard, (inputs, targets) in enumerate(
                zip(inputs_BT.tensor_split(shards), targets_BT.tensor_split(shards), strict=True)
            )
        ]
        parts = [future.result() for future in running]
        self._add_up([gradients for _, gradients in parts])
        return sum(loss.item() for loss, _ in parts)

    def _add_up(self, parts: Sequence[Sequence[Tensor]]) -> None:
        """In the order of the shards, in fp32: a sum in any other order would be another one."""
        for index, master in enumerate(self._masters):
            total = parts[0][index].float().contiguous()  # of one shard it may be a number that is seen many times
            for part in parts[1:]:
                total = total + part[index]
            master.grad = total

    def map(self, work: Callable[..., float], batches: Iterable[tuple[Tensor, ...]]) -> list[float]:
        """`work` of each batch, on the same threads; the answers in the order of the batches."""
        running = [self._threads.submit(work, *batch) for batch in batches]
        return [future.result() for future in running]

    def __enter__(self) -> Sharded:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)


def _bf16_replica(model: TinyTransformer) -> TinyTransformer:
    replica = copy.deepcopy(model)
    for part in (replica.blocks, replica.ln, replica.head):
        part.to(torch.bfloat16)
    return replica


@contextmanager
def one_thread_each() -> Iterator[None]:
    """PyTorch in this thread alone while inside, and freed memory kept from here on: the shards are the threads."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks for the next step, for the life of this process. False: another libc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 by itself (AVX512-BF16, AMX, or Arm's BF16)."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


def default_shards(batch_size: int) -> int:
    """One for each core that this process may use, up to four, and no more than there are windows in a batch."""
    return max(1, min(len(os.sched_getaffinity(0)), MAX_SHARDS, batch_size))


def choose(
    model: TinyTransformer,
    gradients: ShardGradients,
    trial: tuple[Tensor, Tensor],
    *,
    precision: Precision,
    shards: int,
    native: Callable[[], bool] = has_bf16,
    trial_s: TrialSeconds | None = None,
) -> tuple[Arithmetic, str]:
    """The arithmetic to train with, and why.

    A processor with bf16 takes it unmeasured, so that a busy moment cannot change what a training comes to. One without
    takes what is faster in a few steps on the batch `trial`, and bf16 only where that is clear.
    """
    shards = min(shards, len(trial[0])) if shards else default_shards(len(trial[0]))
    if precision != "auto":
        return Arithmetic(precision == "bf16", shards), "asked for"
    if native():
        return Arithmetic(True, shards), "the processor has bf16"
    taken_s = {bf16: (trial_s or _trial_s)(model, gradients, Arithmetic(bf16, shards), trial) for bf16 in (False, True)}
    chosen = taken_s[True] * CLEARLY < taken_s[False]
    measured = f"a step takes {1000 * taken_s[False]:.0f} ms in fp32, {1000 * taken_s[True]:.0f} ms in bf16"
    return Arithmetic(chosen, shards), f"the processor has no bf16, and {measured}"


def _trial_s(
    model: TinyTransformer, gradients: ShardGradients, arithmetic: Arithmetic, trial: tuple[Tensor, Tensor]
) -> float:
    with Sharded(model, arithmetic, gradients, seed=0) as sharded:
        taken = []
        for step in range(1 + TRIAL_STEPS):
            begun = perf_counter()
            sharded.step(*trial, step=step)
            taken.append(perf_counter() - begun)
    model.zero_grad(set_to_none=True)
    return statistics.median(taken[1:])
