"""The tables of a report that belong to no figure: cases, tuning results, many images, failures, environment."""

from __future__ import annotations

from harness.results.differences import Finding, value_at
from harness.results.formatting import crop_name, interval, listed, number, size_label, text
from harness.results.tables import Tables
from harness.results.text_table import TextTable

N_FAILURES = 200  # the most different failures that a report lists
BYTES = "memory in bytes"
FIRST_ASKED = (
    "device", "processor", "cores", BYTES, "operating system", "cellpose", "torch", "Python", "cellbench",
    "threads of torch",
)  # fmt: skip
N_PLACES = 6  # the most devices with a column each in a table of facts


def cases(data: Tables) -> TextTable:
    """The table of cases, one row each: medians, spread, cells, speed-up, and flags if there are any."""
    speedup_of = {(row["run_id"], row["case_id"]): row["speedup"] for row in data.speedup_rows}
    columns = {
        "crop": crop_name,
        "protocol": lambda row: text(row["protocol"]),
        "n": lambda row: str(row["n"]),
        "median s": lambda row: number(row["median_s"]),
        "IQR s": lambda row: interval(row["q1_s"], row["q3_s"]),
        "mean ± SD s": lambda row: f"{number(row['mean_s'])} ± {number(row['sd_s'], 2)}",
        "mean ± 95 %": lambda row: "–" if row["precision"] is None else f"{100 * row['precision']:.2g}\u00a0%",
        "cells": lambda row: number(row["n_cells"], 1),
        "diameter px": lambda row: number(row["diameter_px"]),
        "speed-up": lambda row: number(speedup_of.get((row["run_id"], row["case_id"]))),
        "flagged": lambda row: f"{row['n_flagged']} ({row['flags']})" if row["n_flagged"] else "–",
    }
    if not any(row["n_flagged"] for row in data.cases):
        del columns["flagged"]
    rows = [(data.name(row), *(cell(row) for cell in columns.values())) for row in data.cases]
    return TextTable.grouped(tuple(columns), rows, n_labels=2)


def tuning(data: Tables) -> TextTable:
    """The tuning results: the speed-up of each variant over stock in the same race, and the mask agreement."""
    rows = [
        (
            f"{each.place}, race {(each.row['block'] or 0) + 1}", text(each.row["variant"]), str(each.row["n"]),
            number(each.row["median_s"]), each.times, each.row["masks"] or "not compared",
        )
        for each in data.tuning_results
    ]  # fmt: skip
    return TextTable.grouped(("variant", "n", "median s", "× stock", "masks"), rows)


def many_images(data: Tables) -> TextTable:
    """Images per minute of each way to process many images."""
    rows = [
        (
            f"{row['node']} {row['device']}, {text(row['n_images'])} images: {text(row['image'])} {size_label(row)}",
            *(text(row[name]) for name in ("variant", "n_processes", "n_in_flight", "torch_threads", "n")),
            number(row["images_per_minute"]), interval(row["slowest_per_minute"], row["fastest_per_minute"]),
            "the same each time" if row["n_distinct_masks"] == 1 else "they differ",
        )
        for row in data.throughput.to_pylist()
    ]  # fmt: skip
    head = ("variant", "processes", "in flight", "threads each", "n", "images/min", "slowest – fastest", "masks")
    return TextTable.grouped(head, rows)


def failures(data: Tables) -> TextTable:
    """The failures with their errors; equal failures share one row."""
    columns = ("node", "device", "crop", "role", "phase", "n", "status", "error_type", "error_message")
    found = data.failures.to_pylist()
    rows = [tuple(text(row[column]) for column in columns) for row in found[:N_FAILURES]]
    if len(found) > N_FAILURES:
        rows.append((f"and {len(found) - N_FAILURES} more", *("" for _ in columns[1:])))
    return TextTable(tuple(column.replace("_", " ") for column in columns), {"": rows}, n_labels=len(columns))


def summary(places: list[str], findings: list[Finding]) -> TextTable:
    """The most important facts about the machines, hardware and versions, one row each."""
    by_label = {each.label: each for each in reversed(findings)}  # of equal labels, the first applies
    known = [by_label[label] for label in FIRST_ASKED if label in by_label]
    table = environment(places, known)
    rows = [row for group in table.groups.values() for row in group]
    return TextTable(table.head, {"": [_in_gigabytes(row) for row in rows]}, n_labels=len(table.head))


def _in_gigabytes(row: tuple[str, ...]) -> tuple[str, ...]:
    if not row[0].startswith(BYTES):
        return row
    cells = (f"{float(cell) / 1e9:.0f} GB" if cell.isdecimal() else cell for cell in row[1:])
    return (row[0].replace(BYTES, "memory"), *cells)


def environment(places: list[str], findings: list[Finding]) -> TextTable:
    """All facts, one row each.

    Up to N_PLACES devices have a column each; with more devices, one column has each value with its devices.
    """
    groups: dict[str, list[tuple[str, ...]]] = {}
    few = len(places) <= N_PLACES
    for each in findings:
        if few:
            cells = tuple(value_at(each, where) for where in places)
        else:
            cells = ("; ".join(f"{value}{_who(where, places)}" for value, where in each.values.items()),)
        groups.setdefault(each.group, []).append((f"{each.label} ≠" if each.differs else each.label, *cells))
    head = ("fact", *places) if few else ("fact", f"value at the {len(places)} devices")
    return TextTable(head, groups, n_labels=len(head))


def _who(having: list[str], places: list[str]) -> str:
    return "" if len(having) == len(places) else f" ({listed(having, 2)})"
