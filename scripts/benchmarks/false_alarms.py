"""How often the rules of comparison and alarm are wrong, and how often they find a change: simulated, no timing.

    python scripts/benchmarks/false_alarms.py [--seed 8] [--trials 20000]

Prints the tables of docs/statistics.md. Noise is multiplicative with a standard deviation of 2 % between runs (or
blocks), unless a row says otherwise: clean is log-normal; heavy is Student's t with three degrees of freedom, scaled to
the same spread; two modes is clean, but one run in seven is 6 % slower, as where a clock is now and then lower.
"""

from __future__ import annotations

import argparse
from itertools import pairwise, product

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


def one_run_a_side(
    rng: np.random.Generator,
    kind: str,
    blocks: int,
    shift: float,
    cases: int,
    slowed: int,
    between: float,
    n_others: int,
    trials: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts of one run against one: of the cases, trials × cases, and of their geometric mean.

    between: what a run adds to all its blocks, by which A and B differ without any change. n_others: how many other
    runs of the series tell that.
    """

    def run(*n_runs: int) -> np.ndarray:
        """Block medians, trials × cases × runs × blocks."""
        hour = between * rng.standard_normal((trials, 1, *n_runs, 1))
        return noise(rng, kind, (trials, cases, *n_runs, blocks)) + hour

    a, b = run(), run()
    b[:, :slowed] += np.log1p(shift)
    difference, mean = ratio.welch(a, b), ratio.welch(a.mean(axis=1), b.mean(axis=1))
    if n_others:
        others = run(n_others).mean(axis=-1)
        difference = ratio.widened(difference, _spread(others))
        mean = ratio.widened(mean, _spread(others.mean(axis=1)))
    verdicts = ratio.judge(difference, ratio.holm(difference.p))
    return verdicts, ratio.judge(mean, mean.p, is_beyond=not n_others)


def _spread(runs: np.ndarray) -> ratio.Spread:
    return ratio.Spread(runs.std(axis=-1, ddof=1), runs.shape[-1] - 1)


def compared(
    rng: np.random.Generator,
    kind: str,
    blocks: int,
    shift: float,
    cases: int,
    slowed: int,
    between: float,
    n_others: int,
    trials: int,
) -> dict[str, float]:
    """Shares of verdicts of the slowed cases, or of all if none is slowed.

    wrong: comparisons with any FASTER or SLOWER among the others. mean: those in which the geometric mean is one.
    """
    verdicts, mean = one_run_a_side(rng, kind, blocks, shift, cases, slowed, between, n_others, trials)
    others = verdicts[:, slowed:]
    wrong = ((others != SAME) & (others != UNCLEAR)).any(axis=1).mean() if slowed < cases else float("nan")
    target = verdicts[:, :slowed] if slowed else others
    shares = {name: (target == name).mean() for name in (SLOWER, SAME, UNCLEAR)}
    return shares | {"wrong": wrong, "mean": ((mean != SAME) & (mean != UNCLEAR)).mean()}


def settled(rng: np.random.Generator, shift: float, trials: int, blocks: int = 3) -> tuple[float, float]:
    """How often the blocks that an UNCLEAR asks for settle it, and the median of how many it asks for."""
    done, asked = [], []
    for _ in range(trials):
        a, b = noise(rng, "clean", (blocks,)), noise(rng, "clean", (blocks,)) + np.log1p(shift)
        first = ratio.compare([(np.exp(a), np.exp(b))])[0]
        if first.verdict == UNCLEAR and first.more:
            more = (first.more,)
            a, b = np.append(a, noise(rng, "clean", more)), np.append(b, noise(rng, "clean", more) + np.log1p(shift))
            done.append(ratio.compare([(np.exp(a), np.exp(b))])[0].verdict != UNCLEAR)
            asked.append(first.more)
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


def _shares(found: dict[str, float], *names: str) -> str:
    return " | ".join("–" if np.isnan(found[name]) else f"{100 * found[name]:.1f} %" for name in names)


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

    print("\n| cases, slowed | blocks a side | change | SLOWER | SAME | UNCLEAR | any wrong verdict |")
    print("|---|---|---|---|---|---|---|")
    for cases, slowed, blocks, shift in (
        (1, 0, 3, 0), (1, 0, 5, 0), (10, 0, 3, 0), (10, 0, 5, 0), (10, 0, 10, 0),
        (1, 1, 3, 0.05), (1, 1, 5, 0.05), (1, 1, 5, 0.10), (10, 1, 5, 0.05), (10, 1, 5, 0.10),
        (10, 10, 5, 0.05), (10, 1, 10, 0.05),
    ):  # fmt: skip
        found = compared(rng, "clean", blocks, shift, cases, slowed, 0.0, 0, trials)
        shares = _shares(found, SLOWER, SAME, UNCLEAR, "wrong")
        print(f"| {cases}, {slowed} | {blocks} | {shift:+.0%} | {shares} |")

    print("\n| between runs | other runs | cases, slowed | change | SLOWER | SAME | UNCLEAR | any wrong | mean |")
    print("|---|---|---|---|---|---|---|---|---|")
    for between, n_others in product((0.0, 0.01, 0.02), (0, 5, 20)):
        for cases, slowed, shift in ((1, 0, 0), (10, 0, 0), (1, 1, 0.05), (10, 10, 0.10)):
            found = compared(rng, "clean", 5, shift, cases, slowed, between, n_others, trials)
            shares = _shares(found, SLOWER, SAME, UNCLEAR, "wrong", "mean")
            known = n_others or "none"
            print(f"| {between:.0%} | {known} | {cases}, {slowed} | {shift:+.0%} | {shares} |")

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
