"""The places of devices at one image size, from the fastest to the slowest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from harness.results import others, reference_set, speedups
from harness.results.formatting import Row, interval
from harness.results.speedups import Key
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats.ranking import Place


@dataclass(frozen=True)
class RankedDevice:
    """A device's place at one image size: seconds an image with their interval, and the ranks it may have.

    mark: of a device that others measured; it is not ranked, so place and case are None.
    """

    series: str
    kind: str
    mark: str
    n_pixels: int
    median_s: float
    low_s: float | None
    high_s: float | None
    place: Place | None = None
    case: Key | None = None
    n_processes: int = 0

    @property
    def rank(self) -> str:
        """'2', or '2–4' where devices do not differ for certain; a dash for those of others."""
        if self.place is None:
            return "–"
        first, last = self.place.first, self.place.last
        return str(first) if first == last else f"{first}–{last}"

    @property
    def mpx_per_s(self) -> float:
        return self.n_pixels / self.median_s / 1e6

    @property
    def interval(self) -> str:
        """The median's 95 % confidence interval in s, or a dash."""
        return interval(self.low_s, self.high_s)


def _is_alike(row: Row, own: Row) -> bool:
    return identity.values(row, reference_set.KIND) == identity.values(own, reference_set.KIND)


@lru_cache(maxsize=2)
def ranks(tables: Tables) -> tuple[list[RankedDevice], str, int]:
    """Devices from fastest to slowest at the largest size that most have, that size, the number of series without it.

    Only devices that did the same work are ranked.
    """
    if not tables.comparable:
        return [], "", 0
    names = {tables.name(row) for row in tables.comparable}
    sizes = Counter((row["height_px"], row["width_px"]) for row in tables.comparable)
    size = max(sizes, key=lambda each: (sizes[each], each[0] * each[1]))
    n_pixels = size[0] * size[1]
    medians = {
        (row["run_id"], row["case_id"]): known
        for row, known in zip(tables.cases, speedups.medians(tables), strict=True)
    }
    rows = [row for row in tables.cases if (row["height_px"], row["width_px"]) == size and tables.name(row) in names]
    own = []
    for row, place in zip(rows, speedups.places(tables, rows), strict=True):
        known = medians[row["run_id"], row["case_id"]]
        kind = row["backend"] or "unknown"
        about = (tables.name(row), kind, "", n_pixels, row["median_s"], known.low, known.high, place)
        own.append(RankedDevice(*about, (row["run_id"], row["case_id"]), known.n_processes))
    measured_by_others = [
        RankedDevice(row["series"], row["backend"], row["mark"], n_pixels, row["time_s"], None, None)
        for row in others.times(tables)
        if (row["height_px"], row["width_px"]) == size and (row["mark"] != others.REFERENCE or _is_alike(row, rows[0]))
    ]
    found = sorted(own + measured_by_others, key=lambda each: each.median_s)
    lacking = len(names - {each.series for each in own})
    return found, f"{size[0]} × {size[1]} px", lacking
