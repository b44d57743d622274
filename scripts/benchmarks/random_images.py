"""Do variants of Cellpose 3 give the results of stock on random images with the real network? Compares every pixel.

    python scripts/benchmarks/random_images.py --images 10 --seed 0

Each image is drawn from its seed: odd sizes, sparse or dense, cells of several diameters, with diameter estimated or
given. Prints the pixels whose label, flow and style differ from stock's, as Markdown; exits with 1 where masks differ.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from typing import Any

import numpy as np

from harness.engines import registry
from harness.engines.cellpose3 import weights
from harness.images import synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first image; the others follow")
    parser.add_argument("--variants", default="lossless,lossless+winograd")
    parser.add_argument("--side-max", type=int, default=700, help="longest side in px")
    parser.add_argument("--weights", default="standin")
    args = parser.parse_args()
    os.environ["CELLPOSE_LOCAL_MODELS_PATH"] = weights.resolve(args.weights).folder
    from cellpose import models

    from cellbench import accelerate

    name = registry.default_model()
    calls = {"stock": models.Cellpose(model_type=name)}
    calls |= {each: accelerate(models.Cellpose(model_type=name), each) for each in args.variants.split(",")}
    print("| image | cells | variant | labels that differ | flows | styles |\n|---|---:|---|---:|---:|---:|")
    n_other = 0
    for seed in range(args.seed, args.seed + args.images):
        rng = random.Random(seed)
        side_px = [rng.randrange(65, args.side_max) for _ in range(2)]
        kind, diameter = rng.choice(("sparse", "dense")), rng.choice((0, 17.3, 30, 55))
        draw = {"sparse": synthetic.sparse, "dense": synthetic.dense}[kind]
        cells = {"n_cells": max(3, side_px[0] * side_px[1] // 9000)} if kind == "sparse" else {}
        pixels = draw(seed, *side_px, **cells).image
        results = {each: model.eval(pixels, diameter=diameter, channels=[0, 0]) for each, model in calls.items()}
        for each in args.variants.split(","):
            labels, flows, styles = (differing(results["stock"][part], results[each][part]) for part in range(3))
            n_other += labels
            title = f"{kind}, {side_px[0]} × {side_px[1]} px, diameter {diameter or 'estimated'}"
            n_cells = results["stock"][0].max()
            print(f"| {title} | {n_cells} | {each} | {labels} | {flows} | {styles} |", flush=True)
    sys.exit(1 if n_other else 0)


def differing(one: Any, other: Any) -> int:
    """The number of values that differ in two results, which may be lists of arrays."""
    if isinstance(one, list | tuple):
        return sum(differing(*pair) for pair in zip(one, other, strict=True))
    return int(np.count_nonzero(np.asarray(one) != np.asarray(other)))


if __name__ == "__main__":
    main()
