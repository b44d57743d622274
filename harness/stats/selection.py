"""Which parts of a stack of changes make it faster: a part stays only if the stack beats the stack without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.stats import difference


@dataclass(frozen=True)
class Gain:
    """How many times as fast the stack is, with its 95 % interval.

    None with fewer than three processes, or where it is too wide to tell anything.
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
    """What a race says of a stack. over_stock, over_without: its gain over stock, and over the stack without each part.

    drop: the part that does least for it and may do nothing, None where each one helps. After a drop the rest is raced
    again: two parts may do the same, so that either can go but not both. is_answer: each part helps, and the stack
    beats stock. Where the only part is dropped, nothing beats stock here.
    """

    over_stock: Gain
    over_without: dict[str, Gain]
    drop: str | None

    @property
    def is_answer(self) -> bool:
        return self.drop is None and self.over_stock.is_real


def choose(stack_s: np.ndarray, stock_s: np.ndarray, without_s: Mapping[str, np.ndarray]) -> Choice:
    """Judge a race of a stack against stock and against itself without each of its parts.

    Durations in s of calls in turn, processes × rounds, NaN where a call is missing. Of a single part, without it is
    stock. ValueError where there is no part.
    """
    if not without_s:
        raise ValueError("a stack has at least one part")
    over_without = {part: gain(stack_s, other_s) for part, other_s in without_s.items()}
    doubtful = [part for part, each in over_without.items() if not each.is_real]
    least = min(doubtful, key=lambda part: over_without[part].low or 0.0, default=None)
    return Choice(gain(stack_s, stock_s), over_without, least)


def gain(fast_s: np.ndarray, slow_s: np.ndarray) -> Gain:
    """How many times as fast, from calls in turn; the unit is a process, with the median of its rounds' ratios.

    ValueError where no round has both.
    """
    ratios = np.log(slow_s) - np.log(fast_s)
    ratios = ratios[~np.isnan(ratios).all(axis=1)]
    if not len(ratios):
        raise ValueError("no round has calls of both")
    found = difference.paired(np.nanmedian(ratios, axis=1))
    return Gain(math.exp(found.centre), *difference.ends(float(found.centre), float(found.reach)))
