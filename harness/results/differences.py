"""The common and the differing facts of a scope's devices: every fact about each node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.machine import facts
from harness.machine.facts import Fact
from harness.query import Session
from harness.results.formatting import Row, fact_text, place, short_name
from harness.results.scope import Scope

# Facts of single rows that the facts about the node do not contain; also the only facts of runs of early versions.
ROWS = {
    "device_name": "device", "cpu_model": "processor", "n_cores": "cores", "ram_bytes": "memory in bytes",
    "os": "operating system", "arch": "architecture", "torch_threads": "threads of torch",
    "openmp_threads": "OMP_NUM_THREADS", "opencv_threads": "threads of OpenCV", "numba_threads": "threads of numba",
    "sync": "waited for the device with", "dispatch": "dispatched by", "harness_version": "cellbench",
    "python_version": "Python", "torch_version": "torch", "cellpose_version": "cellpose", "numpy_version": "numpy",
    "numba_version": "numba", "opencv_version": "OpenCV", "ray_version": "Ray", "weights": "weights",
    "weights_sha256": "SHA-256 of the weights", "size_model_sha256": "SHA-256 of the size model", "image": "image",
    "image_sha256": "SHA-256 of the image’s pixels",
}  # fmt: skip
OF_THE_MOMENT = "at this moment"  # the group of facts that differ from minute to minute
OWN = {"gpu_uuid"}  # differs between any two units


@dataclass(frozen=True)
class Finding:
    """One fact: its group, label and meaning, and each value with the places that have it, most frequent first.

    differs: whether known values differ, for a fact whose differences matter.
    """

    group: str
    label: str
    meaning: str
    values: dict[str, list[str]]
    differs: bool


def find(session: Session, scope: Scope) -> tuple[list[str], list[Finding]]:
    """The places (node · device), and every fact that is known of any of them."""
    rows = _facts(session, scope)
    places = list(dict.fromkeys(map(place, rows)))
    environments = _environments(session, scope)
    findings = [_finding("this measurement", label, "", _by_place(rows, column)) for column, label in ROWS.items()]
    for group, members in facts.GROUPS.items():
        findings += [_of_fact(group, fact, environments) for fact in members]
    return places, [each for each in findings if each.values]


def differing(findings: Sequence[Finding]) -> list[Finding]:
    """The facts whose values differ between places."""
    return [each for each in findings if each.differs]


def value_at(finding: Finding, where: str) -> str:
    """The value, or values, of a fact at one place; a dash for none."""
    return ", ".join(value for value, places in finding.values.items() if where in places) or "–"


def _finding(group: str, label: str, meaning: str, values: dict[str, list[str]], telling: bool = True) -> Finding:
    ordered = dict(sorted(values.items(), key=lambda item: -len(item[1])))
    return Finding(group, label, meaning, ordered, telling and len(ordered) > 1)


def _of_fact(group: str, fact: Fact, rows: Sequence[Row]) -> Finding:
    telling = group != OF_THE_MOMENT and fact.name not in OWN
    if not telling:
        return _finding(group, fact.name, fact.meaning, _ranges(fact, rows), telling)
    values: dict[str, list[str]] = {}
    for row in rows:
        if row[fact.name] is not None:
            _add(values, fact_text(fact, row[fact.name]), place(row))
    return _finding(group, fact.name, fact.meaning, values, telling)


def _ranges(fact: Fact, rows: Sequence[Row]) -> dict[str, list[str]]:
    """The values of a fact that changes by itself: at each place its first value, or the smallest and the largest."""
    by_place: dict[str, list[Any]] = {}
    for row in rows:
        if row[fact.name] is not None:
            by_place.setdefault(place(row), []).append(row[fact.name])
    values: dict[str, list[str]] = {}
    for where, found in by_place.items():
        ends = dict.fromkeys((min(found), max(found))) if fact.type is not str else dict.fromkeys(found)
        _add(values, " – ".join(fact_text(fact, each) for each in ends), where)
    return values


def _by_place(rows: Sequence[Row], column: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for row in rows:
        for value in row[column] or []:
            _add(values, short_name(value) if column == "device_name" else value, place(row))
    return values


def _add(values: dict[str, list[str]], value: str, where: str) -> None:
    places = values.setdefault(value, [])
    if where not in places:
        places.append(where)


def _facts(session: Session, scope: Scope) -> list[Row]:
    """One row a device: for each column the distinct values, as text."""
    columns = ", ".join(
        f"list_sort(list(DISTINCT {column}::VARCHAR) FILTER ({column} IS NOT NULL)) AS {column}" for column in ROWS
    )
    seen = f"SELECT DISTINCT node, device, {', '.join(ROWS)} FROM samples WHERE {scope.in_runs}"
    return session.table(
        f"SELECT node, device, {columns} FROM ({seen} AND image IS DISTINCT FROM 'control') "
        "GROUP BY node, device ORDER BY node, device"
    ).to_pylist()


def _environments(session: Session, scope: Scope) -> list[Row]:
    sql = f"SELECT * FROM environments WHERE {scope.in_runs} ORDER BY node, device, block"
    return session.table(sql).to_pylist()
