"""Many machines: their cases by hardware, since no table or figure of hundreds of machines can be read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from harness.results.formatting import Row, crop_name, extras, number, short_name
from harness.results.tables import Tables
from harness.results.text_table import TextTable
from harness.schema import identity

N_MACHINES = 16  # with more of them, the hardware comes first
# The columns that make two machines the same hardware, at the same work.
HARDWARE = identity.without((*identity.LINE, *identity.VERSIONS), (*identity.VERSIONS, "machine_id", "device"))


def are_many(tables: Tables) -> bool:
    """Whether the machines are too many to be listed one by one."""
    return len({row["node"] for row in tables.cases}) > N_MACHINES


def typical(tables: Tables) -> list[Row]:
    """The cases of the fastest, the median and the slowest series of each hardware; all cases of few machines."""
    if not are_many(tables):
        return tables.cases
    found = []
    for rows in _by_hardware(tables.cases):
        series = sorted(identity.grouped(rows, tables.name).values(), key=_largest_s)
        chosen = {len(series) - 1: series[-1], len(series) // 2: series[len(series) // 2], 0: series[0]}
        found += [row for each in chosen.values() for row in each]
    return found


def summary(tables: Tables) -> TextTable:
    """A row for each hardware and size: the number of machines, and their fastest, median and slowest."""
    dimensions = identity.without(
        identity.distinguishing(tables.cases, ("device_name",), HARDWARE), ("backend", "device_name", "cpu_model")
    )
    rows = []
    for hardware in _by_hardware(tables.cases):
        by_size = identity.grouped(hardware, lambda row: (row["n_pixels"] or 0, crop_name(row)))
        for (_, crop), cases in sorted(by_size.items()):
            ordered = sorted(cases, key=lambda row: row["median_s"])
            fastest, slowest = ordered[0], ordered[-1]
            rows.append(
                (
                    f"{short_name(fastest['device_name'])} ({fastest['backend']}){extras(fastest, dimensions)}", crop,
                    str(len({row["node"] for row in cases})), number(fastest["median_s"]),
                    number(statistics.median(row["median_s"] for row in cases)), number(slowest["median_s"]),
                    f"{number(slowest['median_s'] / fastest['median_s'])}×", fastest["node"], slowest["node"],
                )
            )  # fmt: skip
    head = ("crop", "machines", "fastest s", "median s", "slowest s", "spread", "fastest machine", "slowest machine")
    return TextTable.grouped(head, rows)


def _by_hardware(cases: Sequence[Row]) -> list[list[Row]]:
    return list(identity.grouped(cases, lambda row: identity.values(row, HARDWARE)).values())


def _largest_s(cases: Sequence[Row]) -> float:
    return max(cases, key=lambda row: row["n_pixels"] or 0)["median_s"]
