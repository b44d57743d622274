"""The cost of other models compared with the default one on the same device, and their accuracy on drawn images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness.engines import registry
from harness.engines.base import STOCK
from harness.results import speedups
from harness.results.formatting import Row
from harness.results.tables import Tables
from harness.schema import identity
from harness.stats import intervals
from harness.stats.intervals import Interval

# The columns that two models must share before their times are divided: all except those that make up a model.
ALIKE = (
    "run_id", "source", "workload", "image_sha256", *identity.SIZE, "protocol", "protocol_version", "torch_threads",
    *identity.MACHINE, *identity.DEVICE, "torch_version",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """A model's documented call compared with the default model's at one size. known: the ratio of their medians."""

    row: Row
    base: Row
    known: Interval


@lru_cache(maxsize=2)
def costs(tables: Tables) -> Sequence[Cost]:
    """Each stock case of another model with the default model's, in the order of the cases."""
    default, durations = registry.default_model(), speedups.processes(tables)
    stock = [row for row in tables.cases if row["variant"] == STOCK]
    bases = {identity.values(row, ALIKE): row for row in stock if row["model"] == default}
    pairs = [
        (row, bases[key])
        for row in stock
        if row["model"] not in (default, None) and (key := identity.values(row, ALIKE)) in bases
    ]
    return [
        Cost(row, base, intervals.of_ratio(*(durations[each["run_id"], each["case_id"]] for each in (row, base))))
        for row, base in pairs
    ]


def accuracies(tables: Tables) -> list[tuple[Row, Row]]:
    """Cases with the comparison of their masks with the cells that were drawn, where there is one."""
    beside = [(row, tables.agreement_of(row)) for row in tables.cases]
    return [(row, found) for row, found in beside if found and found["truth_f1"] is not None]
