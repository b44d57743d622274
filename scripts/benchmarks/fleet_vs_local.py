"""Does the cluster change the time? One node through its fleet, and the same node with --no-ray, interleaved.

    cellbench node start --head --name here
    python scripts/benchmarks/fleet_vs_local.py --node here --rounds 6

Needs a node of a fleet on an otherwise idle machine. Each round runs every way in rotating order, and each way is a
separate `cellbench run`. The third way is --no-ray again: the deviation of its ratio from 1 is the run-to-run variation
here, and a ratio of the fleet within it is inconclusive.
Prints per crop the ratio to local, per round, and their geometric mean with its 95 % interval over the rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import ttest_1samp

from harness import query
from harness.store import Store


def measured(way: list[str], args: argparse.Namespace, out: Path) -> dict[str, list[float]]:
    """Seconds of each timed repetition by crop."""
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "--profile",
        "quick",
        "--quiet",
        "--devices",
        "cpu",
        "--blocks",
        "1",
    ]
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
    parser.add_argument("--node", required=True, help="name of this machine's node, from `cellbench node status`")
    args = parser.parse_args()
    ways = {
        "local": ["--no-ray"],
        "fleet": ["--address", args.address, "--nodes", args.node],
        "local again": ["--no-ray"],
    }
    names = list(ways)
    medians_s: dict[tuple[str, str], list[float]] = defaultdict(list)
    for i in range(args.rounds):
        for name in names[i % 3 :] + names[: i % 3]:
            with TemporaryDirectory() as folder:
                found = measured(ways[name], args, Path(folder))
            print(f"round {i} {name}: {dict(found)}", file=sys.stderr, flush=True)
            for crop, times_s in found.items():
                medians_s[crop, name].append(median(times_s))
    print("| crop, px | way | rounds | median of medians, s | ratio to local | 95 % interval | ratio per round |")
    print("|---:|---|---:|---:|---:|---|---|")
    for (crop, name), of_way_s in sorted(medians_s.items()):
        logs = np.log(of_way_s) - np.log(medians_s[crop, "local"])
        word = ", ".join(f"{ratio:.3f}" for ratio in np.exp(logs))
        # Rounds are pairs: what the machine did meanwhile is in both.
        low, high = np.exp(ttest_1samp(logs, 0).confidence_interval()) if name != "local" else (1, 1)
        ratio = np.exp(logs.mean())
        print(
            f"| {crop} | {name} | {len(logs)} | {median(of_way_s):.4f} | {ratio:.4f} | {low:.3f}–{high:.3f} | {word} |"
        )


if __name__ == "__main__":
    main()
