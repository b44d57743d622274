"""Does the cluster change the time? One node through its fleet, and the same node alone, call by call.

    cellbench node start --head --name here
    python scripts/benchmarks/fleet_vs_local.py --node here --budget 20m

Needs a node of a fleet on an otherwise idle machine. A pair is one fresh process either way, both at the same time:
they call alternately, and the process that does not call waits. So a machine whose speed changes within seconds changes
both. The first of a pair is drawn at random. The median ratio of a pair's calls is judged as in `cellbench ab`, until
the 95 % interval lies within ±2 % of 1 (SAME) or excludes 1 (SLOWER, FASTER), or the budget is spent. With --null both
sides are this machine alone: its result shows how far two equal ways differ here.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from harness.cli.options import duration_s
from harness.fleet import driver
from harness.plan import config
from harness.plan.cases import Task
from harness.run import bench
from harness.run.bench import Prepared
from harness.stats import sequential
from harness.stats.difference import INCONCLUSIVE


@dataclass(frozen=True)
class Side:
    """One way to the node. places: the folder of image and model files on it."""

    prepared: Prepared
    fleet: driver.Fleet
    places: Any

    def call_s(self, index: int) -> Iterator[float | None]:
        """Perform one fresh process; the duration of each timed call, and None for all else that it measures."""
        block = self.prepared.blocks[0]
        blocks = (replace(block, index=index, tasks=(Task("timed", block.cases[0], 0),)),)
        orders = bench.orders(replace(self.prepared, blocks=blocks), "none", self.places)
        with closing(self.fleet.batches(orders)) as batches:
            for sample in (each for batch in batches for each in batch):
                yield sample["elapsed_s"] if sample["role"] == "timed" else None


def pair(sides: tuple[Side, Side], index: int) -> list[tuple[float, float]]:
    """Durations of alternate calls, before and after, in s."""
    is_swapped = random.random() < 0.5
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(side.call_s(index))) for side in sides[:: -1 if is_swapped else 1])
        calls = [(a, b) for a, b in zip(first, second, strict=True) if a and b]
    return [(b, a) for a, b in calls] if is_swapped else calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", required=True, help="name of this machine's node, from `cellbench node status`")
    parser.add_argument("--address", default="auto")
    parser.add_argument("--null", action="store_true", help="this machine alone on both sides")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--variant", default="stock")
    parser.add_argument("--repeats", type=int, default=12, help="timed calls in each process")
    parser.add_argument("--margin", type=float, default=0.02)
    parser.add_argument("--budget", default="20m", help="longest time without a verdict")
    args = parser.parse_args()
    flags = {"crops": (args.crop,), "devices": ("cpu",), "variants": (args.variant,), "repeats": args.repeats,
             "weights": "standin", "blocks": 1, "warmups": 1, "control": False, "passes": (), "idle_wait_s": 0.0,
             "protocols": ("standard",), "precision": None}  # fmt: skip
    material = bench.gather(config.load("quick", flags))
    alone: dict[str, Any] = {"use_ray": False}
    ways = (alone, alone if args.null else {"address": args.address, "nodes": (args.node,)})
    end_s = time.monotonic() + duration_s(args.budget, "--budget")
    pairs: list[tuple[float, float]] = []
    with ExitStack() as stack:
        fleets = [stack.enter_context(driver.opened(engines=material.engines, **way)) for way in ways]
        before, after = (
            Side(bench.prepare(material, each.members), each, each.deliver(material.parcels())) for each in fleets
        )
        while True:
            calls = pair((before, after), len(pairs))
            pairs.append((geometric_mean(a for a, _ in calls), median(b / a for a, b in calls)))
            found = sequential.look([(a, a * ratio) for a, ratio in pairs], args.margin)
            print(f"{len(pairs)} {pairs[-1][0]:.4f} s {pairs[-1][1]:.4f} {found}", file=sys.stderr, flush=True)
            if found.verdict != INCONCLUSIVE or time.monotonic() > end_s:
                break
    interval = " – ".join("…" if end is None else f"{end:.4f}" for end in (found.low, found.high))
    spread = 100 * np.std(np.log([ratio for _, ratio in pairs]), ddof=1)
    print("| sides | crop, px | variant | pairs × calls | sd of a pair, % | ratio | 95 % interval | verdict |")
    print("|---|---:|---|---:|---:|---:|---|---|")
    print(
        f"| alone and {'alone' if args.null else 'fleet'} | {args.crop} | {args.variant} | {found.n} × {args.repeats} "
        f"| {spread:.1f} | {found.ratio:.4f} | {interval} | {found.verdict} |"
    )


if __name__ == "__main__":
    main()
