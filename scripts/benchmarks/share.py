"""How much of a quick run's wall time is spent inside warm-ups and timed repetitions?

    python scripts/benchmarks/share.py

Runs the quick profile on the CPU through the embedded Ray, three times; wall time counts from when Ray is
up until the last sample is on disk. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from harness import query
from harness.fleet import driver
from harness.plan import config
from harness.run import bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    material = bench.gather(config.load("quick", {"devices": ("cpu",), "weights": "standin"}))
    print("| run | wall after Ray is up, s | in warm-ups and repetitions, s | share | with the cold call |")
    print("|---:|---:|---:|---:|---:|")
    for i in range(args.runs):
        with tempfile.TemporaryDirectory() as folder, driver.opened() as here:
            prepared = bench.prepare(material, here.members)
            result = bench.run(prepared, here, Path(folder), on_sample=lambda _: None)
            sql = "SELECT role, sum(elapsed_s) AS s FROM samples WHERE phase = 'call' GROUP BY role"
            spent = {row["role"]: row["s"] for row in query.Session(result.store).table(sql).to_pylist()}
        wall_s, inside_s = result.elapsed_s, spent["warmup"] + spent["timed"]
        with_cold = (inside_s + spent["cold"]) / wall_s
        print(f"| {i} | {wall_s:.1f} | {inside_s:.1f} | {inside_s / wall_s:.3f} | {with_cold:.3f} |", flush=True)


if __name__ == "__main__":
    main()
