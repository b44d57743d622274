"""What `cellbench ab` finds in 30 minutes of a machine with two cores, how soon, and how often it is wrong.

    python scripts/benchmarks/ab_power.py [--seed 9] [--trials 1000] [--quick]

Pairs of fresh processes, one after the other, in an order that a coin decides. A process takes 8 s to start, makes a
warm-up and then calls for 3 s, at least two and at most ten. Calls and processes have the noise of each cell of the
grid (noise.py). Run-to-run variation drifts here from process to process: half of it is left after seven (AR 0.9).
Day-to-day variation is the same for a whole session.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import noise
import numpy as np
from noise import Machine

from harness.stats import sequential
from harness.stats.difference import FASTER, INCONCLUSIVE, MARGIN, SAME, SLOWER

START_S, TIMED_S, BUDGET_S = 8.0, 3.0, 30 * 60
WANDER = 0.9
CALLS_S = (0.3, 2.0)
CHANGES = (0.0, 0.02, 0.05, 0.10, -0.10, 1.0)


def n_calls(call_s: float) -> int:
    """Timed calls of a process: more of them help less than another process."""
    return min(max(round(TIMED_S / call_s), 2), 10)


def pair_s(call_s: float) -> float:
    """What a pair of processes takes."""
    return 2 * (START_S + (1 + n_calls(call_s)) * call_s)


def differences(rng: np.random.Generator, machine: Machine, trials: int, n: int, change: float) -> np.ndarray:
    """Logarithms of after over before, trials × pairs."""
    own = noise.processes(rng, machine, (trials, n, 2))
    steps = machine.run * noise.luck(rng, machine.shape, (trials, 2 * n))
    for i in range(1, 2 * n):
        steps[:, i] = WANDER * steps[:, i - 1] + np.sqrt(1 - WANDER**2) * steps[:, i]
    first, second = np.moveaxis(own + steps.reshape(trials, n, 2), -1, 0)
    return (second - first) * rng.choice((-1, 1), (trials, n)) + np.log1p(change)


def decisions(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first decision of each trial and after how many pairs it came; all of them where none came."""
    bound = np.log1p(MARGIN)
    near = [sequential.evidence(bound + sign * differences) >= sequential.threshold(1) for sign in (-1, 1)]
    beyond = [sequential.evidence(sign * differences) >= sequential.threshold(2) for sign in (1, -1)]
    found = [near[0] & near[1], *beyond]
    n = differences.shape[-1]
    first = np.array([np.where(each.any(axis=-1), each.argmax(axis=-1) + 1, n + 1) for each in found])
    verdicts = np.array([SAME, SLOWER, FASTER])[first.argmin(axis=0)]
    return np.where(first.min(axis=0) > n, INCONCLUSIVE, verdicts), np.minimum(first.min(axis=0), n)


@dataclass(frozen=True)
class Rates:
    """Shares of decisions, and the median minutes to the decision."""

    slower: float
    faster: float
    same: float
    minutes: float


def rates(rng: np.random.Generator, machine: Machine, call_s: float, change: float, trials: int) -> Rates:
    """What is decided within the budget."""
    n = int(BUDGET_S // pair_s(call_s))
    verdicts, pairs = decisions(differences(rng, replace(machine, calls=n_calls(call_s)), trials, n, change))
    shares = [(verdicts == verdict).mean() for verdict in (SLOWER, FASTER, SAME)]
    return Rates(*shares, float(np.median(pairs)) * pair_s(call_s) / 60)


def coverage(rng: np.random.Generator, machine: Machine, trials: int, n: int = 64) -> float:
    """How often the interval contains the true value when the decision comes; by the program's own function."""
    found = 0
    for row in differences(rng, replace(machine, calls=2), trials, n, 0.0):
        _, [pairs] = decisions(row[None])
        decision = sequential.look([(1.0, float(np.exp(x))) for x in row[:pairs]])
        found += (decision.low or 0) <= 1 <= (decision.high or np.inf)
    return found / trials


def worst(found: Sequence[tuple[float, Machine]]) -> str:
    """The smallest share, and its cell."""
    share, machine = min(found, key=lambda each: each[0])
    return f"{100 * share:.1f} % | {machine}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="fewer cells and trials")
    args = parser.parse_args()
    levels = ((0, 0.05), (0, 0.10)) if args.quick else ((0, 0.02, 0.05), (0, 0.02, 0.05, 0.10))
    machines = list(noise.grid(*levels, day=(0,)))
    trials = 25 if args.quick else args.trials
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {trials} trials a cell, {len(machines)} cells, numpy {np.__version__}\n")
    print("| call | change | decision | share, worst cell | that cell | minutes, median, best to worst cell |")
    print("|---|---|---|---|---|---|")
    for call_s in CALLS_S:
        for change in CHANGES:
            found = [(rates(rng, machine, call_s, change, trials), machine) for machine in machines]
            minutes = [each.minutes for each, _ in found]
            span = f"{min(minutes):.0f}–{max(minutes):.0f}"
            right = {0.0: "same", 0.02: "same", -0.10: "faster"}.get(change, "slower")
            share = worst([(getattr(each, right), machine) for each, machine in found])
            print(f"| {call_s} s | {change:+.0%} | {right.upper()} | {share} | {span} |", flush=True)
            if change == 0:
                share = worst([(1 - each.slower - each.faster, machine) for each, machine in found])
                print(f"| {call_s} s | {change:+.0%} | not FASTER or SLOWER | {share} | |")
            if change == 0.05:
                share = worst([(1 - each.same, machine) for each, machine in found])
                print(f"| {call_s} s | {change:+.0%} | not SAME | {share} | |")
    cell = Machine(process=0.05, run=0.05)
    print(
        f"\nThe interval of {cell} contains the true value in {100 * coverage(rng, cell, trials):.1f} % of decisions."
    )


if __name__ == "__main__":
    main()
