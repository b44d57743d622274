"""The result of every planned case on every node: done, flagged, failed or missing, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import query
from harness.engines import registry
from harness.plan.cases import Block, Case
from harness.query.sql import FAILED, OK
from harness.schema import Role, identity
from harness.store import Store

# The result of each case; failures of passes count as well, failures that a later attempt repaired do not.
REQUEST = identity.without((field.name for field in fields(Case)), "height_px", "width_px")  # a crop has one size
SQL = f"""
    WITH attempts AS (
        SELECT *, coalesce(attempt, 0) = max(coalesce(attempt, 0))
                  OVER (PARTITION BY node, device, block, role, position) AS is_latest
        FROM samples WHERE run_id = $run AND crop <> 'control')
    SELECT node, device, {", ".join(REQUEST)},
           count(*) FILTER (role = '{Role.TIMED}' AND {OK}) AS n_timed,
           count(*) FILTER (role = '{Role.TIMED}' AND {OK} AND flags <> '') AS n_flagged,
           string_agg(DISTINCT status, ', ') FILTER (is_latest AND {FAILED}) AS failed,
           any_value(error_message) FILTER (is_latest AND {FAILED}) AS why
    FROM attempts GROUP BY ALL"""


def table(store: Store, run_id: str, planned: Sequence[Block]) -> pa.Table:
    """One row per planned case and node: verdict done, flagged, failed or missing, and why."""
    found = {
        tuple(row[name] for name in ("node", "device", *REQUEST)): row
        for row in query.Session(store).table(SQL, run=run_id).to_pylist()
    }
    wanted = dict.fromkeys((b.node, b.device.id, case) for b in planned for case in b.cases)
    keys = [(node, device, *map(_in_force(case).get, REQUEST)) for node, device, case in wanted]
    return pa.Table.from_pylist([_row(*each, found.get(key)) for each, key in zip(wanted, keys, strict=True)])


def _in_force(case: Case) -> dict[str, Any]:
    """The columns of a case as its rows hold them."""
    engine = registry.engine_of(case.model)
    return {**asdict(case), **engine.in_force(engine.variant(case.variant))}


def bad(covered: pa.Table) -> int:
    """The number of failed or missing cases."""
    return sum(verdict in ("failed", "missing") for verdict in covered["verdict"].to_pylist())


def _row(node: str, device: str, case: Case, found: dict | None) -> dict:
    n_timed, n_flagged = (found["n_timed"], found["n_flagged"]) if found else (0, 0)
    if found and found["failed"]:
        verdict, why = "failed", f"{found['failed']}: {found['why']}"
    elif not n_timed:
        verdict, why = "missing", "no repetition of it was stored"
    elif n_flagged:
        verdict, why = "flagged", f"{n_flagged} of {n_timed} repetitions"
    else:
        verdict, why = "done", None
    return {
        "node": node, "device": device, **asdict(case),
        "verdict": verdict, "n_timed": n_timed, "n_flagged": n_flagged, "why": why,
    }  # fmt: skip


def show(console: Console, covered: pa.Table) -> None:
    """Print a matrix, node and device × case, then the reason for each failed or missing case."""
    rows = covered.to_pylist()
    dimensions = identity.differing(rows, identity.without(REQUEST, "crop"))
    cases = list(dict.fromkeys(_case(row, dimensions) for row in rows))
    grid = Table(box=None, pad_edge=False, title_justify="left", title="coverage (repetitions, or the failure)")
    grid.add_column("node")
    grid.add_column("device")
    for case in sorted(cases, key=_by_size):
        grid.add_column(case, justify="right")
    for node, device in dict.fromkeys((row["node"], row["device"]) for row in rows):
        cells = {_case(row, dimensions): _cell(row) for row in rows if (row["node"], row["device"]) == (node, device)}
        grid.add_row(escape(node), device, *(cells.get(case, "") for case in sorted(cases, key=_by_size)))
    console.print(grid)
    for why in dict.fromkeys(
        f"! {row['node']} {row['device']}: {row['why']}" for row in rows if row["verdict"] in ("failed", "missing")
    ):
        console.print(why, style="bold yellow", markup=False)


def _case(row: dict, dimensions: Sequence[str]) -> str:
    """The crop, and the other columns that differ in this run."""
    return " ".join(row[name] for name in ("crop", *dimensions))


def _by_size(case: str) -> tuple[float, str]:
    crop = case.split(maxsplit=1)[0]
    return (float(crop) if crop.isdigit() else float("inf"), case)


def _cell(row: dict) -> str:
    if row["verdict"] == "flagged":
        return f"{row['n_timed']} ({row['n_flagged']} flagged)"
    return str(row["n_timed"]) if row["verdict"] == "done" else row["verdict"]
