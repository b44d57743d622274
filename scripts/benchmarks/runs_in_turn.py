"""Does `compare` report SAME for equal runs, and SLOWER for slower ones, on a real machine?

    python scripts/benchmarks/runs_in_turn.py --out DIR [--rounds 12] [--crops 224] [--blocks 2] [--repeats 3]

Interleaves runs in rotating order: A and B, which are the same command, and C, with half the threads. Interleaving
keeps changes from hour to hour out of the difference, and the runs of each side show the run-to-run variation.
Stores are DIR/a, DIR/b and DIR/c. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from harness.machine import probe

COMMAND = Path(sys.executable).with_name("cellbench")
PROFILE = """crops = [{crops}]
weights = "standin"
devices = ["cpu"]
blocks = {blocks}
repeats = {repeats}
control = false
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--crops", default="224")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    profile = args.out / "turns.toml"
    profile.write_text(PROFILE.format(crops=args.crops, blocks=args.blocks, repeats=args.repeats))
    half = max(1, probe.n_cores() // 2)
    sides = {"a": [], "b": [], "c": ["--threads", str(half)]}
    for turn in range(args.rounds):
        names = list(sides)
        for name in names[turn % 3 :] + names[: turn % 3]:
            call("run", "--no-ray", "--quiet", "--profile", profile, "--out", args.out / name, *sides[name])
        print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        print(f"\n{other.upper()} against {one.upper()}\n")
        print(call("compare", args.out / one, args.out / other, "--md"))


def call(*words: object) -> str:
    """What the command prints."""
    done = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cellbench {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
