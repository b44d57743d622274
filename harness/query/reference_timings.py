"""The article's timings as a reference for the user's own: means of a desktop and of an M1."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

PROTOCOL = "article"

ORIGIN = (
    "The published series are the figure labels of the article “Benchmarking Cellpose” (2024-08-31): mean seconds of "
    "5 repetitions on one phase-contrast image of 2160 × 2560 px, model cyto3, diameter estimation on, cellpose "
    "3.0.11, torch 2.4.0, on a desktop (Intel i7-8086K, NVIDIA RTX 4070) and an Apple M1. The model was built inside "
    "the timed region, which is the protocol “article” here. It is one run, published without its spread: read it as a "
    "reference, not as a baseline to beat."
)


def means() -> pa.Table:
    """Mean seconds per machine, backend and crop: the columns of the file and length_px."""
    with resources.files("harness").joinpath("query/reference_timings.csv").open("rb") as file:
        table = csv.read_csv(file)
    area = table["height_px"].to_numpy() * table["width_px"].to_numpy()
    return table.append_column("length_px", pa.array(np.sqrt(area)))


def speedups(means: pa.Table) -> pa.Table:
    """Each accelerator's mean with its machine's CPU's: the same columns, cpu_mean_s, speedup, percent_of_cpu."""
    rows = means.to_pylist()
    cpu_s = {_place(row): row["mean_s"] for row in rows if row["backend"] == "cpu"}
    beside = [{**row, "cpu_mean_s": cpu_s[_place(row)]} for row in rows if row["backend"] != "cpu"]
    ratios = [{"speedup": row["cpu_mean_s"] / row["mean_s"]} for row in beside]
    return pa.Table.from_pylist(
        [{**row, **ratio, "percent_of_cpu": 100 / ratio["speedup"]} for row, ratio in zip(beside, ratios, strict=True)]
    )


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["machine"], row["height_px"], row["width_px"]
