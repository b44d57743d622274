"""How often the rules of comparison and alarm are wrong, and how often they find a change: simulated, no timing.

    python scripts/benchmarks/false_alarms.py [--seed 8] [--trials 20000]

Prints the tables of docs/statistics.md. Noise is multiplicative with a standard deviation of 2 % between runs (or
blocks), unless a row says otherwise: clean is log-normal; heavy is Student's t with three degrees of freedom, scaled to
the same spread; two modes is clean, but one run in seven is 6 % slower, as where a clock is now and then lower.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np

from harness.stats import changes, ratio, watch
from harness.stats.ratio import SAME, SLOWER, UNCLEAR

SD = 0.02
NOISES = ("clean", "heavy", "two modes")


def noise(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Noise on logarithms with a standard deviation of 2 %; two modes add theirs to it."""
    if kind == "heavy":
        return SD * rng.standard_t(3, shape) / np.sqrt(3)
    clean = SD * rng.standard_normal(shape)
    return clean + 0.06 * (rng.random(shape) < 0.15) if kind == "two modes" else clean


def alarms(rng: np.random.Generator, kind: str, n: int, shift: float, trials: int) -> tuple[float, float, float]:
    """P(beyond above), P(confirmed), P(confirmed within three nights) for a run `shift` slower than n others."""
    history = noise(rng, kind, (trials, n))
    expected = watch.band(history)
    again = noise(rng, kind, (3, 2, trials)) + np.log1p(shift)
    above = watch.beyond(expected, again) > 0  # night, then its re-run
    confirmed = above.all(axis=1)
    return above[0, 0].mean(), confirmed[0].mean(), confirmed.any(axis=0).mean()


def followed(rng: np.random.Generator, kind: str, n_series: int, nights: int = 60, ar: float = 0.0) -> float:
    """Alarms of either side per judged point, with the real bookkeeping: suspicion, re-run at once, baseline."""
    n_alarms = n_points = 0
    for _ in range(n_series):
        values, wander = [], 0.0
        for _ in range(nights):
            wander = ar * wander + np.sqrt(1 - ar**2) * noise(rng, kind, ())
            values.append(float(np.exp(wander if ar else noise(rng, kind, ()))))
            if watch.numbers(values)[-1].state == watch.SUSPECT:
                values.append(float(np.exp(wander if ar else noise(rng, kind, ()))))
        judged = watch.numbers(values)
        states = [each.state for each in judged]
        n_alarms += sum(now == watch.ALARM != before for before, now in pairwise(states))
        n_points += sum(state != watch.LEARNING for state in states)
    return n_alarms / n_points


def compared(
    rng: np.random.Generator, kind: str, blocks: int, shift: float, cases: int, slowed: int, between: float, trials: int
) -> dict[str, float]:
    """Shares of verdicts of the slowed cases, and of runs with any wrong FASTER or SLOWER among the others.

    between: what a run adds to all blocks of one side, by which A and B differ without any change.
    """
    a = noise(rng, kind, (trials, cases, blocks))
    b = noise(rng, kind, (trials, cases, blocks)) + between * np.sqrt(2) * rng.standard_normal((trials, 1, 1))
    b[:, :slowed] += np.log1p(shift)
    difference = ratio.welch(a, b)
    verdicts = ratio.judge(difference, ratio.holm(difference.p))
    others = verdicts[:, slowed:]
    wrong = ((others != SAME) & (others != UNCLEAR)).any(axis=1).mean() if slowed < cases else float("nan")
    target = verdicts[:, :slowed] if slowed else others
    return {"wrong": wrong} | {name: (target == name).mean() for name in (SLOWER, SAME, UNCLEAR)}


def settled(rng: np.random.Generator, shift: float, trials: int, blocks: int = 3) -> tuple[float, float]:
    """How often the blocks that an UNCLEAR asks for settle it, and the median of how many it asks for."""
    done, asked = [], []
    for _ in range(trials):
        a, b = noise(rng, "clean", (blocks,)), noise(rng, "clean", (blocks,)) + np.log1p(shift)
        first = ratio.compare([(np.exp(a), np.exp(b))])[0]
        if first.verdict == UNCLEAR and first.more_blocks:
            more = (first.more_blocks,)
            a, b = np.append(a, noise(rng, "clean", more)), np.append(b, noise(rng, "clean", more) + np.log1p(shift))
            done.append(ratio.compare([(np.exp(a), np.exp(b))])[0].verdict != UNCLEAR)
            asked.append(first.more_blocks)
    return float(np.mean(done)), float(np.median(asked))


def marked(rng: np.random.Generator, kind: str, shift: float, trials: int, nights: int = 60) -> float:
    """How often a history of 60 nights has a change point (at a step in its middle, if there is one, ± 2 nights)."""
    found = 0
    for _ in range(trials):
        values = noise(rng, kind, (nights,))
        values[nights // 2 :] += np.log1p(shift)
        points = changes.change_points(np.exp(values))
        found += any(abs(point - nights // 2) <= 2 for point in points) if shift else bool(points)
    return found / trials


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--trials", type=int, default=20_000)
    args = parser.parse_args()
    rng, trials = np.random.default_rng(args.seed), args.trials
    print(f"seed {args.seed}, {trials} trials, numpy {np.__version__}\n")

    print("| noise | runs before | change | beyond, one run | confirmed | confirmed within 3 nights |")
    print("|---|---|---|---|---|---|")
    for kind in NOISES:
        for n, shift in ((5, 0.0), (20, 0.0), (30, 0.0), (20, 0.05), (5, 0.10), (20, 0.10), (30, 0.10), (20, 0.20)):
            shares = alarms(rng, kind, n, shift, trials)
            print(f"| {kind} | {n} | {shift:+.0%} | " + " | ".join(f"{100 * s:.3f} %" for s in shares) + " |")

    print("\n| series | alarms of either side per judged run |\n|---|---|")
    n_series = max(trials // 100, 20)
    for kind in NOISES:
        print(f"| {kind} | {100 * followed(rng, kind, n_series):.3f} % |")
    print(f"| clean, wandering (AR 0.6), its re-run too | {100 * followed(rng, 'clean', n_series, ar=0.6):.3f} % |")

    print("\n| cases, slowed | blocks a side | change | between runs | SLOWER | SAME | UNCLEAR | any wrong verdict |")
    print("|---|---|---|---|---|---|---|---|")
    for cases, slowed, blocks, shift, between in (
        (1, 0, 3, 0, 0), (1, 0, 5, 0, 0), (10, 0, 3, 0, 0), (10, 0, 5, 0, 0), (10, 0, 10, 0, 0),
        (1, 1, 3, 0.05, 0), (1, 1, 5, 0.05, 0), (1, 1, 5, 0.10, 0), (10, 1, 5, 0.05, 0), (10, 1, 5, 0.10, 0),
        (10, 10, 5, 0.05, 0), (10, 1, 10, 0.05, 0), (1, 0, 5, 0, 0.01), (1, 0, 5, 0, 0.02),
    ):  # fmt: skip
        found = compared(rng, "clean", blocks, shift, cases, slowed, between, trials)
        shares = " | ".join(
            "–" if np.isnan(s) else f"{100 * s:.1f} %"
            for s in (found[SLOWER], found[SAME], found[UNCLEAR], found["wrong"])
        )
        print(f"| {cases}, {slowed} | {blocks} | {shift:+.0%} | {between:.0%} | {shares} |")

    print("\n| change | an UNCLEAR of 3 blocks asks for (median) | and is then settled |\n|---|---|---|")
    for shift in (0.0, 0.05, 0.10):
        share, asked = settled(rng, shift, trials // 10)
        print(f"| {shift:+.0%} | {asked:.0f} | {100 * share:.0f} % |")

    print("\n| 60 runs | marked |\n|---|---|")
    for kind, shift in (("clean", 0.0), ("heavy", 0.0), ("two modes", 0.0), ("clean", 0.05), ("clean", 0.10)):
        what = f"a step of {shift:+.0%}" if shift else "no change"
        print(f"| {kind}, {what} | {100 * marked(rng, kind, shift, trials // 40):.1f} % |")


if __name__ == "__main__":
    main()
