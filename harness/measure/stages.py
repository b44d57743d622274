"""The stage pass: where the time of one call goes, by hooks on stock cellpose 3.1 that only time.

Waiting for the device at every border costs time, so this is a pass of its own, and its total is compared with the
timed repetitions. Torch and cellpose are imported inside functions, as in workload.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NamedTuple, TypeVar

from harness.engines.cellpose3.catalogue import PASSES, STAGES
from harness.plan import TILE_TFLOP

T = TypeVar("T")
Clock = Callable[[], int]
Sync = Callable[[], None]
Work = Callable[[], Any]
Timed = Callable[[Work], float]  # seconds
Sized = Callable[[int, str], tuple[Work, float]]  # size, device → work, its GFLOP

# Both scale with the tile's area. Operations: plan.TILE_TFLOP. Traffic: bytes that every operation of the unfused fp32
# network reads and writes for one tile, counted with a TorchDispatchMode.
TILE_PX = 224 * 224
TILE_GFLOP = 1000 * TILE_TFLOP
TILE_GB = 1.055

# Ceilings: long enough for a clock to be trusted and a GPU to raise its own, short enough for a slow CPU.
SIZES = (2, 4, 8, 16)
LONG_ENOUGH_S = 0.02
N_BEST_OF = 8
COPY_BYTES = 256 * 2**20  # source and target together exceed the caches of all but the largest servers


@dataclass(frozen=True)
class Part:
    """What one stage took in one pass over the image, without the stages inside it; work for the network only."""

    stage_pass: str
    stage: str
    elapsed_s: float
    n_tiles: int | None = None
    work_gflop: float | None = None
    work_gb: float | None = None


class Ceiling(NamedTuple):
    """One repetition of something that a device does as fast as it can."""

    phase: str  # matmul, convolution or copy
    elapsed_s: float
    work_gflop: float | None
    work_gb: float | None


class Recorder:
    """The clock of one call's stages: time always runs for the innermost open stage, and for no other."""

    def __init__(self, sync: Sync, clock_ns: Clock) -> None:
        self._sync, self._clock_ns = sync, clock_ns
        self._self_ns: dict[tuple[str, str], int] = defaultdict(int)
        self._n_tiles: dict[str, int] = defaultdict(int)
        self._tiles_px: dict[str, int] = defaultdict(int)
        self._open: list[tuple[str, str]] = []
        self._since_ns = 0
        self._pass, self._next_passes = "none", []

    def parts(self, total_s: float) -> list[Part]:
        """The stages that ran, in the order of PASSES and STAGES, and as `other` what is left of total_s."""
        ran = [(stage_pass, stage) for stage_pass in PASSES for stage in STAGES if (stage_pass, stage) in self._self_ns]
        found = [self._part(*key) for key in ran]
        return [*found, Part("none", "other", total_s - sum(part.elapsed_s for part in found))]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage begins, and ends; if it raises, the whole call is lost and so are its times."""
        self._border()
        self._open.append((self._pass, name))
        yield
        self._border()
        self._open.pop()

    @contextmanager
    def network(self, _net: Any, tiles: Any) -> Iterator[None]:
        """Tiles (n, channels, height, width) go through the network."""
        n, _, height_px, width_px = tiles.shape
        self._n_tiles[self._pass] += n
        self._tiles_px[self._pass] += n * height_px * width_px
        with self.stage("network"):
            yield

    @contextmanager
    def estimation(self, *_: Any, **__: Any) -> Iterator[None]:
        """The diameter is estimated: the two passes that begin inside are the style and the size pass."""
        self._next_passes = ["style", "size"]
        yield
        self._pass = "none"

    @contextmanager
    def image_pass(self, *_: Any, **__: Any) -> Iterator[None]:
        """The next pass over the image; what follows it belongs to it until another begins."""
        self._pass = self._next_passes.pop(0) if self._next_passes else "mask"
        yield

    def _border(self) -> None:
        # What the device has still to do was asked for by the stage that is open, so waiting is part of it.
        self._sync()
        now_ns = self._clock_ns()
        if self._open:
            self._self_ns[self._open[-1]] += now_ns - self._since_ns
        self._since_ns = now_ns

    def _part(self, stage_pass: str, stage: str) -> Part:
        elapsed_s = self._self_ns[stage_pass, stage] / 1e9
        if stage != "network":
            return Part(stage_pass, stage, elapsed_s)
        n_full_tiles = self._tiles_px[stage_pass] / TILE_PX
        n_tiles = self._n_tiles[stage_pass]
        return Part(stage_pass, stage, elapsed_s, n_tiles, n_full_tiles * TILE_GFLOP, n_full_tiles * TILE_GB)


def measure(call: Callable[[], T], sync: Sync, clock_ns: Clock = time.perf_counter_ns) -> tuple[T, float, list[Part]]:
    """Call once with the hooks in place: what came out, seconds in all, and their parts."""
    with hooked(sync, clock_ns) as recorder:
        sync()
        begin_ns = clock_ns()
        outcome = call()
        sync()
        total_s = (clock_ns() - begin_ns) / 1e9
    return outcome, total_s, recorder.parts(total_s)


@contextmanager
def hooked(sync: Sync, clock_ns: Clock = time.perf_counter_ns) -> Iterator[Recorder]:
    """Time cellpose's stages while the context is open; whatever happens, it is stock cellpose again afterwards."""
    recorder = Recorder(sync, clock_ns)
    originals: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, context in _hooks(recorder):
            original = getattr(owner, name)
            originals.append((owner, name, original))
            setattr(owner, name, _inside(context, original))
        yield recorder
    finally:
        for owner, name, original in reversed(originals):
            setattr(owner, name, original)


def _hooks(recorder: Recorder) -> list[tuple[Any, str, Callable[..., AbstractContextManager[None]]]]:
    """An attribute of the module that looks it up, and the context that each of its calls is put in."""
    from cellpose import core, dynamics, models, plot, transforms, utils

    def stage(name: str) -> Callable[..., AbstractContextManager[None]]:
        return lambda *_, **__: recorder.stage(name)

    return [
        (models.Cellpose, "__init__", stage("construct")),
        (models.SizeModel, "eval", recorder.estimation),
        (models.CellposeModel, "eval", recorder.image_pass),
        (transforms, "convert_image", stage("convert")),
        (transforms, "normalize_img", stage("normalize")),
        (transforms, "resize_image", stage("resize")),
        # models imports this one by name. Of its own it pads, cuts (make_tiles) and copies.
        (models, "run_net", stage("tile")),
        (core, "_forward", recorder.network),
        (transforms, "average_tiles", stage("stitch")),
        # Of its own it thresholds, scales the flows and follows them (follow_flows, which returns before the device
        # has finished: the next stage's border waits for it).
        (dynamics, "compute_masks", stage("dynamics")),
        (dynamics, "get_masks_torch", stage("seeds")),
        (dynamics, "remove_bad_flow_masks", stage("qc")),
        (utils, "fill_holes_and_remove_small_masks", stage("cleanup")),
        (plot, "dx_to_circ", stage("flow_image")),
        (utils, "diameters", stage("diameter")),
    ]


def _inside(context: Callable[..., AbstractContextManager[None]], original: Any) -> Any:
    """The original, called with the same arguments inside the context made from them."""

    @wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        with context(*args, **kwargs):
            return original(*args, **kwargs)

    return called


def ceilings(device: str, sync: Sync, clock_ns: Clock = time.perf_counter_ns) -> Iterator[Ceiling]:
    """Repetitions of what bounds the network on this device; the best of each kind is its ceiling.

    matmul: a square fp32 matrix product, 2n³ operations.
    convolution: a 3 × 3 convolution of a shape from the middle of the network, each product and sum counted. It has
    torch's default precision for convolutions: on CUDA that is TF32, while a matmul stays fp32.
    copy: device memory to device memory, counted as bytes read plus bytes written.
    """

    def timed_s(work: Work) -> float:
        sync()
        begin_ns = clock_ns()
        work()
        sync()
        return (clock_ns() - begin_ns) / 1e9

    yield from _rates("matmul", _product, device, timed_s)
    yield from _rates("convolution", _convolution, device, timed_s)
    yield from _copies(device, timed_s)
    _return_memory(device)


def _rates(phase: str, sized: Sized, device: str, timed_s: Timed) -> Iterator[Ceiling]:
    """The smallest work that neither the clock nor a GPU's launches blur, a few times."""
    for size in SIZES:
        work, gflop = sized(size, device)
        work()  # makes the library ready
        if min(timed_s(work), timed_s(work)) >= LONG_ENOUGH_S:
            break
    for elapsed_s in _several(work, timed_s):
        yield Ceiling(phase, elapsed_s, gflop, None)


def _product(size: int, device: str) -> tuple[Work, float]:
    import torch

    # Not constants: a GPU spends less power on their products, and would clock higher than it can at work.
    side = 512 * size
    a, b, out = (torch.rand(side, side, device=device) for _ in range(3))
    return partial(torch.matmul, a, b, out=out), 2 * side**3 / 1e9


def _convolution(size: int, device: str) -> tuple[Work, float]:
    import torch

    n, channels, side_px = size**2, 128, 56
    x = torch.rand(n, channels, side_px, side_px, device=device)
    weight = torch.rand(channels, channels, 3, 3, device=device)
    work = partial(torch.nn.functional.conv2d, x, weight, padding=1)
    return work, 2 * 9 * n * channels**2 * side_px**2 / 1e9


def _copies(device: str, timed_s: Timed) -> Iterator[Ceiling]:
    import torch

    source, target = (torch.ones(COPY_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    for elapsed_s in _several(partial(target.copy_, source), timed_s):
        yield Ceiling("copy", elapsed_s, None, 2 * COPY_BYTES / 1e9)


def _several(work: Work, timed_s: Timed) -> Iterator[float]:
    """Durations of a few repetitions: at least three, and not many more where they are long."""
    spent_s: list[float] = []
    while len(spent_s) < 3 or (len(spent_s) < N_BEST_OF and sum(spent_s) < LONG_ENOUGH_S * N_BEST_OF):
        spent_s.append(timed_s(work))
        yield spent_s[-1]


def _return_memory(device: str) -> None:
    """Leave nothing in torch's cache, where a memory pass would take it for the workload's."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device.startswith("mps"):
        torch.mps.empty_cache()
