"""Does the cluster change the time? One node through its fleet, and the same node alone, in pairs of processes.

    cellbench node start --head --name here
    python scripts/benchmarks/fleet_vs_local.py --node here --budget 40m

Needs a node of a fleet on an otherwise idle machine. It measures as `cellbench ab` does: a pair is one fresh process
either way, the first of them drawn at random, until the 95 % interval of the ratio lies within ±2 % of 1 (SAME) or
excludes 1 (SLOWER, FASTER), or the budget is spent. The head's daemons run throughout. With --null both sides are this
machine alone: its result shows how far two equal ways differ here.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from math import log
from pathlib import Path
from statistics import stdev
from tempfile import TemporaryDirectory
from typing import Any

from harness.cli.options import duration_s
from harness.fleet import driver
from harness.plan import config
from harness.run import ab, bench
from harness.run.resume import Pairing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", required=True, help="name of this machine's node, from `cellbench node status`")
    parser.add_argument("--address", default="auto")
    parser.add_argument("--null", action="store_true", help="this machine alone on both sides")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--variant", default="stock")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls in each process")
    parser.add_argument("--margin", type=float, default=0.02)
    parser.add_argument("--budget", default="40m", help="longest time without a verdict")
    args = parser.parse_args()
    flags = {"crops": (args.crop,), "devices": ("cpu",), "variants": (args.variant,), "repeats": args.repeats,
             "weights": "standin", "blocks": 1, "warmups": 1, "control": False, "passes": (),
             "protocols": ("standard",)}  # fmt: skip
    material = bench.gather(config.load("quick", flags))
    labels = ("alone", "alone" if args.null else "fleet")
    pairing = Pairing(args.margin, duration_s(args.budget, "--budget"), labels)
    alone: dict[str, Any] = {"use_ray": False}
    fleet = alone if args.null else {"address": args.address, "nodes": (args.node,)}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        out = Path(folder)
        fleets = tuple(stack.enter_context(driver.opened(engines=material.engines, **way)) for way in (alone, fleet))
        sides = [bench.prepare(material, each.members) for each in fleets]
        pairs = []
        for pair in ab.measure(ab.begin(sides[0], sides[1], (fleets[0], fleets[1]), out, pairing), out, pairing):
            pairs.append(pair)
            print(f"{pair.index} {pair.before_s:.4f} {pair.after_s:.4f} {pair.decision}", file=sys.stderr, flush=True)
    logs = [log(pair.after_s / pair.before_s) for pair in pairs]
    last = pairs[-1].decision
    interval = " – ".join("…" if end is None else f"{end:.4f}" for end in (last.low, last.high))
    print("| sides | crop, px | variant | pairs | sd of a pair, % | ratio | 95 % interval | verdict |")
    print("|---|---:|---|---:|---:|---:|---|---|")
    spread = f"{100 * stdev(logs):.1f}" if len(logs) > 1 else ""
    print(
        f"| {' and '.join(labels)} | {args.crop} | {args.variant} | {last.n} | {spread} | {last.ratio:.4f} "
        f"| {interval} | {last.verdict} |"
    )


if __name__ == "__main__":
    main()
