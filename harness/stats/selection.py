"""The parts of a stack of changes that make it faster: a part stays only if the stack is faster with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.stats import difference


@dataclass(frozen=True)
class Gain:
    """The speed-up of the stack, with its 95 % confidence interval.

    None with fewer than three processes, or where it is too wide to be of use.
    """

    times: float
    low: float | None
    high: float | None

    @property
    def is_real(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low is not None and self.low > 1


@dataclass(frozen=True)
class Choice:
    """The result of a race of a stack. over_stock, over_without: speed-ups over stock, and over itself less one part.

    drop: the part with the least effect, perhaps none; None where each part helps. After a drop the rest is raced
    again: two parts may do the same, so that either can go but not both. is_answer: each part helps, and the stack is
    faster than stock. Where the only part is dropped, nothing is faster than stock here.
    """

    over_stock: Gain
    over_without: dict[str, Gain]
    drop: str | None

    @property
    def is_answer(self) -> bool:
        return self.drop is None and self.over_stock.is_real


def choose(stack_s: np.ndarray, stock_s: np.ndarray, without_s: Mapping[str, np.ndarray]) -> Choice:
    """Judge a race of a stack against stock and against itself without each of its parts.

    Durations in s of interleaved calls, processes × rounds, NaN where a call is missing. A single part without itself
    is stock. ValueError where there is no part.
    """
    if not without_s:
        raise ValueError("a stack has at least one part")
    over_without = {part: gain(stack_s, other_s) for part, other_s in without_s.items()}
    doubtful = [part for part, each in over_without.items() if not each.is_real]
    least = min(doubtful, key=lambda part: over_without[part].low or 0.0, default=None)
    return Choice(gain(stack_s, stock_s), over_without, least)


def gain(fast_s: np.ndarray, slow_s: np.ndarray) -> Gain:
    """The speed-up from interleaved calls; the unit is a process, with the median of its rounds' ratios.

    ValueError where no round has both.
    """
    ratios = np.log(slow_s) - np.log(fast_s)
    ratios = ratios[~np.isnan(ratios).all(axis=1)]
    if not len(ratios):
        raise ValueError("no round has calls of both")
    found = difference.paired(np.nanmedian(ratios, axis=1))
    return Gain(math.exp(found.centre), *difference.ends(float(found.centre), float(found.reach)))
