"""What the clock itself costs: repetitions of nothing, with everything around them that a real one has.

    python scripts/benchmarks/null.py

Prints the duration that is stored for a workload that does nothing (what every stored time is too long by), and
what the readings around a repetition take, which is outside its clock.
"""

from __future__ import annotations

import argparse
import statistics
import time

from harness.machine import interference
from harness.measure import timing


def quantiles(values_s: list[float]) -> str:
    """Median and 99th percentile in µs."""
    return f"{1e6 * statistics.median(values_s):.2f} | {1e6 * statistics.quantiles(values_s, n=100)[98]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=100, help="cases of fifty repetitions, the maximum of a profile")
    args = parser.parse_args()
    watch = interference.Watch(None)
    stored_s, whole_s = [], []
    for _ in range(args.series):
        before_s = time.perf_counter()
        for done in timing.repetitions("timed", timing.exactly(50), lambda: None, lambda: None, watch.begin):
            stored_s.append(done.elapsed_s)
            now_s = time.perf_counter()
            whole_s.append(now_s - before_s)
            before_s = now_s
    print("| of a repetition of nothing | p50, µs | p99, µs |\n|---|---:|---:|")
    print(f"| stored as its duration | {quantiles(stored_s)} |")
    print(f"| with the readings around it and the stop rule | {quantiles(whole_s)} |")


if __name__ == "__main__":
    main()
