"""The speed-ups of a scope's accelerators over their machine's CPU by image size, with scaling laws and places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.engines import registry
from harness.engines.base import STOCK
from harness.errors import CellbenchError
from harness.results.formatting import Row
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats import intervals as interval
from harness.stats import law, ranking, trend
from harness.stats.intervals import Interval
from harness.stats.law import Law
from harness.stats.ranking import Device, Place
from harness.stats.student import PROCESSES_MIN
from harness.stats.trend import Crossing, Trend

Key = tuple[str, str]  # run_id, case_id
Block = tuple[int, int]  # number of a process, -1 where none is stored; its place among those of one number
Centre = Callable[[np.ndarray], np.floating]
HOUR = ("run_id", *identity.MACHINE)  # the columns that devices measured together share


@dataclass(frozen=True)
class SeriesLaw:
    """A device's series with its scaling law, or None where none can be fitted, and the cases of one run behind it."""

    series: str
    cases: tuple[Key, ...]
    law: Law | None


@dataclass(frozen=True)
class SeriesSpeedup:
    """The speed-up of an accelerator by image size: among the sizes that both were measured at, in px.

    cases: of one run, smallest image first, each of the accelerator's before the CPU's.
    """

    series: str
    cases: tuple[Key, ...]
    device_name: str
    lengths_px: tuple[float, ...]
    n_processes: int
    trend: Trend
    crossing: Crossing


@lru_cache(maxsize=2)
def by_block(tables: Tables) -> dict[Key, dict[Block, np.ndarray]]:
    """The durations in s of each case, by process."""
    found: dict[Key, dict[Block, np.ndarray]] = {}
    columns = (tables.processes[name].to_pylist() for name in ("run_id", "case_id", "block"))
    arrays = (array for chunk in tables.processes["elapsed_s"].chunks for array in chunk)
    for run_id, case_id, stored, durations in zip(*columns, arrays, strict=True):
        of_case = found.setdefault((run_id, case_id), {})
        number = -1 if stored is None else stored
        same = sum(known == number for known, _ in of_case)
        of_case[number, same] = durations.values.to_numpy()
    return found


@lru_cache(maxsize=2)
def processes(tables: Tables) -> dict[Key, list[np.ndarray]]:
    """The durations in s of each case, one array a process."""
    return {key: list(durations.values()) for key, durations in by_block(tables).items()}


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


def batch(tables: Tables, row: Row, n_calls: int) -> Interval:
    """The mean duration of n_calls of a case in one further process, in s; row: of the tables' cases."""
    return interval.of_batch(processes(tables)[_key(row)], n_calls)


def beyond_processes(tables: Tables, row: Row, n_calls: int) -> float:
    """The variance of a mean of n_calls beyond that of the processes' means, on logarithms; row: as in batch()."""
    return interval.beyond_processes(processes(tables)[_key(row)], n_calls)


def places(tables: Tables, rows: Sequence[Row]) -> list[Place]:
    """The places of devices, in their order; rows: of the tables' cases, one a device, all of one size."""
    durations = processes(tables)
    medians_s = [[float(np.median(each)) for each in durations[_key(row)]] for row in rows]
    hours = [str(identity.values(row, HOUR)) for row in rows]
    return ranking.places([Device(*each) for each in zip(medians_s, hours, strict=True)])


@lru_cache(maxsize=4)
def laws(tables: Tables, centre: Centre = np.median) -> list[SeriesLaw]:
    """The scaling law of each series, by the tiles that its engine cuts of each image; centre: of a process's times."""
    return [
        SeriesLaw(series, tuple(map(_key, rows)), _law(tables, rows, centre))
        for series, rows in _by_series(tables, tables.cases).items()
    ]


@lru_cache(maxsize=2)
def by_size(tables: Tables) -> list[SeriesSpeedup]:
    """Each accelerator that one run measured at several sizes together with the CPU of its machine."""
    found = []
    for series, rows in _by_series(tables, tables.speedup_rows).items():
        rows.sort(key=lambda row: row["n_pixels"])
        lengths = np.sqrt([row["n_pixels"] for row in rows])
        if len(set(lengths)) < 2:
            continue
        sides = [_centres(tables, [(row["run_id"], row[name]) for row in rows]) for name in ("cpu_case_id", "case_id")]
        cases = tuple((row["run_id"], row[name]) for row in rows for name in ("case_id", "cpu_case_id"))
        about = (series, cases, rows[0]["device_name"], tuple(map(float, lengths)), min(map(len, sides)))
        found.append(SeriesSpeedup(*about, trend.trend(lengths, *sides), trend.crossing(lengths, *sides)))
    return found


def published_name(row: Row) -> str:
    """The name of a published series."""
    return f"{row['device_name']}, {row['backend'].upper()} (published)"


def _by_series(tables: Tables, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each series from the run that has the most of them, since its processes time all of them.

    Runs with enough processes for an interval come first.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(tables.name(row), {}).setdefault(row["run_id"], []).append(row)
    return {series: max(runs.values(), key=_worth) for series, runs in found.items()}


def _worth(rows: Sequence[Row]) -> tuple[bool, int]:
    n_processes = min(min(row["n_blocks"], row.get("cpu_n_blocks", row["n_blocks"])) for row in rows)
    return n_processes >= PROCESSES_MIN, len(rows)


def _centres(tables: Tables, keys: Sequence[Key], centre: Centre = np.median) -> np.ndarray:
    """Medians or means in s of the processes that every one of these cases has, processes × cases."""
    durations = [by_block(tables)[key] for key in keys]
    common = sorted(set.intersection(*map(set, durations)))  # a process may lack a size
    return np.array([[centre(of_case[number]) for number in common] for of_case in durations]).T.reshape(-1, len(keys))


def _law(tables: Tables, rows: Sequence[Row], centre: Centre) -> Law | None:
    """The scaling law of one series; None where the tiles are unknown: another model, or a variant that cuts others."""
    if {row["result_variant"] for row in rows} - {STOCK, "", None}:
        return None
    with suppress(CellbenchError):  # a model that is unknown to this program
        tiles = [_tiles(row) for row in rows]
        mpx = [row["n_pixels"] / 1e6 for row in rows]
        processes_s = _centres(tables, [_key(row) for row in rows], centre)
        return law.fit(tiles, mpx, processes_s) if len(processes_s) else None
    return None


def _tiles(row: Row) -> int:
    size = row["height_px"], row["width_px"], row["diameter_px"]
    return registry.engine_of(row["model"]).work(row["model"], *size, bool(row["diameter_asked_px"])).n_tiles


def _key(row: Row) -> Key:
    return row["run_id"], row["case_id"]
