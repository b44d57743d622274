"""Stages of stock Cellpose and of a variant, with interleaved whole calls and mask verdicts, as Markdown.

    python scripts/benchmarks/variants_table.py --out results/variants
    python scripts/benchmarks/variants_table.py --image my.tif --crops 1344 --variant lossless --out results/variants

Measures the built-in images (or --image FILE) on --device at each of --crops: first a race of stock and the variant
(masks at estimated and fixed diameter, then interleaved calls), then the stage pass of both in one fresh process. The
network's floor is its operations over the best rate that this device reached in the same process; with winograd also
the multiplications of that method, without its transforms.

--as-avx2 measures as on an x86-64 processor without AVX-512: torch, oneDNN, MKL, numba and this project's own code are
limited to AVX2, for stock and for the variant. It shows the instructions of such a processor, not its caches or clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.engines import registry
from harness.engines.cellpose3.catalogue import TILE_GFLOP
from harness.fleet import driver
from harness.measure.wire import Order
from harness.plan import config
from harness.plan.cases import Task
from harness.run import bench, tune
from harness.store import Store, new_run_id


def multiplications_gflop(n_in: int, n_out: int, side_px: int, is_enlarged: bool = False) -> float:
    """Operations of one block of cyto3's network by F(4 × 4, 3 × 3) and its projection, for one tile."""
    tiles = ceil(side_px / 4) ** 2
    convolutions = 36 * tiles * (n_in + 3 * n_out) * n_out
    return 2e-9 * (convolutions + n_in * n_out * (side_px // (2 if is_enlarged else 1)) ** 2)


DOWN, UP = ((2, 32, 224), (32, 64, 112), (64, 128, 56), (128, 256, 28)), ((256, 128, 56), (128, 64, 112), (64, 32, 224))
WINOGRAD_STYLE_GFLOP = sum(multiplications_gflop(*block) for block in DOWN)
WINOGRAD_GFLOP = (
    WINOGRAD_STYLE_GFLOP
    + multiplications_gflop(256, 256, 28)
    + sum(multiplications_gflop(*block, is_enlarged=True) for block in UP)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="lossless+winograd")
    parser.add_argument("--model", default=registry.default_model())
    parser.add_argument("--device", default="cpu", help="cpu, mps, cuda or cuda:N")
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("--crops", default="448,896")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="standin")
    parser.add_argument("--as-avx2", action="store_true", help="without AVX-512, on a processor that has it")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with limited_to_avx2() if args.as_avx2 else nullcontext():
        measure(args)


AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}  # fmt: skip


@contextmanager
def limited_to_avx2() -> Iterator[None]:
    """Processes that start in here, and the code that they compile, use no later instructions than AVX2."""
    real = shutil.which("c++")
    with TemporaryDirectory() as folder:
        compiler = Path(folder, "c++")
        compiler.write_text(f'#!/bin/bash\nexec {real} "${{@/-march=native/-march=haswell}}"\n')
        compiler.chmod(0o755)
        os.environ.update({**AVX2, "PATH": f"{folder}:{os.environ['PATH']}", "NUMBA_CACHE_DIR": f"{folder}/numba"})
        yield


def measure(args: argparse.Namespace) -> None:
    variant = str(registry.engine_of(args.model).variant(args.variant, args.device.partition(":")[0]))
    for image in args.image or ["sparse", "dense"]:
        for crop in config.split(args.crops) or ():
            what = {"image": image, "crops": (crop,), "devices": (args.device,), "weights": args.weights,
                    "models": (args.model,)}  # fmt: skip
            measured(what | {"control": False}, variant, args.rounds, args.out)


def measured(flags: dict[str, Any], variant: str, rounds: int, out: Path) -> None:
    """One image and crop: the race, then the stages."""
    material = bench.gather(config.load("quick", flags))
    with driver.opened(use_ray=False, engines=material.engines) as here:
        prepared = bench.prepare(material, here.members)
        block, case = prepared.blocks[0], prepared.blocks[0].cases[0]
        cases = [replace(case, variant=name) for name in ("stock", variant)]
        staged = replace(block, index=1, tasks=(Task("ceiling", case, 0), *(Task("stages", c, 0) for c in cases)))
        races = replace(prepared, blocks=(tune.race_block(block, case, ["stock", variant], rounds, 0),))
        places, run_ids = here.deliver(prepared.material.parcels()), [new_run_id(time.time()) for _ in range(2)]
        race = list(rows(here, out, run_ids[0], tune.races(races, run_ids[0], places)))
        orders = bench.orders(replace(prepared, blocks=(staged,)), run_ids[1], places)
        stages = list(rows(here, out, run_ids[1], orders))
    each = next(found for found in tune.outcomes(race) if found.variant == variant)
    print(f"\n### {Path(flags['image']).name}, crop {case.crop}, {case.dtype}: {variant}\n")
    interval = f" ({each.low:.2f} to {each.high:.2f})" if each.low else ""
    print(f"{each.speedup or 0:.2f}{interval} times stock, n = {each.n}, masks {each.agreement}. {each.note}\n")
    print("| stage | stock s | now s | floor s |\n|---|---|---|---|")
    by: dict[tuple[str, str], float] = defaultdict(float)
    gflop = winograd_gflop = 0.0
    for row in stages:
        if row["role"] == "stages" and row["phase"] == "stage" and row["repetition"] == 1:
            by[row["stage"], row["variant"]] += row["elapsed_s"]
            if row["variant"] == "stock" and row.get("work_gflop"):
                gflop += row["work_gflop"]
                of_tile = WINOGRAD_STYLE_GFLOP if row["stage_pass"] == "style" else WINOGRAD_GFLOP
                winograd_gflop += row["work_gflop"] * of_tile / TILE_GFLOP
    rates = [row["work_gflop"] / row["elapsed_s"] for row in stages if row["role"] == "ceiling" and row["work_gflop"]]
    for stage in sorted({stage for stage, _ in by}, key=lambda stage: -by[stage, "stock"]):
        floor = f"{gflop / max(rates):.3f}" if stage == "network" and rates else ""
        floor += f"; {winograd_gflop / max(rates):.3f}" if floor and "winograd" in variant else ""
        print(f"| {stage} | {by[stage, 'stock']:.3f} | {by[stage, variant]:.3f} | {floor} |", flush=True)


def rows(here: driver.Fleet, out: Path, run_id: str, orders: Sequence[Order]) -> Iterator[dict[str, Any]]:
    """The rows of these orders, stored as they come."""
    with Store.make(out).journal(run_id) as journal, closing(here.batches(orders)) as batches:
        yield from journal.record(batches)


if __name__ == "__main__":
    main()
