"""Cellpose-SAM on a CPU: its network, whole calls compared with stock, and its cost compared with cyto3, as Markdown.

    python scripts/benchmarks/cellpose_sam.py tile                       # minutes on two cores
    python scripts/benchmarks/cellpose_sam.py calls --out results/sam    # an hour on two cores
    python scripts/benchmarks/cellpose_sam.py cost --out results/sam

tile: ways to run the network on the same tile, interleaved in one process, in rotating order. × stock: median of
the ratios within a round, with their range. Floor: the operations of a tile over the best rate that a product of the
network's shapes reached in this process and precision; distance: measured over floor.
calls: a race of stock and a variant with masks, and the stages of both (variants_table.py). cost: cyto3 and
Cellpose-SAM in one run with several processes. Weights are the stand-in's unless --weights names others: times of the
network are those of the published one.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.engines import environments, registry
from harness.engines.cellpose4 import catalogue, surrogate
from harness.machine import probe

if TYPE_CHECKING:
    import torch

ENGINE, MODEL = "cellpose4", "cpsam_v2"
DTYPES = ("bfloat16", "float32")
VARIANTS = ("stock", "cached-positions", "fused", "joined", "flash", "packed", "flash+packed")
BEST = "lossless+flash+packed"
# Rows, depth and columns of the products that a block makes of a tile's 1,024 tokens.
PRODUCTS = ((1024, 1024, 3072), (1024, 1024, 4096), (1024, 4096, 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tile", "calls", "cost"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=probe.n_cores())
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--crops", default="224,448")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--weights", default="standin")
    parser.add_argument("--out", type=Path, default=Path("results/sam"))
    args = parser.parse_args()
    {"tile": tile, "calls": calls, "cost": cost}[args.what](args)


def calls(args: argparse.Namespace) -> None:
    """Whole calls of stock and of the best variant, interleaved."""
    from variants_table import measured

    for crop in args.crops.split(","):
        for dtype in args.dtypes.split(","):
            what = {"image": "sparse", "crops": (int(crop),), "devices": ("cpu",), "weights": args.weights}
            what |= {"control": False, "models": (MODEL,), "dtypes": (dtype,)}
            measured(what, BEST, args.rounds, args.out)


def cost(args: argparse.Namespace) -> None:
    """Both models in one run, in several processes each; the report has the ratio with its interval."""
    program = Path(sys.executable).with_name("cellbench")
    words = ["run", "--models", f"{registry.default_model()},{MODEL}", "--crops", args.crops, "--no-ray", "--devices",
             "cpu", "--blocks", str(args.blocks), "--repeats", "2", "--weights", args.weights]  # fmt: skip
    subprocess.run([program, *words, "--out", args.out], check=True)
    subprocess.run([program, "report", "--md", "--out", args.out], check=True)


def tile(args: argparse.Namespace) -> None:
    """The network alone; the engine lies in an environment of its own, so this starts again there."""
    spec = environments.find(ENGINE)
    if not {*spec.path} <= {*sys.path}:
        os.execve(spec.python, [spec.python, *sys.argv], {**os.environ, **spec.environ()})
    import numpy as np
    import torch
    from cellpose import core, models

    from harness.engines.cellpose.variants import hooks
    from harness.engines.cellpose4 import variants

    if not surrogate.file().is_file():
        surrogate.main()
    torch.set_num_threads(args.threads)
    tiles = np.random.default_rng(0).standard_normal((1, 1, 256, 256)).astype(np.float32)
    dtypes, names = args.dtypes.split(","), args.variants.split(",")
    times_s: dict[tuple[str, str], list[float]] = {}

    @contextmanager
    def way(model: Any, name: str) -> Iterator[Callable[[], object]]:
        with variants.apply(model, name) as applied:
            applied._batch_size = 1

            def call() -> object:
                with hooks.within(applied):
                    return core._forward(model.net, tiles)

            call()
            assert not applied.notes, applied.notes
            yield call

    construct: Any = models.CellposeModel  # of Cellpose 4
    with ExitStack() as stack:
        every = {}
        for dtype in dtypes:
            model = construct(
                pretrained_model=str(surrogate.file()), device=torch.device("cpu"), use_bfloat16=dtype == "bfloat16"
            )
            for name in names:  # a model carries one variant, so each gets one of its own around the same network
                every[dtype, name] = stack.enter_context(way(copy.copy(model), name))
        for round_ in range(args.rounds):
            order = list(every)
            for key in order[round_ % len(order) :] + order[: round_ % len(order)]:
                begin_s = time.perf_counter()
                every[key]()
                times_s.setdefault(key, []).append(time.perf_counter() - begin_s)
    rates = {dtype: best_gflop_s(getattr(torch, dtype)) for dtype in dtypes}
    print(f"{args.threads} threads, torch {torch.__version__}, n = {args.rounds} rounds; best products: ", end="")
    print(", ".join(f"{dtype} {rate:.0f} GFLOP/s" for dtype, rate in rates.items()))
    head = ["precision", "variant", "s a tile", *(f"× stock {dtype}" for dtype in dtypes), "floor s", "distance"]
    print("|".join(["", *head, ""]))
    print("|".join(["", *["---"] * 2, *["---:"] * (len(head) - 2), ""]))
    for (dtype, name), own_s in times_s.items():
        ratios = (ratio(times_s.get((other, "stock"), []), own_s) for other in dtypes)
        floor_s = catalogue.TILE_GFLOP / rates[dtype]
        cells = (dtype, name, f"{median(own_s):.2f}", *ratios, f"{floor_s:.2f}", f"{median(own_s) / floor_s:.2f}")
        print("|".join(["", *cells, ""]), flush=True)


def ratio(stock_s: list[float], own_s: list[float]) -> str:
    """The median of the ratios within rounds, and their range."""
    found = sorted(a / b for a, b in zip(stock_s, own_s, strict=False))
    return f"{median(found):.2f} ({found[0]:.2f} – {found[-1]:.2f})" if found else "–"


def best_gflop_s(dtype: torch.dtype) -> float:
    """The best rate of a product of the network's shapes, in every way that torch offers, over some tries."""
    import torch

    best = 0.0
    for rows, depth, columns in PRODUCTS:
        x, weight, bias = (torch.randn(shape, dtype=dtype) for shape in ((rows, depth), (columns, depth), (columns,)))
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        ways = (
            lambda x=x, w=weight, b=bias: torch.nn.functional.linear(x, w, b),
            lambda x=x, w=packed, b=bias: torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], ""),
        )
        for call in ways:
            for _ in range(8):
                begin_s = time.perf_counter()
                call()
                best = max(best, 2e-9 * rows * depth * columns / (time.perf_counter() - begin_s))
    return best


if __name__ == "__main__":
    main()
