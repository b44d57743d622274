"""Changes of a series' level: annotations for readers of a history, never alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MIN_RUNS = 10  # with fewer runs no level can be found
# Per change, in units of the noise's variance times ln n: 5 finds none in 99 % of unchanged series with two-mode noise,
# 3 (the usual BIC-like choice) finds some in one of ten.
PENALTY = 5.0
FLOOR = 0.02  # smaller steps are not worth a mark


def change_points(values: Sequence[float]) -> list[int]:
    """Indices of the first run of each new level of a series of positive numbers.

    Least squares over all ways to cut the logarithms into levels of two runs or more, with a penalty for each cut;
    the noise is taken from the differences of neighbours, which a few steps do not disturb.
    """
    logs = np.log(np.asarray(values, float))
    if len(logs) < MIN_RUNS or not (noise := np.diff(logs).std(ddof=1) / math.sqrt(2)):
        return []
    cuts = best_cuts((logs - logs.mean()) / noise, PENALTY * math.log(len(logs)))
    levels = [level.mean() for level in np.split(logs, cuts)]
    steps = np.abs(np.diff(levels))
    return [cut for cut, step in zip(cuts, steps, strict=True) if step > math.log1p(FLOOR)]


def best_cuts(values: np.ndarray, penalty: float, shortest: int = 2) -> list[int]:
    """The cuts with the least sum of squared distances from the mean of each part, plus a penalty for each cut.

    Exact, by optimal partitioning (Jackson et al. 2005): the best cuts of all values up to an end follow from those of
    fewer values. Its time grows with the square of the number of values: 0.4 s for 5000.
    """
    sums = np.concatenate([[0.0], values.cumsum()])
    squares = np.concatenate([[0.0], (values**2).cumsum()])
    best = np.full(len(sums), np.inf)
    best[0] = -penalty  # the first part needs no cut
    begins = np.zeros(len(sums), int)
    for end in range(shortest, len(sums)):
        at = np.arange(end - shortest + 1)
        total = best[at] + squares[end] - squares[at] - (sums[end] - sums[at]) ** 2 / (end - at) + penalty
        begins[end] = total.argmin()
        best[end] = total[begins[end]]
    cuts, end = [], len(values)
    while end := int(begins[end]):
        cuts.append(end)
    return cuts[::-1]
