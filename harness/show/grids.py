"""The report's tables as text: cases, times, ratios, stages, failures, environment."""

from __future__ import annotations

from dataclasses import dataclass

from harness.measure.stages import PASSES, STAGES
from harness.query import Session
from harness.show import advice, charts
from harness.show.charts import Tables
from harness.show.wording import Row, number, percent, series_namer, size_label

ENVIRONMENT = {
    "cpu_model": "processor",
    "n_cores": "cores",
    "torch_threads": "threads of torch",
    "openmp_threads": "OMP_NUM_THREADS",
    "opencv_threads": "threads of OpenCV",
    "numba_threads": "threads of numba",
    "ram_bytes": "memory in bytes",
    "os": "operating system",
    "arch": "architecture",
    "sync": "waited for the device with",
    "dispatch": "dispatched by",
    "harness_version": "cellbench",
    "python_version": "Python",
    "torch_version": "torch",
    "cellpose_version": "cellpose",
    "numpy_version": "numpy",
    "numba_version": "numba",
    "opencv_version": "OpenCV",
    "ray_version": "Ray",
    "weights": "weights",
    "weights_sha256": "SHA-256 of the weights",
    "size_model_sha256": "SHA-256 of the size model",
    "image": "image",
    "image_sha256": "SHA-256 of the image’s pixels",
}


@dataclass(frozen=True)
class Grid:
    """A table as text, ready to be shown; the first `n_labels` columns are words, the others numbers."""

    head: tuple[str, ...]
    groups: dict[str, list[tuple[str, ...]]]  # heading, empty for none → rows
    n_labels: int = 1

    @classmethod
    def grouped(cls, head: tuple[str, ...], rows: list[tuple[str, ...]], n_labels: int = 1) -> Grid:
        """Rows whose first item is the heading they belong under."""
        headings = dict.fromkeys(row[0] for row in rows)
        return cls(head, {name: [row[1:] for row in rows if row[0] == name] for name in headings}, n_labels)


def cases(data: Tables) -> Grid:
    """One row per case: medians, spread, cells, speed-up; flags where there are any."""
    medians = data.medians.to_pylist()
    name = series_namer(medians)
    speedups = {row["case_id"]: row["speedup"] for row in data.speedups.to_pylist()}
    columns = {
        "crop": lambda row: row["crop"],
        "protocol": lambda row: row["protocol"] or "–",
        "n": lambda row: str(row["n"]),
        "median s": lambda row: number(row["median_s"]),
        "IQR s": _range,
        "mean ± SD s": lambda row: f"{number(row['mean_s'])} ± {number(row['sd_s'], 2)}",
        "mean ± 95 %": lambda row: "–" if row["precision"] is None else f"{100 * row['precision']:.2g}\u00a0%",
        "cells": lambda row: number(row["n_cells"], 1),
        "diameter px": lambda row: number(row["diameter_px"]),
        "speed-up": lambda row: number(speedups.get(row["case_id"])),
        "flagged": lambda row: f"{row['n_flagged']} ({row['flags']})" if row["n_flagged"] else "–",
    }
    if not any(row["n_flagged"] for row in medians):
        del columns["flagged"]
    rows = [(name(row), *(text(row) for text in columns.values())) for row in medians]
    return Grid.grouped(tuple(columns), rows, n_labels=2)


def times(data: Tables) -> Grid:
    """The numbers of the figure of times."""
    medians = data.medians.to_pylist()
    name = series_namer(medians)
    own = [(name(row), _pixels(row), str(row["n"]), number(row["median_s"]), _range(row)) for row in medians]
    others = [
        (f"{row['series']}: means", row["size"], "5", number(row["mean_s"]), "–")
        for row in charts.reference(data, "mean_s")
    ]
    return Grid.grouped(("image in px", "n", "median s", "IQR s"), own + others)


def ratios(data: Tables) -> Grid:
    """The numbers of the figures of shares and speed-ups."""
    name = series_namer(data.medians.to_pylist())
    own = [(name(row), _pixels(row), row["median_s"], row["cpu_median_s"], row) for row in data.speedups.to_pylist()]
    others = [
        (f"{row['series']}: means", row["size"], row["mean_s"], row["cpu_mean_s"], row)
        for row in charts.reference(data, "speedup")
    ]
    rows = [
        (series, size, *map(number, (seconds, cpu_s, row["percent_of_cpu"], row["speedup"])))
        for series, size, seconds, cpu_s, row in own + others
    ]
    return Grid.grouped(("image in px", "accelerator s", "CPU s", "% of CPU time", "speed-up"), rows)


def stages(data: Tables) -> Grid:
    """The numbers of the figure of the stage pass: a row a stage, a column a pass."""
    cases = advice.by_case(data.stages.to_pylist())
    name = charts.stage_namer(data)
    passes = [each for each in PASSES if any(each in advice.passes(case) for case in cases)]
    rows = []
    for case in cases:
        heading = f"{name(case[0])}, {size_label(case[0])}"
        for line in advice.lines(case):
            seconds = (number(line.by_pass_s[each]) if each in line.by_pass_s else "" for each in passes)
            rows.append(
                (heading, advice.stage_label(line.stage), *seconds, number(line.total_s), percent(line.share, 1))
            )
        rows.append((heading, "whole call", *("" for _ in passes), number(case[0]["total_s"]), percent(1, 1)))
    labels = [f"{each} pass s" if each != "none" else "outside s" for each in passes]
    return Grid.grouped(("stage", *labels, "all s", "share"), rows)


def stage_meanings() -> dict[str, str]:
    """What each stage is, by the name it has in the tables."""
    return {advice.stage_label(stage): meaning for stage, meaning in STAGES.items()}


def failures(data: Tables) -> Grid:
    """What did not end well, and why."""
    columns = ("node", "device", "crop", "role", "phase", "status", "error_type", "error_message")
    rows = [tuple(str(row[column] or "–") for column in columns) for row in data.failures.to_pylist()]
    return Grid(tuple(column.replace("_", " ") for column in columns), {"": rows}, n_labels=len(columns))


def environment(session: Session, run: str) -> Grid:
    """One row a fact, one column a device; several values of one device stand side by side."""
    facts = ", ".join(f"string_agg(DISTINCT {fact}::VARCHAR, ', ' ORDER BY {fact}::VARCHAR)" for fact in ENVIRONMENT)
    columns = session.table(
        f"SELECT concat_ws(' ', node, device), max(device_name), {facts} FROM samples "
        "WHERE run_id = $run AND image IS DISTINCT FROM 'control' GROUP BY node, device ORDER BY node, device",
        run=run,
    ).columns
    places, names, *values = [[str(value or "–") for value in column.to_pylist()] for column in columns]
    labels = ["device", *ENVIRONMENT.values()]
    rows = [(label, *row) for label, row in zip(labels, [names, *values], strict=True)]
    return Grid(("", *places), {"": rows}, n_labels=len(places) + 1)


def _pixels(row: Row) -> str:
    return f"{row['height_px']} × {row['width_px']}"


def _range(row: Row) -> str:
    return f"{number(row['q1_s'])} – {number(row['q3_s'])}"
