"""Do two identical runs agree within the precision that they state? The A/A test.

    python scripts/benchmarks/same.py --crops 64,96,128,160,192,224,256,288,320,352 --pairs 2

Each pair is two runs of the thorough profile (without its passes) on the CPU, one after the other. A case agrees if
its two medians differ by no more than the two stated intervals together (root of the sum of squares).
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

from harness import query
from harness.fleet import driver
from harness.plan import config
from harness.run import bench


def medians(material: bench.Material) -> dict[str, dict[str, float]]:
    """One run's row of the view medians, per crop."""
    with tempfile.TemporaryDirectory() as folder:
        with driver.opened(use_ray=False) as here:
            prepared = bench.prepare(material, here.members)
            result = bench.run(prepared, here, Path(folder), on_sample=lambda _: None)
        rows = query.Session(result.store).table("SELECT * FROM medians").to_pylist()
    return {row["crop"]: row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", default="64,96,128,160,192,224,256,288,320,352")
    parser.add_argument("--pairs", type=int, default=2)
    args = parser.parse_args()
    flags = {"crops": config.split(args.crops), "devices": ("cpu",), "weights": "standin", "passes": ()}
    material = bench.gather(config.load("thorough", flags))
    print("| pair | crop, px | n | first, s | second, s | they differ by | stated together | agree | flags |")
    print("|---:|---:|---:|---:|---:|---:|---:|---|---|")
    agreeing = total = 0
    for pair in range(args.pairs):
        first, second = medians(material), medians(material)
        for crop, a in first.items():
            b = second[crop]
            apart = b["median_s"] / a["median_s"] - 1
            stated = math.hypot(a["precision"], b["precision"])
            agree = abs(apart) <= stated
            agreeing, total = agreeing + agree, total + 1
            flags_seen = (
                " ".join(sorted({*a["flags"].split(), *b["flags"].split()})) if a["flags"] or b["flags"] else ""
            )
            print(
                f"| {pair} | {crop} | {a['n']}, {b['n']} | {a['median_s']:.4f} | {b['median_s']:.4f} "
                f"| {100 * apart:+.2f} % | ±{100 * stated:.2f} % | {'yes' if agree else 'no'} | {flags_seen} |",
                flush=True,
            )
    print(f"\n{agreeing} of {total} cases agree ({100 * agreeing / total:.0f} %)")
    sys.exit(0 if agreeing >= 0.95 * total else 1)


if __name__ == "__main__":
    main()
