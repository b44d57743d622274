"""How many series have a false alarm in 120 nights, and how soon a change is found.

    python scripts/benchmarks/alarm_errors.py [--seed 13] [--series 4000] [--quick]

A night measures each series once, and once more at once where it is suspect. The rule is watch.py's with the same
bookkeeping, for all series together; tests compare the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import noise
import numpy as np

from harness.stats import changes, watch
from harness.stats.watch import RULE

NIGHTS = 120
CALL = 0.005  # what two runs of one night differ by, where they share all else

# A night's value and that of a second run in the same night, of every series; on logarithms.
Night = tuple[np.ndarray, np.ndarray]


class Watched:
    """Series that are followed night by night."""

    def __init__(self, n_series: int) -> None:
        zeros = np.zeros(n_series)
        self.n, self.mean, self.squares = zeros.astype(int), zeros.copy(), zeros.copy()  # of the baselines
        self.direction, self.in_alarm = zeros.astype(int), zeros.astype(bool)
        self.waiting = np.full(n_series, np.nan)  # the first value of a suspicion
        self.began = np.full(n_series, -1)
        self.alarmed = np.full(n_series, -1)  # the night of the first alarm

    def night(self, night: int, values: np.ndarray, again: np.ndarray) -> None:
        """One night of all series."""
        suspect = self._run(night, values, np.ones(len(values), bool))
        self._run(night, again, suspect)

    def _run(self, night: int, values: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """One run of some series; which of them became suspect."""
        n = np.maximum(self.n, 2)
        sd = np.sqrt(self.squares / (n - 1))
        known = measured & (self.n >= RULE.learning) & (sd <= RULE.noisy)
        expected = watch.Band(n, self.mean, *watch.reaches(sd, n), sd)
        direction = np.where(known, watch.beyond(expected, values, self.direction), 0)
        goes_on = (direction != 0) & (direction == self.direction)
        is_suspect = measured & ~np.isnan(self.waiting)
        dismissed = is_suspect & ~goes_on
        self._join(self.waiting, dismissed)
        confirmed = is_suspect & goes_on & (night > self.began)
        self.in_alarm = np.where(measured, confirmed | (self.in_alarm & goes_on), self.in_alarm)
        self.alarmed = np.where(confirmed & (self.alarmed < 0), night, self.alarmed)
        new = measured & (direction != 0) & ~goes_on
        self.waiting = np.where(new, values, np.where(dismissed | confirmed, np.nan, self.waiting))
        self.began = np.where(new, night, self.began)
        self._join(values, measured & (direction == 0))
        self.direction = np.where(measured, direction, self.direction)
        return new

    def _join(self, values: np.ndarray, joins: np.ndarray) -> None:
        joins = joins & (self.n < RULE.baseline)
        away = values - self.mean
        mean = self.mean + away / (self.n + 1)
        self.squares = np.where(joins, self.squares + away * (values - mean), self.squares)
        self.mean, self.n = np.where(joins, mean, self.mean), self.n + joins


def first_alarms(nights: Iterator[Night]) -> np.ndarray:
    """The night of each series' first alarm; −1 where there is none."""
    watched: Watched | None = None
    for night, (values, again) in enumerate(nights):
        watched = watched or Watched(len(values))
        watched.night(night, values, again)
    return watched.alarmed if watched else np.array([])


@dataclass(frozen=True)
class Noise:
    """What a series does without any change: a name, and its values night by night."""

    name: str
    nights: Callable[[np.random.Generator, int], Iterator[Night]]


def white(shape: str, sd: float, changed: float = 0.0, at: int = NIGHTS, nights: int = NIGHTS) -> Noise:
    """Independent runs; from one night on they take longer."""

    def values(rng: np.random.Generator, n: int) -> Iterator[Night]:
        for night in range(nights):
            both = sd * noise.luck(rng, shape, (2, n)) + np.log1p(changed) * (night >= at)
            yield both[0], both[1]

    return Noise(f"{shape}, {100 * sd:g} %", values)


def together(name: str, sd: float, wander: Callable[[np.random.Generator, int], Iterator[np.ndarray]]) -> Noise:
    """A deviation that both runs of a night share, and an independent one of each."""

    def values(rng: np.random.Generator, n: int) -> Iterator[Night]:
        for common in wander(rng, n):
            both = common + sd * rng.standard_normal((2, n))
            yield both[0], both[1]

    return Noise(name, values)


def ar(rho: float, sd: float) -> Noise:
    """Each night like the one before it."""

    def wander(rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
        now = rng.standard_normal(n)
        for _ in range(NIGHTS):
            yield sd * now
            now = rho * now + np.sqrt(1 - rho**2) * rng.standard_normal(n)

    return together(f"AR({rho:g}), {100 * sd:g} %", CALL, wander)


def season(amplitude: float) -> Noise:
    """A year's swing, beginning anywhere."""

    def wander(rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
        begin = rng.random(n)
        for night in range(NIGHTS):
            yield amplitude * np.sin(2 * np.pi * (night / 365 + begin))

    return together(f"season of ±{100 * amplitude:g} %, 1 % otherwise", 0.01, wander)


def bad_nights(share: float, slower: float) -> Noise:
    """Now and then a whole night is slower, its second run too."""

    def wander(rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
        for _ in range(NIGHTS):
            yield np.log1p(slower) * (rng.random(n) < share)

    return together(f"one night in {1 / share:.0f} slower by {100 * slower:g} %, 1 % otherwise", 0.01, wander)


def walk(step: float) -> Noise:
    """A drift without end."""

    def wander(rng: np.random.Generator, n: int) -> Iterator[np.ndarray]:
        now = np.zeros(n)
        for _ in range(NIGHTS):
            yield now
            now = now + step * rng.standard_normal(n)

    return together(f"random walk of {100 * step:g} % a night", CALL, wander)


def marked_share(rng: np.random.Generator, shape: str, step: float, trials: int, nights: int = 60) -> float:
    """How often a history has a change point (at a step in its middle, if there is one, ± 2 nights)."""
    found = 0
    for _ in range(trials):
        values = 0.02 * noise.luck(rng, shape, (nights,))
        values[nights // 2 :] += np.log1p(step)
        points = changes.change_points(np.exp(values))
        found += any(abs(point - nights // 2) <= 2 for point in points) if step else bool(points)
    return found / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--series", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="fewer series")
    args = parser.parse_args()
    n_series = 50 if args.quick else args.series
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {n_series} series of {NIGHTS} nights, numpy {np.__version__}\n")
    print("| an unchanged series | at least one false alarm |\n|---|---|")
    whites = [white(shape, sd) for shape in noise.SHAPES[:3] for sd in (0.01, 0.02, 0.03, 0.05, 0.08)]
    others = [ar(0.6, 0.02), ar(0.9, 0.02), ar(0.9, 0.04), season(0.04), bad_nights(0.05, 0.10), walk(0.005)]
    for each in (*whites, *others):
        print(f"| {each.name} | {100 * (first_alarms(each.nights(rng, n_series)) >= 0).mean():.1f} % |", flush=True)
    print("\n| runs | nights before | slower by | alarm within 2 nights | within 3 | within 7 |")
    print("|---|---|---|---|---|---|")
    for shape in noise.SHAPES[:3]:
        for at, changed in ((8, 0.10), (20, 0.05), (20, 0.10), (30, 0.10), (20, 0.20)):
            series = white(shape, 0.02, changed, at, at + 7)
            alarms = first_alarms(series.nights(rng, n_series))
            found = [((alarms >= at) & (alarms < at + nights)).mean() for nights in (2, 3, 7)]
            shares = " | ".join(f"{100 * share:.0f} %" for share in found)
            print(f"| {series.name} | {at} | {changed:+.0%} | {shares} |", flush=True)
    print("\n| 60 runs, 2 % | marked |\n|---|---|")
    for shape, step in (*((shape, 0.0) for shape in noise.SHAPES[:3]), ("clean", 0.05), ("clean", 0.10)):
        what = f"a step of {step:+.0%}" if step else "no change"
        print(f"| {shape}, {what} | {100 * marked_share(rng, shape, step, max(n_series // 8, 20)):.1f} % |")


if __name__ == "__main__":
    main()
