"""What races of variants gave: each beside stock, in turn with it, and the fastest whose masks stay; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.results.formatting import Row, between, extras, number, size_label, text
from harness.schema import identity
from harness.stats import ratio

# What a variant has in common with the stock that it is raced against.
RACED = identity.without(identity.CASE, identity.EXECUTION, "result_variant", "diameter_asked_px")
STAYED = ("identical", "equivalent")  # what may be said of masks that a reader would take for the same


@dataclass(frozen=True)
class TuningResult:
    """A variant in one race, a row of the query of that name: how many times as fast as stock, with a 95 % interval.

    place: where and on what it ran, in words that tell it from the other places.
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
    told = identity.without(identity.distinguishing(rows, known, RACED), known)

    def place(row: Row) -> str:
        on = f"{row['node']} {row['device']}, {text(row['image'], 'image unknown')} {size_label(row)}"
        return f"{on}{extras(row, told)}"

    return [
        TuningResult(row, place(row), *ratio.in_turn(list(zip(row["stock_s"], row["turns_s"], strict=True))))
        for row in rows
    ]


def winners(found: Sequence[TuningResult]) -> dict[str, TuningResult | None]:
    """The fastest of each place's last race whose masks stay; None where stock itself is."""
    last = {each.place: (each.row["run_id"], each.row["block"]) for each in found}
    best: dict[str, TuningResult | None] = {}
    for place, race in last.items():
        among = [each for each in found if each.place == place and (each.row["run_id"], each.row["block"]) == race]
        stayed = [each for each in among if each.row["variant"] == "stock" or each.row["masks"] in STAYED]
        fastest = max(stayed, key=lambda each: each.speedup)
        best[place] = None if fastest.row["variant"] == "stock" else fastest
    return best
