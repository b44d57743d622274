"""What the accelerators of a scope gain over the CPUs beside them: intervals, scaling laws, limits, break-even."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from harness.results.formatting import Row, between, number, short_name, side
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats import intervals as interval
from harness.stats import scaling
from harness.stats.intervals import Interval
from harness.stats.scaling import Gain, Scaling

Key = tuple[str, str]  # run_id, case_id
# What a line of an accelerator has in common with that of the CPU beside it.
BESIDE = ("run_id", *identity.without(identity.CASE, identity.DEVICE, identity.SIZE))
N_TIMES = 3  # an interval that reaches further than so many times its estimate says no more than that little is known


@dataclass(frozen=True)
class SeriesLaw:
    """A device's series with its scaling law, or None where it cannot be fitted."""

    series: str
    is_published: bool
    n_sizes: int
    law: Scaling | None


@dataclass(frozen=True)
class SeriesSpeedup:
    """An accelerator's series, its law and its CPU's, and what they say together."""

    series: str
    is_published: bool
    backend: str
    device_name: str
    slow: Scaling
    fast: Scaling
    gain: Gain


@lru_cache(maxsize=2)
def processes(tables: Tables) -> dict[Key, list[np.ndarray]]:
    """The durations in s of each case, one array a process."""
    found: dict[Key, list[np.ndarray]] = {}
    columns = (tables.processes[name].to_pylist() for name in ("run_id", "case_id"))
    arrays = (array for chunk in tables.processes["elapsed_s"].chunks for array in chunk)
    for run_id, case_id, durations in zip(*columns, arrays, strict=True):
        found.setdefault((run_id, case_id), []).append(durations.values.to_numpy())
    return found


@lru_cache(maxsize=2)
def intervals(tables: Tables) -> list[Interval]:
    """The interval of each of the tables' speed-ups, in their order; its value is the view's."""
    durations = processes(tables)
    return [
        interval.of_ratio(durations[row["run_id"], row["cpu_case_id"]], durations[_key(row)])
        for row in tables.speedup_rows
    ]


@lru_cache(maxsize=2)
def medians(tables: Tables) -> list[Interval]:
    """The interval of each case's median in s, in the order of the cases."""
    durations = processes(tables)
    return [interval.of_median(durations[_key(row)]) for row in tables.cases]


@lru_cache(maxsize=2)
def fits(tables: Tables) -> list[SeriesLaw]:
    """The scaling law of each series, one's own first, then the published ones."""
    own = [SeriesLaw(series, False, len(rows), _fit(rows, "median_s")) for series, rows in _by_series(tables).items()]
    return own + [
        SeriesLaw(name, True, len(rows), _fit(rows, "mean_s")) for (_, _, name), rows in _published(tables).items()
    ]


@lru_cache(maxsize=2)
def laws(tables: Tables) -> list[SeriesSpeedup]:
    """Each accelerator whose law and whose CPU's law can be fitted, one's own first, then the published ones."""
    by_series = _by_series(tables)
    cpus = {_beside(rows[0]): _fit(rows, "median_s") for rows in by_series.values() if rows[0]["backend"] == "cpu"}
    found = []
    for series, rows in by_series.items():
        slow, fast, backend = cpus.get(_beside(rows[0])), _fit(rows, "median_s"), rows[0]["backend"]
        if backend != "cpu" and slow and fast:
            about = (series, False, backend, rows[0]["device_name"])
            found.append(SeriesSpeedup(*about, slow, fast, scaling.gain(slow, fast)))
    others = _published(tables)
    beside = {machine: _fit(rows, "mean_s") for (machine, backend, _), rows in others.items() if backend == "cpu"}
    for (machine, backend, name), rows in others.items():
        slow, fast = beside.get(machine), _fit(rows, "mean_s")
        if backend != "cpu" and slow and fast:
            about = (name, True, backend, rows[0]["device_name"])
            found.append(SeriesSpeedup(*about, slow, fast, scaling.gain(slow, fast)))
    return found


def published_name(row: Row) -> str:
    """The name of a published series."""
    return f"{row['device_name']}, {row['backend'].upper()} (published)"


def is_narrow(gain: Gain) -> bool:
    """Whether the limit's interval is narrow enough to be drawn."""
    return (
        gain.limit_low is not None
        and gain.limit_high is not None
        and gain.limit_low > gain.limit / N_TIMES
        and gain.limit_high < N_TIMES * gain.limit
    )


def limit_text(gain: Gain) -> str:
    """The limit and its interval as two short lines: 'limit 11.9×' and '(11.2–12.7)'."""
    return f"limit {number(gain.limit)}×\n{between(gain.limit_low, gain.limit_high).strip()}"


def sentence(each: SeriesSpeedup) -> str:
    """What an accelerator gains with growing images, in one sentence."""
    gain, who = each.gain, short_name(each.device_name)
    text = (
        f"On ever larger images the {who}’s speed-up approaches {number(gain.limit)}×"
        f"{between(gain.limit_low, gain.limit_high)}; "
    )
    smallest = each.fast.bounds_mpx[0]
    if gain.near_mpx <= smallest:
        text += "it is within a tenth of that at every size measured. "
    else:
        beyond = ", beyond what was measured" if gain.near_mpx > each.fast.bounds_mpx[1] else ""
        text += f"from about {side(gain.near_mpx)} on it is within a tenth of that{beyond}. "
    return text + _break_even(each, smallest)


def _break_even(each: SeriesSpeedup, smallest: float) -> str:
    gain = each.gain
    if gain.break_even_mpx is None:
        return "It is never faster than the CPU."
    if gain.break_even_mpx == 0:
        return "It is faster at every size."
    if gain.break_even_mpx < smallest:
        at = side(gain.break_even_mpx)
        return f"It is faster from the smallest image on: by the fit the two break even at about {at}."
    low, high = gain.break_even_low_mpx, gain.break_even_high_mpx
    spread = "" if low is None or high is None else f" ({side(low)}–{side(high)})"
    return f"Below about {side(gain.break_even_mpx)}{spread} the CPU is faster."


def _by_series(tables: Tables) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in tables.cases:
        found.setdefault(tables.name(row), []).append(row)
    return found


def _published(tables: Tables) -> dict[tuple[str, str, str], list[Row]]:
    """The published rows by machine, backend and name."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in tables.published.to_pylist() if tables.published is not None else []:
        found.setdefault((row["machine"], row["backend"], published_name(row)), []).append(row)
    return found


def _fit(rows: Iterable[Row], column: str) -> Scaling | None:
    points = [(row["height_px"] * row["width_px"], row[column]) for row in rows]
    return scaling.fit(*zip(*points, strict=True))


def _key(row: Row) -> Key:
    return row["run_id"], row["case_id"]


def _beside(row: Row) -> tuple[Any, ...]:
    return identity.values(row, BESIDE)
