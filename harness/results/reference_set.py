"""The reference set, for comparison with one's own results: the column source of its rows is `reference`.

Only equal work is compared: engine, model, weights, image, diameter, protocol and variant. Sizes are compared one by
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import median

from harness.query import Session
from harness.results.findings import SameHardware, case
from harness.results.formatting import Row, line_namer, short_name, size_label
from harness.schema import identity
from harness.store import Store, parquet, reference
from harness.submissions import collection

# Equal for two rows of the same work at any size, on any machine.
KIND = (*identity.without(identity.WORK, identity.SIZE, "source"), "variant", "batch_size", "dtype")


def session(own: Session | None = None) -> Session | None:
    """The set, for reading; None where there is none, or where one's own session reads it itself."""
    if not reference.exists() or (own and own.store.root == reference.FOLDER):
        return None
    return _session(reference.FOLDER)


def medians(own: Session, cases: Iterable[Row]) -> tuple[Row, ...]:
    """The medians of the set that did the same work as a measured case, at any size; without one's own runs."""
    cases = list(cases)
    kinds = {identity.values(row, KIND) for row in cases if row["source"] == "measured"}
    found = session(own) if kinds else None
    times = {_times(row) for row in cases}  # of a submission of one's own
    rows = [
        row
        for row in (_medians(found) if found else [])
        if identity.values(row, KIND) in kinds and _times(row) not in times
    ]
    mine = set(own.table("SELECT DISTINCT run_id FROM samples")["run_id"].to_pylist()) if rows else set()
    return tuple(row for row in rows if row["run_id"] not in mine)


def lines(others: Sequence[Row]) -> dict[str, list[Row]]:
    """The series of the set by name, each from the run that has the most of its sizes, the smallest image first."""
    name, found = line_namer(others, elsewhere=("node",)), {}
    for series, rows in identity.grouped(others, name).items():
        runs = identity.grouped(sorted(rows, key=lambda row: row["n_pixels"]), lambda row: row["run_id"])
        found[f"reference: {series}"] = max(runs.values(), key=lambda run: (len(run), run[0]["run_id"]))
    return found


def same_hardware(cases: Iterable[Row], others: Sequence[Row]) -> list[SameHardware]:
    """The times of the same work on other machines with the same hardware, for each case that has any."""
    by_work, notes = identity.grouped(others, _work), collection.notes(reference.FOLDER)
    found = []
    for row in cases:
        same = [each for each in by_work.get(_work(row), []) if _is_same_hardware(row, each)]
        if same:
            runs = identity.grouped(same, lambda each: each["run_id"]).values()
            value_s = median(median(each["median_s"] for each in run) for run in runs)
            ends = min(each["min_s"] for each in same), max(each["max_s"] for each in same)
            about = hardware(row), size_label(row), row["median_s"], row["n"]
            n = sum(each["n"] for each in same)
            n_submitters = len({notes.submitter_of_run(each["run_id"]) for each in same})
            found.append(SameHardware((case(row),), *about, value_s, *ends, n, len(runs), n_submitters))
    return found


def hardware(row: Row) -> str:
    """The hardware that two devices must share: the model, and the threads of a CPU."""
    threads = f", {row['torch_threads']} threads" if row["backend"] == "cpu" and row["torch_threads"] else ""
    return short_name(row["device_name"]) + threads


def _is_same_hardware(row: Row, other: Row) -> bool:
    """Whether the names are equal; of CPUs also what else shows them: 'AMD EPYC' is the name of many."""
    facts = ("torch_threads", "n_cores", "instruction_set") if row["backend"] == "cpu" else ()
    return all(row[name] and row[name] == other[name] for name in ("device_name", *facts))


def _times(row: Row) -> tuple[object, ...]:
    return row["median_s"], row["min_s"], row["max_s"], row["n"]


def _work(row: Row) -> tuple[object, ...]:
    return identity.values(row, (*KIND, "backend", "height_px", "width_px"))


@cache
def _session(folder: Path) -> Session:
    submissions = (parquet.open_file(parquet.LOCAL, path) for path in collection.comparable(folder))
    return Session(Store(folder), files=[*Store(folder).opened(), *submissions], source=reference.SOURCE)


@cache
def _medians(found: Session) -> list[Row]:
    return found.table("SELECT * FROM medians WHERE n_pixels > 0 ORDER BY ALL").to_pylist()
