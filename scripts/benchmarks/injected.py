"""Is a known slowdown measured as what it is? Calls of eval(), every other one with a sleep of 5 % in it.

    python scripts/benchmarks/injected.py --repeats 60

One process, the two kinds by turns, so that what the machine does meanwhile hits both. Prints the median of the pairs'
ratios and its 95 % interval (bootstrap). Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np

from harness import images
from harness.engines import registry
from harness.machine import probe
from harness.measure import parent, timing

SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--crop", type=int, default=224)
    args = parser.parse_args()
    threads = probe.n_cores()
    os.environ.update(parent.environment(threads))  # which torch reads as it is imported
    engine, name = registry.engine(registry.DEFAULT), registry.default_model()
    engine.prepare(name, str(engine.resolve(name, "standin").paths[0].parent), "")
    engine.start()
    engine.set_threads(threads)
    model, pixels = engine.load(name, "cpu", engine.dtypes[0]), images.crop(images.load("sparse").pixels, args.crop)

    def plain() -> object:
        return model.segment(pixels)

    warm = [timing.once("warmup", plain, lambda: None).elapsed_s for _ in range(5)]
    sleep_s = SHARE * statistics.median(warm)

    def slowed() -> object:
        time.sleep(sleep_s)
        return plain()

    times_s: dict[str, list[float]] = {"plain": [], "slowed": []}
    for index in range(args.repeats):
        pair = [("plain", plain), ("slowed", slowed)]
        for name, work in pair[:: 1 if index % 2 else -1]:
            times_s[name].append(timing.once("timed", work, lambda: None).elapsed_s)
    plain_s, slowed_s = np.array(times_s["plain"]), np.array(times_s["slowed"])
    injected = sleep_s / float(np.median(plain_s))
    # Neighbours in time are compared, so that what the machine does in the long run cancels.
    ratios = slowed_s / plain_s
    measured = float(np.median(ratios)) - 1
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1) - 1
    low, high = np.quantile(draws, [0.025, 0.975])
    print("| crop, px | n each | injected | measured | 95 % interval | off by, percentage points |")
    print("|---:|---:|---:|---:|---|---:|")
    print(
        f"| {args.crop} | {args.repeats} | {100 * injected:+.2f} % | {100 * measured:+.2f} % "
        f"| {100 * low:+.2f} … {100 * high:+.2f} % | {100 * (measured - injected):+.2f} |"
    )


if __name__ == "__main__":
    main()
