"""How long the commands that only read take, as whole processes.

python scripts/benchmarks/commands.py --runs 20
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = Path(sys.executable).with_name("cellbench")
RESULTS = Path(__file__).parents[2] / "results" / "reference"


def elapsed_s(words: list[str]) -> float:
    begin_s = time.perf_counter()
    subprocess.run([COMMAND, *words], check=True, capture_output=True)
    return time.perf_counter() - begin_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", default=str(RESULTS), help="store to read")
    args = parser.parse_args()
    store = ["--out", args.out]
    commands = [["--help"], ["show", *store], ["query", "SELECT count(*) FROM timed", *store]]
    times_s: dict[str, list[float]] = {words[0]: [] for words in commands}
    for _ in range(args.runs + 1):
        for words in commands:
            times_s[words[0]].append(elapsed_s(words))
    print("| command | n | median, s | slowest, s |")
    print("|---|---:|---:|---:|")
    for words in commands:
        values = times_s[words[0]][1:]  # the first run fills the file cache
        print(f"| `cellbench {words[0]}` | {len(values)} | {statistics.median(values):.3f} | {max(values):.3f} |")


if __name__ == "__main__":
    main()
