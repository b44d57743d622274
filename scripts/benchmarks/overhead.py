"""Does the harness change the time? A bare loop, the harness and the harness through Ray, interleaved.

    python scripts/benchmarks/overhead.py --rounds 4

Each round runs three fresh processes one after the other, in rotating order: a bare Python loop that calls
eval() with the same number of threads, the harness without Ray, the harness through Ray (which is not
running while the other two are). Prints the ratio of the medians to the bare loop's, per crop.
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict
from itertools import chain

from harness.fleet import driver
from harness.measure import parent
from harness.measure.wire import Order
from harness.plan import config
from harness.run import bench
from harness.run.bench import Material

BARE = """
import json, sys, time
import cv2, numba, numpy as np, torch
order = json.load(sys.stdin)
threads = order["block"]["threads"]
torch.set_num_threads(threads); cv2.setNumThreads(threads); numba.set_num_threads(threads)
from cellpose import models
image = np.load(order["pixels_file"])
model = models.Cellpose(gpu=False, model_type="cyto3")
for task in order["block"]["tasks"]:
    case = task["case"]
    side = case["height_px"]
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = image[y : y + side, x : x + side].copy()
    for i in range(1 + order["block"]["effort"]["repeats"]):
        start = time.perf_counter()
        model.eval(crop, diameter=0, channels=[0, 0])
        elapsed_s = time.perf_counter() - start
        if i:
            print(json.dumps([case["crop"], elapsed_s]), flush=True)
"""


def bare(material: Material) -> list[tuple[str, float]]:
    """Crop and seconds of each repetition of the bare loop; the first of each crop is a warm-up."""
    with driver.opened(use_ray=False) as here:
        return _bare(ordered(material, here))


def _bare(order: Order) -> list[tuple[str, float]]:
    done = subprocess.run(
        [sys.executable, "-c", BARE], input=json.dumps(asdict(order)), stdout=subprocess.PIPE, text=True, check=True,
        env={**parent.environment(order.block.threads), "CELLPOSE_LOCAL_MODELS_PATH": order.folder},
    )  # fmt: skip
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def harnessed(material: Material, use_ray: bool) -> list[tuple[str, float]]:
    """Crop and seconds of each timed repetition of the harness."""
    with driver.opened(use_ray=use_ray) as here:
        samples = chain.from_iterable(here.batches([ordered(material, here)]))
        return [(s["crop"], s["elapsed_s"]) for s in samples if s["role"] == "timed"]


def ordered(material: Material, here: driver.Fleet) -> Order:
    """The one block of the comparison."""
    prepared = bench.prepare(material, here.members)
    [order] = bench.orders(prepared, "overhead", here.deliver(material.parcels()))
    return order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--crops", default="224,896")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions per crop, process and round")
    args = parser.parse_args()
    flags = {"crops": config.split(args.crops), "devices": ("cpu",), "weights": "standin", "repeats": args.repeats,
             "blocks": 1}  # fmt: skip
    material = bench.gather(config.load("quick", flags))
    ways = {
        "bare": bare,
        "harness": lambda given: harnessed(given, use_ray=False),
        "ray": lambda given: harnessed(given, use_ray=True),
    }
    times_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    rounds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for i in range(args.rounds):
        names = list(ways)
        for name in names[i % 3 :] + names[: i % 3]:
            by_crop = defaultdict(list)
            for crop, elapsed_s in ways[name](material):
                by_crop[crop].append(elapsed_s)
            for crop, values in by_crop.items():
                times_s[crop, name] += values
                rounds[crop, name].append(statistics.median(values))
            print(f"round {i} {name}: {dict(by_crop)}", file=sys.stderr, flush=True)
    print("| crop, px | way | n | median, s | ratio to bare | ratio per round |")
    print("|---:|---|---:|---:|---:|---|")
    for crop in args.crops.split(","):
        base_s = statistics.median(times_s[crop, "bare"])
        for name in ways:
            median_s = statistics.median(times_s[crop, name])
            per_round = [a / b for a, b in zip(rounds[crop, name], rounds[crop, "bare"], strict=True)]
            print(
                f"| {crop} | {name} | {len(times_s[crop, name])} | {median_s:.4f} | {median_s / base_s:.4f} "
                f"| {', '.join(f'{ratio:.3f}' for ratio in per_round)} |"
            )


if __name__ == "__main__":
    main()
