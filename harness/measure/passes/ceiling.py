"""The ceiling pass: the highest rates of a device, measured in the same process, to judge the network stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from harness.machine.accelerators import Accelerator
from harness.measure import rows
from harness.measure.block import Bench, now
from harness.plan.cases import Task
from harness.schema import Sample

Clock = Callable[[], int]
Work = Callable[[], Any]
Timed = Callable[[Work], float]  # seconds
Sized = Callable[..., tuple[Work, float]]  # size, device= and dtype= of torch → work, its GFLOP

# Long enough for an exact time and for a GPU to raise its clock, short enough for a slow CPU.
SIZES = (2, 4, 8, 16)
LONG_ENOUGH_S = 0.02
N_BEST_OF = 8
COPY_BYTES = 256 * 2**20  # source and target together exceed the caches of all but the largest servers


class Ceiling(NamedTuple):
    """One repetition of one kind of work at the device's highest rate."""

    phase: str  # matmul, convolution or copy
    elapsed_s: float
    work_gflop: float | None
    work_gb: float | None


def run(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """A row for every repetition of each kind of work."""
    found = list(enumerate(ceilings(bench.accelerator, bench.device, bench.sync, bench.order.block.dtype)))
    for index, best in found[len(task.earlier_s) :]:
        work = {"work_gflop": best.work_gflop, "work_gb": best.work_gb}
        yield rows.good(row | work, now("ceiling", index, best.elapsed_s), best.phase)


def ceilings(
    accelerator: Accelerator,
    device: str,
    sync: Callable[[], None],
    dtype: str = "float32",
    clock_ns: Clock = time.perf_counter_ns,
) -> Iterator[Ceiling]:
    """Repeat the kinds of work that limit a network of this precision on this device; the best of each kind is kept.

    matmul: a square matrix product, 2n³ operations.
    convolution: a 3 × 3 convolution of a shape from the middle of the network, each product and sum counted. In float32
    it has torch's default precision for convolutions: on CUDA that is TF32, while a matmul stays fp32.
    copy: device memory to device memory, counted as bytes read plus bytes written.
    """

    def timed_s(work: Work) -> float:
        sync()
        begin_ns = clock_ns()
        work()
        sync()
        return (clock_ns() - begin_ns) / 1e9

    import torch

    on = accelerator.torch_name(device)
    for phase, sized in (("matmul", _product), ("convolution", _convolution)):
        yield from _rates(phase, partial(sized, device=on, dtype=getattr(torch, dtype)), timed_s)
    yield from _copies(on, timed_s)
    accelerator.empty_cache(device)  # else the memory pass would count this memory as the model's


def _rates(phase: str, sized: Sized, timed_s: Timed) -> Iterator[Ceiling]:
    """Repeat the smallest work that is long compared with the clock's resolution and a GPU's launches."""
    work, gflop = sized(SIZES[0])
    for size in SIZES:
        work, gflop = sized(size)
        work()  # makes the library ready
        if min(timed_s(work), timed_s(work)) >= LONG_ENOUGH_S:
            break
    for elapsed_s in _several(work, timed_s):
        yield Ceiling(phase, elapsed_s, gflop, None)


def _product(size: int, **on: Any) -> tuple[Work, float]:
    import torch

    # Not constants: a GPU spends less power on their products, so its clock would be higher than at work.
    side = 512 * size
    a, b, out = (torch.rand(side, side, **on) for _ in range(3))
    return partial(torch.matmul, a, b, out=out), 2 * side**3 / 1e9


def _convolution(size: int, **on: Any) -> tuple[Work, float]:
    import torch

    n, channels, side_px = size**2, 128, 56
    x = torch.rand(n, channels, side_px, side_px, **on)
    weight = torch.rand(channels, channels, 3, 3, **on)
    work = partial(torch.nn.functional.conv2d, x, weight, padding=1)
    return work, 2 * 9 * n * channels**2 * side_px**2 / 1e9


def _copies(device: str, timed_s: Timed) -> Iterator[Ceiling]:
    import torch

    source, target = (torch.ones(COPY_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    for elapsed_s in _several(partial(target.copy_, source), timed_s):
        yield Ceiling("copy", elapsed_s, None, 2 * COPY_BYTES / 1e9)


def _several(work: Work, timed_s: Timed) -> Iterator[float]:
    """Durations of a few repetitions in s: at least three, and not many more where they are long."""
    spent_s: list[float] = []
    while len(spent_s) < 3 or (len(spent_s) < N_BEST_OF and sum(spent_s) < LONG_ENOUGH_S * N_BEST_OF):
        spent_s.append(timed_s(work))
        yield spent_s[-1]
