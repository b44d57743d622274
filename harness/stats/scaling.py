"""The scaling law of a device, t = fixed + slope · pixels, and what two of them say of a speed-up.

The law is fitted to medians with relative weights, since durations spread in proportion to themselves. Its uncertainty
comes from how far the medians lie from the line, so it contains what the law leaves out (tiles come in whole numbers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

CONFIDENCE = 0.95
MIN_SIZES = 4  # two are needed for a line; the others say how well it fits
NEAR = 0.9  # of the speed-up's limit: from there on a larger image hardly changes it


@dataclass(frozen=True)
class Scaling:
    """One device's law, with what is needed to tell its uncertainty.

    covariance: of fixed_s and per_mpx_s. relative_error: root mean square distance of a median from the law, as a
    share of it. bounds_mpx: the smallest and the largest image measured.
    """

    fixed_s: float
    per_mpx_s: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    freedom: int
    relative_error: float
    bounds_mpx: tuple[float, float]

    def at(self, mpx: float) -> float:
        """Seconds for an image of so many megapixels."""
        return self.fixed_s + self.per_mpx_s * mpx

    @property
    def per_mpx_reach_s(self) -> float:
        """Half-width of the slope's 95 % interval."""
        return _t(self.freedom) * math.sqrt(self.covariance[1][1])


@dataclass(frozen=True)
class Gain:
    """What two laws say of a speed-up.

    limit: what it approaches on ever larger images, with its 95 % interval (None where that is unbounded).
    break_even_mpx: the size from which on the second device is faster, with its interval; 0 where it is at every size,
    None where it never is; the interval's end is None where it is unbounded. near_mpx: from there on the speed-up is
    within a tenth of its limit; 0 where it is at every size.
    """

    limit: float
    limit_low: float | None
    limit_high: float | None
    break_even_mpx: float | None
    break_even_low_mpx: float | None
    break_even_high_mpx: float | None
    near_mpx: float


def fit(pixels: Sequence[float], times_s: Sequence[float]) -> Scaling | None:
    """The law of one device from its medians; None with fewer than four sizes, or where time does not grow."""
    mpx, times = np.asarray(pixels, float) / 1e6, np.asarray(times_s, float)
    if len(np.unique(mpx)) < MIN_SIZES:
        return None
    design = np.column_stack([1 / times, mpx / times])
    inverse = np.linalg.inv(design.T @ design)
    fixed_s, per_mpx_s = inverse @ design.sum(axis=0)
    if per_mpx_s <= 0:
        return None
    left = 1 - design @ np.array([fixed_s, per_mpx_s])
    freedom = len(times) - 2
    (a, b), (c, d) = inverse * float(left @ left) / freedom
    return Scaling(
        float(fixed_s),
        float(per_mpx_s),
        ((float(a), float(b)), (float(c), float(d))),
        freedom,
        math.sqrt(float(left @ left) / len(times)),
        (float(mpx.min()), float(mpx.max())),
    )


def gain(slow: Scaling, fast: Scaling) -> Gain:
    """What `fast` gains over `slow`, which have been fitted apart."""
    t = _t(min(slow.freedom, fast.freedom))
    limit = slow.per_mpx_s / fast.per_mpx_s
    low, high = _fieller(slow.per_mpx_s, fast.per_mpx_s, slow.covariance[1][1], fast.covariance[1][1], 0.0, t)
    return Gain(limit, low, high, *_break_even(slow, fast, t), _near(slow, fast, limit))


def speedup_at(slow: Scaling, fast: Scaling, mpx: float) -> float:
    """The speed-up that the two laws give for an image of so many megapixels."""
    return slow.at(mpx) / fast.at(mpx)


def _break_even(slow: Scaling, fast: Scaling, t: float) -> tuple[float | None, float | None, float | None]:
    """Where the lines cross: the difference of the fixed parts over that of the slopes."""
    behind_s, gained_s = fast.fixed_s - slow.fixed_s, slow.per_mpx_s - fast.per_mpx_s
    if gained_s <= 0:
        return None, None, None
    (aa, ab, bb) = (slow.covariance[i][j] + fast.covariance[i][j] for i, j in ((0, 0), (0, 1), (1, 1)))
    low, high = _fieller(behind_s, gained_s, aa, bb, -ab, t)
    at_least_0 = [None if each is None else max(each, 0.0) for each in (low, high)]
    low, high = at_least_0
    return max(behind_s / gained_s, 0.0), low, high


def _near(slow: Scaling, fast: Scaling, limit: float) -> float:
    """Where the speed-up comes within a tenth of its limit, from below or from above."""
    per_mpx_s = (1 - NEAR) * slow.per_mpx_s
    from_below = NEAR * limit * fast.fixed_s - slow.fixed_s
    from_above = slow.fixed_s - (2 - NEAR) * limit * fast.fixed_s
    return max(from_below, from_above, 0.0) / per_mpx_s


def _fieller(
    above: float, below: float, var_above: float, var_below: float, covariance: float, t: float
) -> tuple[float | None, float | None]:
    """Fieller's interval for a ratio of two estimates; unbounded where the lower one may be zero."""
    q = below**2 - t**2 * var_below
    if q <= 0:
        return None, None
    p = above * below - t**2 * covariance
    root = math.sqrt(max(p**2 - q * (above**2 - t**2 * var_above), 0.0))
    return (p - root) / q, (p + root) / q


def _t(freedom: int) -> float:
    return float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2))
