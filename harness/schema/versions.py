"""The versions of the schema: the additions of each, and how rows of older versions are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 4
HISTORY = {
    1: "samples: one row per repetition, failure or start-up phase.",
    2: "rows of new roles: control case, stages, ceilings, memory, energy, masks. Flags and live readings with each "
    "sample, and the environment of the node with each block.",
    3: "fleets: the node that drove the run, statuses timeout and node_lost, imported timings. Required columns are "
    "checked when a sample is written.",
    4: "engines: the program that segments, its version and number format. Machines: an id instead of the name, the "
    "instruction set and the quota of the processor. Variants are stored in their canonical form; "
    "batch size, diameter and threads as they were in force. Names of cases and series (case_id, series_key) are new; "
    "rows of older versions get theirs when they are read, with engine cellpose3, model cyto3 and dtype float32.",
}
ENGINES_SINCE = 4
# The engine of every row before there was a choice.
BEFORE_ENGINES = {"engine": "cellpose3", "model": "cyto3", "dtype": "float32"}
SIMULATED = "simulated"  # the engine, and since version 1 the workload, that measures nothing


def defaults(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a row of a version before 4 lacks or leaves null, with their values at that time."""
    engine = SIMULATED if row.get("workload") == SIMULATED else BEFORE_ENGINES["engine"]
    return {name: row.get(name) or value for name, value in {**BEFORE_ENGINES, "engine": engine}.items()}
