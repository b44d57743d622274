"""Is a known slowdown measured as what it is? Calls of eval(), every other one with a sleep of 5 % in it.

    python scripts/benchmarks/injected.py [--processes 5] [--repeats 60] [--crop 224]

Fresh processes, in each the two kinds one after the other, so that what the machine does meanwhile hits both. Prints
the ratio with its 95 % interval; the unit is a process. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from harness import images
from harness.engines import registry
from harness.machine import probe
from harness.measure import parent, timing
from harness.stats import selection

SHARE = 0.05


def child(repeats: int, crop: int) -> dict[str, object]:
    """One process: the sleep as a share of a call, and the durations of both kinds in s."""
    engine, name = registry.engine(registry.DEFAULT), registry.default_model()
    engine.prepare(name, str(engine.resolve(name, "standin").paths[0].parent), "")
    engine.start()
    engine.set_threads(probe.n_cores())
    model, pixels = engine.load(name, "cpu", engine.dtypes[0]), images.crop(images.load("sparse").pixels, crop)

    def plain() -> object:
        return model.segment(pixels)

    warm = [timing.once("warmup", plain, lambda: None).elapsed_s for _ in range(5)]
    sleep_s = SHARE * statistics.median(warm)

    def slowed() -> object:
        time.sleep(sleep_s)
        return plain()

    times_s: dict[str, list[float]] = {"plain": [], "slowed": []}
    for index in range(repeats):
        pair = [("plain", plain), ("slowed", slowed)]
        for name, work in pair[:: 1 if index % 2 else -1]:
            times_s[name].append(timing.once("timed", work, lambda: None).elapsed_s)
    return times_s | {"injected": sleep_s / statistics.median(times_s["plain"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.repeats, args.crop)))
        return
    command = [sys.executable, __file__, "--child", "--repeats", str(args.repeats), "--crop", str(args.crop)]
    environment = parent.environment(probe.n_cores())
    found = [
        json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        for _ in range(args.processes)
    ]
    known = selection.gain(*(np.array([each[name] for each in found]) for name in ("plain", "slowed")))
    injected = statistics.mean(each["injected"] for each in found)
    interval = "–" if known.low is None else f"{100 * (known.low - 1):+.2f} … {100 * (known.high - 1):+.2f} %"
    print("| crop, px | processes × pairs | injected | measured | 95 % interval | off by, percentage points |")
    print("|---:|---:|---:|---:|---|---:|")
    slower = known.times - 1
    print(
        f"| {args.crop} | {args.processes} × {args.repeats} | {100 * injected:+.2f} % | {100 * slower:+.2f} % "
        f"| {interval} | {100 * (slower - injected):+.2f} |"
    )


if __name__ == "__main__":
    main()
