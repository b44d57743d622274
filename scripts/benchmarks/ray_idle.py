"""What the embedded Ray uses of the processors while it waits for a measurement to end.

    python scripts/benchmarks/ray_idle.py

Starts Ray as `cellbench run` does, lets it settle, and adds up the CPU time of its processes over a span.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import psutil

from harness.fleet import cluster


def cpu_s() -> Counter[str]:
    """CPU seconds so far of each kind of process that Ray started here."""
    spent: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        times = process.cpu_times()
        words = " ".join(process.cmdline())
        kinds = ("gcs_server", "raylet", "log_monitor", "dashboard/agent", "dashboard", "runtime_env", "worker")
        kind = next((kind for kind in kinds if kind in words), process.name())
        spent[kind] += times.user + times.system
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settle", type=float, default=10.0, help="seconds before the span")
    parser.add_argument("--span", type=float, default=20.0, help="seconds")
    args = parser.parse_args()
    ray = cluster.start_local()
    time.sleep(args.settle)
    before = cpu_s()
    time.sleep(args.span)
    after = cpu_s()
    ray.shutdown()
    print("| process | of one processor |\n|---|---:|")
    for kind in sorted(after):
        print(f"| {kind} | {100 * (after[kind] - before[kind]) / args.span:.2f} % |")
    print(f"| all | {100 * (sum(after.values()) - sum(before.values())) / args.span:.2f} % |")


if __name__ == "__main__":
    main()
