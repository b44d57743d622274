"""The results of races of variants: each against stock, and the proof of a search's last race; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.results.formatting import Row, between, extras, number, size_label, text
from harness.schema import identity
from harness.stats import selection

# The columns that a variant shares with the stock that it is raced against.
RACE = identity.without(identity.CASE, identity.EXECUTION, "result_variant", "diameter_asked_px")
STAYED = ("identical", "equivalent")  # words for masks that count as unchanged


@dataclass(frozen=True)
class TuningResult:
    """A variant in one race, a row of the query of that name, with its speed-up over stock.

    place: node, device and image in words, different for each place. low, high: the 95 % CI over processes; None for a
    single race, which is one process.
    """

    row: Row
    place: str
    speedup: float
    low: float | None
    high: float | None

    @property
    def times(self) -> str:
        """The speed-up as text, with its interval where there is one."""
        return number(self.speedup) + between(self.low, self.high)


def from_rows(rows: Iterable[Row]) -> list[TuningResult]:
    """Rows of the query as races."""
    rows, known = list(rows), ("node", "device", "image", *identity.SIZE)
    dimensions = identity.without(identity.distinguishing(rows, known, RACE), known)

    def place(row: Row) -> str:
        on = f"{row['node']} {row['device']}, {text(row['image'], 'image unknown')} {size_label(row)}"
        return f"{on}{extras(row, dimensions)}"

    return [TuningResult(row, place(row), _gain([row["turns_s"]], [row["stock_s"]]).times, None, None) for row in rows]


def winners(found: Sequence[TuningResult]) -> dict[str, TuningResult | None]:
    """The result of the last race of each place; None where no variant is faster than stock with the same masks.

    That race has the winner in several processes, against stock and against itself without each of its parts.
    """
    races: dict[tuple[str, str, int], dict[str, TuningResult]] = {}
    for each in found:
        races.setdefault((each.place, each.row["run_id"], each.row["block"]), {})[each.row["variant"]] = each
    last = {place: (run, set(variants)) for (place, run, _), variants in races.items()}
    return {
        place: _winner([race for (at, of, _), race in races.items() if (at, of, set(race)) == (place, run, names)])
        for place, (run, names) in last.items()
    }


def _winner(processes: Sequence[dict[str, TuningResult]]) -> TuningResult | None:
    """The variant with the most parts, if its masks agree and it is faster than each other one for certain."""
    name = max(processes[0], key=lambda variant: (variant not in ("stock", None), (variant or "").count("+")))
    masks = processes[0][name].row["masks"]
    if masks not in STAYED or name in ("stock", None):
        return None
    times = {each: [race[each].row["turns_s"] for race in processes] for each in processes[0]}
    gains = {other: _gain(times[name], times[other]) for other in times if other != name}
    if not gains or not all(each.is_real for each in gains.values()):
        return None
    stock = gains["stock"]
    row = processes[0][name].row | {
        "n": sum(map(len, times[name])),
        "blocks": tuple(race[name].row["block"] for race in processes),
    }
    return replace(processes[0][name], row=row, speedup=stock.times, low=stock.low, high=stock.high)


def _gain(fast_s: Sequence[Sequence[float]], slow_s: Sequence[Sequence[float]]) -> selection.Gain:
    """The speed-up from the calls of each process, round by round; a variant that was dropped has fewer calls."""
    rounds = max(map(len, (*fast_s, *slow_s)))
    return selection.gain(*(
        np.array([[*calls, *[np.nan] * (rounds - len(calls))] for calls in side]) for side in (fast_s, slow_s)
    ))  # fmt: skip
