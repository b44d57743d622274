"""How the stand-in weights do on the article's image, which they have never seen.

    python scripts/benchmarks/standin_table.py --image cell_00505.tif --published published_single_run.csv

The image is `Cell_00505` of the NeurIPS 2022 Cell Segmentation challenge (Zenodo record 10719375); the CSV
is the article author's (columns Processor, Length, Diameter, Masks; Masks counts the background). Prints a
Markdown table of estimated diameters and cell counts; exits with 1 if one is off by more than 8 % or by
more than 15 % (one cell where fewer than ten were published).
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from harness.fleet import driver
from harness.plan import config
from harness.run import bench


def published(path: Path) -> dict[str, tuple[int, float]]:
    """Cells and diameter in px per crop, from the author's CPU rows."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Processor"] == "CPU"]
    by_crop = {}
    for row in rows:
        side = float(row["Length"])
        crop = str(int(side)) if side.is_integer() else "full"
        by_crop[crop] = (int(row["Masks"]) - 1, float(row["Diameter"]))
    return by_crop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--weights", default="standin")
    args = parser.parse_args()
    theirs = published(args.published)
    crops = tuple(int(crop) if crop != "full" else crop for crop in theirs)

    flags = {
        "image": args.image,
        "crops": crops,
        "devices": ("cpu",),
        "weights": args.weights,
        "blocks": 1,
        "warmups": 0,
        "repeats": 1,
    }
    material = bench.gather(config.load("quick", flags))
    print(
        "| crop, px | cells, published | cells, stand-in | diameter, published, px | diameter, stand-in, px | off by |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    bad = 0
    with driver.opened(use_ray=False) as here:
        todo = bench.orders(bench.prepare(material, here.members), "table", here.deliver(material.parcels()))
        ours = {s["crop"]: s for batch in here.batches(todo) for s in batch if s["role"] == "timed"}
    for crop, (n_cells, diameter_px) in theirs.items():
        found = ours[crop]
        off = found["diameter_px"] / diameter_px - 1
        few = n_cells < 10
        wrong = abs(found["n_cells"] - n_cells) > (1 if few else 0.15 * n_cells) or abs(off) > 0.08
        bad += wrong
        print(
            f"| {crop} | {n_cells} | {found['n_cells']} | {diameter_px:.1f} | {found['diameter_px']:.1f} "
            f"| {100 * off:+.1f} %{' **out**' if wrong else ''} |"
        )
    some = next(iter(ours.values()))
    print(f"\ncellpose {some['cellpose_version']} on {some['cpu_model']}; network {some['weights_sha256'][:16]}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
