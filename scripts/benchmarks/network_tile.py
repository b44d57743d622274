"""Milliseconds per tile of cyto3's network on the CPU: stock, and `winograd` as each compiler makes it.

    python scripts/benchmarks/network_tile.py --threads 2 --tiles 8
    python scripts/benchmarks/network_tile.py --compilers "g++;clang++;python -m ziglang c++"

Ways are called alternately in one process with stand-in weights. Prints, for each way, median and least time, and the
largest difference of the flows from those of stock, relative to the largest flow. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import time
from collections.abc import Callable

import numpy as np

from harness.engines.cellpose3 import weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiles", type=int, default=8, help="tiles of one call")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--compilers", default="c++", help="commands of C++ compilers, separated by ;")
    args = parser.parse_args()
    os.environ["CELLPOSE_LOCAL_MODELS_PATH"] = weights.resolve("standin").folder

    import torch
    from cellpose import core, models

    from harness.engines.cellpose.variants import native
    from harness.engines.cellpose3.variants import network, winograd

    torch.set_num_threads(args.threads)
    tiles = np.random.default_rng(0).standard_normal((args.tiles, 2, 224, 224)).astype(np.float32)
    stock = models.Cellpose(model_type="cyto3").cp
    own = network.dense_copy(stock.net, stock.pretrained_model).requires_grad_(False)
    ways: dict[str, Callable[[], np.ndarray]] = {"stock": lambda: core._forward(stock.net, tiles)[0]}
    for compiler in args.compilers.split(";"):
        native.compiled.cache_clear()
        winograd.compiled.cache_clear()
        native._compiler = lambda command=compiler: shlex.split(command)
        made = winograd.Network(own, args.threads)
        ways[compiler] = lambda made=made: made(torch.from_numpy(tiles))[0].numpy()
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    flows = {}
    for _ in range(1 + args.rounds):
        for name, way in ways.items():
            begin_s = time.perf_counter()
            flows[name] = way()
            times_s[name].append(time.perf_counter() - begin_s)
    print("| way | n | median, ms per tile | least, ms per tile | flows differ by |")
    print("|---|---:|---:|---:|---:|")
    for name, [_, *each] in times_s.items():
        off = np.abs(flows[name] - flows["stock"]).max() / np.abs(flows["stock"]).max()
        middle, least = (1e3 * value / args.tiles for value in (statistics.median(each), min(each)))
        print(f"| {name} | {len(each)} | {middle:.1f} | {least:.1f} | {off:.1e} |")


if __name__ == "__main__":
    main()
