"""Many machines: their cases by hardware, since no table or figure of hundreds of machines can be read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from harness.results import speedups
from harness.results.findings import HardwareSpeedup, HardwareTime, case
from harness.results.formatting import Row, crop_name, extras, number, short_name, size_label
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
    rows, name = [], _namer(tables)
    for hardware in _by_hardware(tables.cases):
        by_size = identity.grouped(hardware, lambda row: (row["n_pixels"] or 0, crop_name(row)))
        for (_, crop), cases in sorted(by_size.items()):
            ordered = sorted(cases, key=lambda row: row["median_s"])
            fastest, slowest = ordered[0], ordered[-1]
            rows.append(
                (
                    name(fastest), crop, str(len({row["node"] for row in cases})), number(fastest["median_s"]),
                    number(statistics.median(row["median_s"] for row in cases)), number(slowest["median_s"]),
                    f"{number(slowest['median_s'] / fastest['median_s'])}×", fastest["node"], slowest["node"],
                )
            )  # fmt: skip
    head = ("crop", "machines", "fastest s", "median s", "slowest s", "spread", "fastest machine", "slowest machine")
    return TextTable.grouped(head, rows)


def times(tables: Tables) -> list[HardwareTime]:
    """The medians of each hardware at its largest image."""
    found, name = [], _namer(tables)
    for hardware in _by_hardware(tables.cases):
        rows = _largest(hardware)
        ends = _ends([row["median_s"] for row in rows])
        found.append(HardwareTime(tuple(map(case, rows)), name(rows[0]), size_label(rows[0]), _n_machines(rows), *ends))
    return found


def speedups_of(tables: Tables) -> list[HardwareSpeedup]:
    """The speed-ups of each accelerator at its largest image."""
    found, name = [], _namer(tables)
    known = dict(zip(map(case, tables.speedup_rows), speedups.intervals(tables), strict=True))
    for hardware in _by_hardware(tables.speedup_rows):
        rows = _largest(hardware)
        cases = tuple(each for row in rows for each in (case(row), (row["run_id"], row["cpu_case_id"])))
        ends = _ends([known[case(row)].value for row in rows])
        found.append(HardwareSpeedup(cases, name(rows[0]), size_label(rows[0]), _n_machines(rows), *ends))
    return found


def _namer(tables: Tables) -> Callable[[Row], str]:
    """A function that names the hardware of a row, as briefly as these cases allow."""
    dimensions = identity.without(
        identity.distinguishing(tables.cases, ("device_name",), HARDWARE), ("backend", "device_name", "cpu_model")
    )
    return lambda row: f"{short_name(row['device_name'])} ({row['backend']}){extras(row, dimensions)}"


def _largest(rows: Sequence[Row]) -> list[Row]:
    """The rows with the largest image."""
    of_size = identity.grouped(rows, lambda row: (row["n_pixels"] or 0, crop_name(row)))
    return of_size[max(of_size)]


def _ends(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def _n_machines(rows: Sequence[Row]) -> int:
    return len({row["node"] for row in rows})


def _by_hardware(cases: Sequence[Row]) -> list[list[Row]]:
    return list(identity.grouped(cases, lambda row: identity.values(row, HARDWARE)).values())


def _largest_s(cases: Sequence[Row]) -> float:
    return max(cases, key=lambda row: row["n_pixels"] or 0)["median_s"]
