"""How often the 95 % intervals of medians, means, speed-ups, gains of a search and many images hold the truth.

    python scripts/benchmarks/interval_coverage.py [--seed 14] [--trials 4000] [--quick]

Every cell of the noise grid (noise.py) for the processes of one run. The intervals of `compare` and `ab` are in
compare_errors.py and ab_power.py, those of predictions in scaling_claims.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import noise
import numpy as np
from noise import Machine

from harness.query.views import T_BY_COUNT
from harness.stats import intervals, selection

Held = Callable[[np.random.Generator, Machine], bool]


def processes(rng: np.random.Generator, machine: Machine, n: int, calls: int = 5) -> list[np.ndarray]:
    """Durations of each process, whose true median is 1."""
    own = machine.process * noise.luck(rng, machine.shape, (n, 1))
    return list(np.exp(own + noise.calls(rng, machine, (n, calls))))


@cache
def centre(machine: Machine) -> float:
    """The geometric mean over very many processes of their medians."""
    return float(np.exp(noise.processes(np.random.default_rng(7), machine, (1_000_000,)).mean()))


@cache
def mean_of_processes(machine: Machine) -> float:
    """The mean over very many processes of their means."""
    return float(np.mean(processes(np.random.default_rng(7), machine, 200_000)))


def mean(n: int) -> Held:
    """The interval that the view `medians` computes in SQL."""

    def held(rng: np.random.Generator, machine: Machine) -> bool:
        means = np.mean(processes(rng, machine, n), axis=1)
        reach = T_BY_COUNT[n - 2] * means.std(ddof=1) / np.sqrt(n)
        return abs(means.mean() - mean_of_processes(machine)) <= reach

    return held


def median(n: int) -> Held:
    def held(rng: np.random.Generator, machine: Machine) -> bool:
        known = intervals.of_median(processes(rng, machine, n))
        return known.low is not None and known.high is not None and known.low <= centre(machine) <= known.high

    return held


def ratio(n: int) -> Held:
    def held(rng: np.random.Generator, machine: Machine) -> bool:
        known = intervals.of_ratio(processes(rng, machine, n), processes(rng, machine, n))
        return known.low is not None and known.high is not None and known.low <= 1 <= known.high

    return held


def gain(n: int) -> Held:
    def held(rng: np.random.Generator, machine: Machine) -> bool:
        sides = [np.array(processes(rng, machine, n, calls=3)) for _ in range(2)]
        known = selection.gain(sides[0], sides[1])
        return known.low is not None and known.high is not None and known.low <= 1 <= known.high

    return held


def batch(n: int, calls: int, n_images: int) -> Held:
    """The prediction for many images, which one further process takes."""

    def held(rng: np.random.Generator, machine: Machine) -> bool:
        known = intervals.of_batch(processes(rng, machine, n, calls), n_images)
        [further] = processes(rng, machine, 1, n_images)
        return known.low is not None and known.high is not None and known.low <= further.mean() <= known.high

    return held


INTERVALS: dict[str, Held] = {
    "median, 3 processes": median(3),
    "median, 5 processes": median(5),
    "median, 10 processes": median(10),
    "mean, 3 processes": mean(3),
    "mean, 5 processes": mean(5),
    "mean, 10 processes": mean(10),
    "speed-up, 3 processes a side": ratio(3),
    "speed-up, 5 processes a side": ratio(5),
    "speed-up, 10 processes a side": ratio(10),
    "gain of a variant, 5 processes of 3 rounds": gain(5),
    "500 images, 3 processes of 2 calls": batch(3, 2, 500),
    "500 images, 3 processes of 5 calls": batch(3, 5, 500),
    "500 images, 10 processes of 5 calls": batch(10, 5, 500),
    "20 images, 3 processes of 5 calls": batch(3, 5, 20),
    "1 image, 3 processes of 2 calls": batch(3, 2, 1),
    "1 image, 10 processes of 5 calls": batch(10, 5, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="fewer cells and trials")
    args = parser.parse_args()
    machines = [
        replace(machine, call=call) for call in (0.005, 0.03) for machine in noise.grid((0, 0.02, 0.05), (0,), (0,))
    ]
    trials = 20 if args.quick else args.trials
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {trials} trials a cell, {len(machines)} cells, numpy {np.__version__}\n")
    print("| 95 % interval of | holds, worst to best cell | worst cell |\n|---|---|---|")
    for name, held in INTERVALS.items():
        shares = [(float(np.mean([held(rng, machine) for _ in range(trials)])), machine) for machine in machines]
        least, most = (choose(shares, key=lambda each: each[0]) for choose in (min, max))
        print(
            f"| {name} | {100 * least[0]:.1f}–{100 * most[0]:.1f} % | {least[1]}, calls {100 * least[1].call:g} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
