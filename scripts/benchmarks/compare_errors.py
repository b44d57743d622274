"""How often `compare` calls an unchanged machine FASTER or SLOWER, how often its intervals hold, and what it finds.

    python scripts/benchmarks/compare_errors.py [--seed 8] [--trials 4000] [--quick]

Every cell of the noise grid (noise.py), with one case and with ten. The worst cell of each line is measured again with
fresh draws, so that it is not the worst by chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import noise
import numpy as np
from noise import Machine

from harness.stats import difference, verdict
from harness.stats.difference import FASTER, INCONCLUSIVE, SAME, SLOWER, Difference
from harness.stats.verdict import Case, Run

TYPICAL = Machine(process=0.02, run=0.02, day=0.02)
AGAIN = 5  # times the trials, for the worst cells


@dataclass(frozen=True)
class Design:
    """How two sides were measured.

    days, runs: days of each side, and runs per day. history: other days. pairs: of interleaved runs, or of processes
    of one run. same_day: both sides on the same day, one after the other. is_bound: whether the stated coverage is at
    least 95 %, not about 95 %.
    """

    name: str
    days: int = 1
    runs: int = 1
    history: int = 0
    pairs: int = 0
    of_processes: bool = False
    same_day: bool = False

    @property
    def is_bound(self) -> bool:
        return self.runs > 1 or self.same_day


DESIGNS = (
    Design("one run a side, no history"),
    Design("one run a side, 10 days of history", history=10),
    Design("one run a side, 20 days of history", history=20),
    Design("one run a side on one day, 10 days of history", history=10, same_day=True),
    Design("3 runs a side, a day each, 10 days of history", runs=3, history=10),
    Design("3 days a side, no history", days=3),
    Design("5 days a side, no history", days=5),
    Design("5 days a side, 10 days of history", days=5, history=10),
    Design("5 pairs of interleaved runs", pairs=5),
    Design("12 pairs of interleaved runs", pairs=12),
    Design("5 processes of one run, both sides in it", pairs=5, of_processes=True),
)


def samples(
    design: Design, rng: np.random.Generator, machine: Machine, trials: int, cases: int, shift: float
) -> list[np.ndarray]:
    """The input of the rule: logarithms, trials × cases × units."""
    if design.of_processes:
        sides = [noise.processes(rng, machine, (trials, cases, design.pairs)) for _ in range(2)]
        return [sides[1] - sides[0] + shift]
    if design.pairs:
        sides = [noise.runs(rng, replace(machine, day=0), trials, cases, design.pairs) for _ in range(2)]
        return [sides[1] - sides[0] + shift]
    own = replace(machine, day=0) if design.same_day else machine
    sides = [_days(rng, own, trials, cases, design) for _ in range(2)]
    others = noise.runs(rng, machine, trials, cases, max(design.history, 1))
    return [sides[0], sides[1] + shift, others[..., : design.history]]


def _days(rng: np.random.Generator, machine: Machine, trials: int, cases: int, design: Design) -> np.ndarray:
    if design.runs == 1:
        return noise.runs(rng, machine, trials, cases, design.days)
    return noise.runs(rng, machine, trials, cases, design.runs, days=False).mean(axis=-1, keepdims=True)


def rule(values: Sequence[np.ndarray]) -> Difference:
    """The program's rule for what was measured."""
    return difference.paired(*values) if len(values) == 1 else difference.unpaired(*values)


@dataclass(frozen=True)
class Rates:
    """Shares. wrong: any case or the mean is FASTER or SLOWER; held: intervals of a case that hold the truth."""

    wrong: float
    held: float
    slower: float
    same: float
    mean_slower: float


def rates(
    design: Design, rng: np.random.Generator, machine: Machine, trials: int, cases: int, change: float = 0.0
) -> Rates:
    """The verdicts of the rule for cases that all changed by this amount."""
    shift = np.log1p(change)
    values = samples(design, rng, machine, trials, cases, shift)
    each, mean = rule(values), rule([value.mean(axis=1) for value in values])
    if cases == 1:
        p = difference.holm(each.p)
        verdicts, mean_verdicts = difference.judge(each, p), difference.judge(mean, p[:, 0])
    else:
        p = difference.holm(np.column_stack([each.p, mean.p]), np.array([1 / cases] * cases + [1.0]))
        verdicts, mean_verdicts = difference.judge(each, p[:, :-1]), difference.judge(mean, p[:, -1])
    differ = np.isin(verdicts, (FASTER, SLOWER)).any(axis=1) | np.isin(mean_verdicts, (FASTER, SLOWER))
    with np.errstate(invalid="ignore"):
        held = np.abs(each.centre - shift) <= each.reach
    known = ~np.isnan(each.error)
    return Rates(
        differ.mean(), held[known].mean() if known.any() else np.nan,
        (verdicts == SLOWER).mean(), (verdicts == SAME).mean(), (mean_verdicts == SLOWER).mean(),
    )  # fmt: skip


def extremes(
    design: Design, rng: np.random.Generator, machines: Sequence[Machine], trials: int, cases: int
) -> tuple[tuple[float, Machine], float, float]:
    """The largest share of wrong verdicts with its cell, the smallest and the largest coverage, all measured again."""
    found = [(rates(design, rng, machine, trials, cases), machine) for machine in machines]

    def again(machine: Machine) -> Rates:
        return rates(design, rng, machine, AGAIN * trials, cases)

    worst = max(found, key=lambda each: each[0].wrong)[1]
    least, most = (choose(found, key=lambda each: each[0].held)[1] for choose in (min, max))
    return (again(worst).wrong, worst), again(least).held, again(most).held


def wandering(rng: np.random.Generator, rho: float, n: int, trials: int) -> np.ndarray:
    """Runs one after another, each like the one before it, of standard deviation 1; trials × n."""
    found = rng.standard_normal((trials, n))
    for i in range(1, n):
        found[:, i] = rho * found[:, i - 1] + np.sqrt(1 - rho**2) * found[:, i]
    return found


def wrong_share(found: Difference) -> float:
    """How often a single case is called FASTER or SLOWER."""
    return float(np.isin(difference.judge(found, found.p), (FASTER, SLOWER)).mean())


def wrong_where_dependent(rng: np.random.Generator, trials: int) -> dict[str, float]:
    """Wrong verdicts where runs are not independent, though taken for it."""
    own = 0.01 * rng.standard_normal((trials, 40))
    found = {}
    for rho, sd in ((0.6, 0.03), (0.9, 0.05)):
        hours = sd * wandering(rng, rho, 40, trials) + own
        name = f"AR({rho}) of {sd:.0%} from one to the next"
        order = np.arange(12) % 2 == 0  # AB BA AB BA …
        first, second = hours[:, 0:24:2], hours[:, 1:24:2]
        found[f"12 pairs of interleaved runs, {name}"] = wrong_share(
            difference.paired(np.where(order, 1, -1) * (second - first))
        )
        for n, history in ((1, 20), (5, 0), (5, 20)):
            sides = hours[:, history : history + n], hours[:, history + n : history + 2 * n]
            days = f"{n} day{'s' * (n > 1)} a side after {history} days of history"
            found[f"{days}, {name}"] = wrong_share(difference.unpaired(*sides, hours[:, :history]))
    return found


def settled_share(rng: np.random.Generator, change: float, trials: int, days: int = 3) -> tuple[float, float]:
    """The share of INCONCLUSIVE verdicts that the suggested days resolve, and the median number of these days."""
    done, request = [], []

    def runs(first: int, n: int, level: float) -> list[Run]:
        values = level * np.exp(noise.runs(rng, TYPICAL, 1, 1, n)[0, 0])
        return [Run(str(first + i), first + i, (float(value),)) for i, value in enumerate(values)]

    for _ in range(trials):
        before, after = runs(0, days, 1.0), runs(10_000, days, 1 + change)
        [found], _ = verdict.verdicts([Case(before, after)])
        if found.verdict == INCONCLUSIVE and found.more:
            request.append(found.more)
            before += runs(1_000, found.more, 1.0)
            after += runs(11_000, found.more, 1 + change)
            done.append(verdict.verdicts([Case(before, after)])[0][0].verdict != INCONCLUSIVE)
    return float(np.mean(done)), float(np.median(request))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="fewer cells and trials")
    args = parser.parse_args()
    machines = list(noise.grid((0, 0.05), (0, 0.10), (0, 0.05)) if args.quick else noise.grid())
    trials = 60 if args.quick else args.trials
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {trials} trials a cell, {len(machines)} cells, numpy {np.__version__}\n")
    print("| measured | cases | any wrong verdict, worst cell | that cell | interval holds, worst to best cell |")
    print("|---|---|---|---|---|")
    for design in DESIGNS:
        for cases in (1, 10):
            (wrong, worst), least, most = extremes(design, rng, machines, trials // (1 if cases == 1 else 2), cases)
            held = "no interval" if np.isnan(least) else f"{100 * least:.1f}–{100 * most:.1f} %"
            cell = str(worst) if wrong else "–"
            bound = " (at least 95 %)" if design.is_bound else ""
            print(f"| {design.name} | {cases} | {100 * wrong:.1f} % | {cell} | {held}{bound} |", flush=True)
    print(f"\n{TYPICAL}:\n")
    print("| measured | +0 %: SAME | +5 %: SLOWER | +10 %: SLOWER | +20 %: SLOWER | mean of ten +10 %: SLOWER |")
    print("|---|---|---|---|---|---|")
    for design in DESIGNS[1:]:
        shares = [rates(design, rng, TYPICAL, trials, 1).same]
        shares += [rates(design, rng, TYPICAL, trials, 1, change).slower for change in (0.05, 0.10, 0.20)]
        shares.append(rates(design, rng, TYPICAL, trials, 10, 0.10).mean_slower)
        print(f"| {design.name} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
    print("\n| treated as independent | wrong verdict |\n|---|---|")
    for name, share in wrong_where_dependent(rng, 5 * trials).items():
        print(f"| {name} | {100 * share:.1f} % |")
    print(
        "\n| change | days that an INCONCLUSIVE of 3 days a side requests (median) | decided after them |"
        "\n|---|---|---|"
    )
    for change in (0.0, 0.05, 0.10):
        share, request = settled_share(rng, change, max(trials // 5, 20))
        print(f"| {change:+.0%} | {request:.0f} more days a side | {100 * share:.0f} % |")


if __name__ == "__main__":
    main()
