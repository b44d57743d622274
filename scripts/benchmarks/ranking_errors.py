"""How often equal devices get a sole fastest, and how often a faster one is found.

    python scripts/benchmarks/ranking_errors.py [--seed 11] [--trials 1000] [--quick]

Every cell of the noise grid (noise.py). Devices of one run share its hour and day; others have their own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import noise
import numpy as np
from noise import Machine

from harness.stats import ranking
from harness.stats.ranking import Device


@dataclass(frozen=True)
class Field:
    """Devices, how many processes each has, whether they share a run, and how much faster the first one is."""

    name: str
    devices: int = 2
    processes: int = 3
    shares_run: bool = True
    gain: float = 1.0


FIELDS = (
    Field("2 equal, one run"),
    Field("2 equal, 5 processes, one run", processes=5),
    Field("2 equal, a run each", shares_run=False),
    Field("2 equal, 2 processes each", processes=2),
    Field("10 equal, one run", devices=10),
    Field("10 equal, a run each", devices=10, shares_run=False),
    Field("2, one 1.2 times as fast, one run", gain=1.2),
    Field("2, one 1.5 times as fast, one run", gain=1.5),
    Field("2, one twice as fast, a run each", shares_run=False, gain=2.0),
    Field("10, one 1.5 times as fast, one run", devices=10, gain=1.5),
    Field("10, one 3 times as fast, a run each", devices=10, shares_run=False, gain=3.0),
)


def sole_fastest(field: Field, rng: np.random.Generator, machine: Machine, trials: int) -> float:
    """How often one device is called the fastest."""
    logs = noise.processes(rng, machine, (trials, field.devices, field.processes))
    if not field.shares_run:
        hours = [
            level * noise.luck(rng, machine.shape, (trials, field.devices, 1)) for level in (machine.run, machine.day)
        ]
        logs = logs + sum(hours)
    logs[:, 0] -= np.log(field.gain)
    hour = ["" if field.shares_run else str(i) for i in range(field.devices)]
    found = 0
    for trial in np.exp(logs):
        places = ranking.places([Device(medians, name) for medians, name in zip(trial, hour, strict=True)])
        found += any(place.is_fastest for place in places)
    return found / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="fewer cells and trials")
    args = parser.parse_args()
    machines = list(noise.grid((0, 0.05), (0, 0.10), (0.05,)))
    trials = 20 if args.quick else args.trials
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {trials} trials a cell, {len(machines)} cells, numpy {np.__version__}\n")
    print("| devices | a sole fastest, fewest to most | the cell with the most |\n|---|---|---|")
    for field in FIELDS:
        n = trials // (1 if field.devices == 2 else 5)
        shares = [(sole_fastest(field, rng, machine, n), machine) for machine in machines]
        least, (most, cell) = min(share for share, _ in shares), max(shares, key=lambda each: each[0])
        print(f"| {field.name} | {100 * least:.1f}–{100 * most:.1f} % | {cell if most else '–'} |", flush=True)


if __name__ == "__main__":
    main()
