"""How often a search for faster variants names a winner where there is none, and keeps parts that do nothing.

    python scripts/benchmarks/tune_choices.py [--seed 12] [--trials 400] [--quick]

The last races of a search: stock, the stack, and the stack without each part, three rounds in each of five processes.
Calls and processes have the noise of each cell of the grid (noise.py); half of a process's deviation is common to all
that run in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import product

import noise
import numpy as np
from noise import Machine

from harness.stats import selection

PROCESSES, ROUNDS = 5, 3
SEARCHES: dict[str, dict[str, float]] = {
    "1 part, it does nothing": {"a": 1.0},
    "2 parts, none does anything": {"a": 1.0, "b": 1.0},
    "4 parts, none does anything": {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0},
    "2 parts, one 1.5": {"a": 1.5, "b": 1.0},
    "2 parts, one 1.1": {"a": 1.1, "b": 1.0},
    "2 parts, 1.5 and 1.1": {"a": 1.5, "b": 1.1},
    "4 parts, two 1.2": {"a": 1.2, "b": 1.2, "c": 1.0, "d": 1.0},
    "2 parts, one harms (0.9)": {"a": 1.5, "b": 0.9},
}


def race_times(rng: np.random.Generator, machine: Machine, speedups: list[float]) -> list[np.ndarray]:
    """Durations of each contender, processes × rounds; calls follow one another round by round."""
    n = len(speedups)
    calls = noise.calls(rng, machine, (PROCESSES, ROUNDS * n)).reshape(PROCESSES, ROUNDS, n)
    common, own = (noise.luck(rng, machine.shape, (PROCESSES, 1, of)) for of in (1, n))
    times = np.exp(calls + machine.process * np.sqrt(0.5) * (common + own)) / np.array(speedups)
    return list(np.moveaxis(times, -1, 0))


def answer(rng: np.random.Generator, machine: Machine, gains: Mapping[str, float]) -> list[str]:
    """The parts that the search ends with; none: nothing beats stock."""
    parts = list(gains)
    while parts:
        stacks = [parts, *([each for each in parts if each != part] for part in parts)]
        stock_s, stack_s, *without_s = race_times(
            rng, machine, [1.0, *(float(np.prod([gains[part] for part in stack])) for stack in stacks)]
        )
        choice = selection.choose(stack_s, stock_s, dict(zip(parts, without_s, strict=True)))
        if choice.drop is None:
            return parts if choice.is_answer else []
        parts.remove(choice.drop)
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="fewer cells and trials")
    args = parser.parse_args()
    trials = 10 if args.quick else args.trials
    levels = ((0.03, 0.02),) if args.quick else ((0.01, 0.0), (0.03, 0.02), (0.05, 0.05))
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {trials} trials a cell, numpy {np.__version__}\n")
    print("| search | calls, processes differ by | a winner | a useless part kept | every useful part kept |")
    print("|---|---|---|---|---|")
    for (name, gains), (call, process) in product(SEARCHES.items(), levels):
        useful = {part for part, times in gains.items() if times > 1}
        rows = []
        for shape in noise.SHAPES:
            found = [set(answer(rng, Machine(shape, process, call=call), gains)) for _ in range(trials)]
            rows.append([np.mean(share) for share in (
                [bool(parts) for parts in found], [bool(parts - useful) for parts in found],
                [useful <= parts for parts in found],
            )])  # fmt: skip
        winner, useless, kept = np.array(rows).T
        spans = [
            f"{100 * low:.1f}–{100 * high:.1f} %"
            for low, high in ((each.min(), each.max()) for each in (winner, useless))
        ]
        all_kept = f"{100 * kept.min():.0f}–{100 * kept.max():.0f} %" if useful else "–"
        print(f"| {name} | {call:.0%}, {process:.0%} | {spans[0]} | {spans[1]} | {all_kept} |", flush=True)


if __name__ == "__main__":
    main()
