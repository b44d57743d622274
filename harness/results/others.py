"""Times that others measured, for figures and tables next to one's own: the article's, and the reference set's."""

from __future__ import annotations

from functools import lru_cache

from harness.query import reference_timings
from harness.results import reference_set, speedups
from harness.results.formatting import Row, short_name
from harness.results.tables import Tables

ARTICLE, REFERENCE = "*", "†"
MARKS = {ARTICLE: "reference timings of the article", REFERENCE: "reference set, other machines"}
N_SERIES = 4  # of the reference set in one figure


@lru_cache(maxsize=2)
def times(tables: Tables) -> list[Row]:
    """A row a time: its series, label and mark, size and backend, time_s, n, and its quartiles where they are known.

    Of the reference set those with hardware like one's own come first, then the fastest.
    """
    mine = {reference_set.hardware(row) for row in tables.cases}
    lines = reference_set.lines(tables.reference).items()
    first = sorted(lines, key=lambda line: (reference_set.hardware(line[1][0]) not in mine, _s_per_pixel(line[1][-1])))
    return of_article(tables) + [
        row | {
            "series": series, "label": short_name(row["device_name"]), "mark": REFERENCE, "time_s": row["median_s"],
        }
        for series, rows in first[:N_SERIES] for row in rows
    ]  # fmt: skip


def of_article(tables: Tables, are_ratios: bool = False) -> list[Row]:
    """The article's rows as in times(); are_ratios: those of its accelerators, with their ratios to the CPU."""
    if tables.published is None:
        return []
    found = reference_timings.speedups(tables.published) if are_ratios else tables.published
    return [
        row | {
            "series": speedups.published_name(row), "label": f"{row['device_name']} {row['backend'].upper()}",
            "mark": ARTICLE, "n_pixels": row["height_px"] * row["width_px"], "time_s": row["mean_s"], "n": 5,
            "q1_s": None, "q3_s": None,
        }
        for row in found.to_pylist()
    ]  # fmt: skip


def table_name(row: Row) -> str:
    """The name of a series in a table, which states what its times are."""
    return f"{row['series']}: {'means' if row['mark'] == ARTICLE else 'medians'}"


def _s_per_pixel(row: Row) -> float:
    return row["median_s"] / row["n_pixels"]
