"""Does the cluster change the time? One node through its fleet, and the same node with --no-ray, by turns.

    cellbench node start --head --name here
    python scripts/benchmarks/fleet_vs_local.py --node here --rounds 6

Needs a node of a fleet on this machine, and nothing else going on. Each round runs both ways, in alternating order,
and each way is a `cellbench run` of its own. Prints the ratio of the medians, fleet to local, per crop.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness import query
from harness.store import Store


def measured(way: list[str], args: argparse.Namespace, out: Path) -> dict[str, list[float]]:
    """Seconds of each timed repetition by crop."""
    command = [sys.executable, "-m", "harness.cli", "run", "--profile", "quick", "--quiet", "--devices", "cpu"]
    command += ["--crops", args.crops, "--repeats", str(args.repeats), "--weights", "standin", "--out", str(out)]
    subprocess.run([*command, *way], check=True, stdout=subprocess.DEVNULL)
    times_s = defaultdict(list)
    sql = "SELECT crop, elapsed_s FROM timed WHERE elapsed_s IS NOT NULL"
    for row in query.Session(Store.at(out)).table(sql).to_pylist():
        times_s[row["crop"]].append(row["elapsed_s"])
    return times_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--crops", default="224,448")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions per crop, way and round")
    parser.add_argument("--address", default="auto")
    parser.add_argument("--node", required=True, help="name of this machine's node, as `cellbench node status` tells")
    args = parser.parse_args()
    ways = {"fleet": ["--address", args.address, "--nodes", args.node], "local": ["--no-ray"]}
    times_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    ratios: dict[str, list[float]] = defaultdict(list)
    for i in range(args.rounds):
        found = {}
        for name in sorted(ways, reverse=i % 2 == 1):
            with TemporaryDirectory() as folder:
                found[name] = measured(ways[name], args, Path(folder))
            print(f"round {i} {name}: {dict(found[name])}", file=sys.stderr, flush=True)
        for crop in found["local"]:
            ratios[crop].append(median(found["fleet"][crop]) / median(found["local"][crop]))
            for name in ways:
                times_s[crop, name] += found[name][crop]
    print("| crop, px | n | local median, s | fleet median, s | ratio | ratio per round |")
    print("|---:|---:|---:|---:|---:|---|")
    for crop, per_round in ratios.items():
        local_s, fleet_s = median(times_s[crop, "local"]), median(times_s[crop, "fleet"])
        told = ", ".join(f"{ratio:.3f}" for ratio in per_round)
        n = len(times_s[crop, "local"])
        print(f"| {crop} | {n} | {local_s:.4f} | {fleet_s:.4f} | {fleet_s / local_s:.4f} | {told} |")


if __name__ == "__main__":
    main()
