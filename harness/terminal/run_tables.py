"""Tables on the terminal: data on stdout, notes about them on stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from harness import query
from harness.errors import CellbenchError
from harness.results.formatting import device_label, percent, seconds, size_label
from harness.store import Store
from harness.terminal.writers import show, stdout

# Medians are worked out once, and each accelerator's put beside the CPU's.
CASES = f"""
    WITH m AS MATERIALIZED (SELECT * FROM medians WHERE run_id = $run_id)
    SELECT m.crop, m.device, m.device_name, m.node, m.protocol, m.image, m.weights, m.n,
           m.median_s, m.q1_s, m.q3_s, m.mean_s, m.sd_s, m.precision, m.stop_reason, m.n_blocks, m.n_flagged, m.flags,
           m.n_cells, m.diameter_px, m.n_distinct_masks,
           cpu.median_s / m.median_s AS speedup
    FROM m LEFT JOIN m AS cpu ON m.backend <> 'cpu' AND cpu.backend = 'cpu' AND {query.same_work("m", "cpu")}
    ORDER BY m.protocol DESC, m.node, m.n_pixels, m.backend = 'cpu' DESC, m.device
"""

STAGES = """
    SELECT s.*, m.image, m.weights, m.torch_threads
    FROM stages AS s LEFT JOIN medians AS m USING (run_id, case_id)
    WHERE s.run_id = $run_id
    ORDER BY s.protocol DESC, s.node, s.backend = 'cpu' DESC, s.device, s.n_pixels, s.stage_pass, s.stage
"""

# What was looked at besides times; a column whose pass was not asked for, or not possible here, is left out.
PASSES = """
    SELECT m.crop, m.device, m.node,
           max(a.agreement) FILTER (a.diameter_asked_px = 0) AS masks,
           max(a.agreement) FILTER (a.diameter_asked_px > 0) AS masks_at_cpu_diameter,
           max(a.ap50) FILTER (a.diameter_asked_px = 0) AS ap50,
           max(a.ap90) FILTER (a.diameter_asked_px = 0) AS ap90,
           max(a.reference_n_cells) AS cells_on_cpu, max(a.delta_cells) FILTER (a.diameter_asked_px = 0) AS delta_cells,
           round(max(p.peak_rss_bytes) / 1e9, 2) AS peak_rss_gb, max(p.rss_method) AS rss_method,
           round(max(p.cuda_allocated_bytes) / 1e9, 2) AS cuda_allocated_gb,
           round(max(p.cuda_reserved_bytes) / 1e9, 2) AS cuda_reserved_gb,
           round(max(p.mps_current_bytes) / 1e9, 2) AS mps_current_gb,
           round(max(p.mps_driver_bytes) / 1e9, 2) AS mps_driver_gb,
           max(e.energy_per_call_j) AS energy_per_call_j, max(e.energy_method) AS energy_method
    FROM medians AS m LEFT JOIN agreement AS a USING (run_id, case_id)
         LEFT JOIN memory AS p USING (run_id, case_id) LEFT JOIN energy AS e USING (run_id, case_id)
    WHERE m.run_id = $run_id AND (a.run_id IS NOT NULL OR p.run_id IS NOT NULL OR e.run_id IS NOT NULL)
    GROUP BY m.node, m.device, m.backend, m.crop, m.n_pixels
    ORDER BY m.node, m.n_pixels, m.backend = 'cpu' DESC, m.device
"""

STOPPED_SHORT = {
    "time_cap": "stopped by the time cap before the mean was known as well as asked for",
    "plateau": "stopped where more repetitions no longer helped: the machine itself wanders",
    "n_max": "stopped at the most repetitions allowed before the mean was known as well as asked for",
}


def cases(store: Store, run_id: str | None) -> pa.Table:
    """One row per case of a run (the latest if None), as `cellbench show` prints them."""
    session, run = query.Session.of_run(store, run_id)
    return session.table(CASES, run_id=run)


def stages(store: Store, run_id: str | None) -> tuple[pa.Table, pa.Table]:
    """One row per part of each case's call in a run (the latest if None), and the devices' ceilings."""
    session, run = query.Session.of_run(store, run_id)
    return session.table(STAGES, run_id=run), session.table("SELECT * FROM ceilings WHERE run_id = $run", run=run)


def passes(store: Store, run_id: str | None) -> pa.Table:
    """One row per case that was looked at besides its time in a run (the latest if None): masks, memory, energy."""
    session, run = query.Session.of_run(store, run_id)
    found = session.table(PASSES, run_id=run)
    if not found.num_rows:
        raise CellbenchError(
            "this run looked at neither masks nor memory nor energy", None, "make one: cellbench run --passes masks"
        )
    return found.select([name for name in found.column_names if found[name].null_count < found.num_rows])


def races(store: Store, run_id: str | None) -> pa.Table:
    """One row per race and variant of a run (the latest if None): how many times as fast as stock, with its masks."""
    from harness.results import scope, tables, tuning_results  # only a search for speed has any

    session = query.Session.of_run(store, run_id)[0]
    found = session.table(tables.sql("races", scope.resolve(session, run_id)))
    kept = ("node", "device", "image", "crop", "block", "variant", "n", "median_s")
    return pa.Table.from_pylist([
        {name: each.row[name] for name in kept}
        | {"times_stock": each.speedup, "low": each.low, "high": each.high, "masks": each.row["masks"]}
        for each in tuning_results.from_rows(found.to_pylist())
    ])  # fmt: skip


def print_table(table: pa.Table, form: str = "table") -> None:
    """Print rows on stdout: as a table for people, or as json, csv or md for programs."""
    show(table.schema, table.to_batches(), form, limit=0)


def print_cases(table: pa.Table) -> None:
    """Print the table of cases as people read it: rounded, with units."""
    if not table.num_rows:
        raise CellbenchError("this run has no successful timed repetition", None, "see: cellbench query failures")
    rows = table.to_pylist()
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "crop": lambda r: r["crop"],
        "device": lambda r: r["device"],
        "node": lambda r: r["node"],
        "protocol": lambda r: r["protocol"],
        "median": lambda r: seconds(r["median_s"]),
        "IQR": lambda r: f"{seconds(r['q1_s'])} – {seconds(r['q3_s'])}",
        "mean ± SD": lambda r: f"{seconds(r['mean_s'])} ± {seconds(r['sd_s'])}",
        "95 % of mean": lambda r: "" if r["precision"] is None else f"±{100 * r['precision']:.2g} %",
        "n": lambda r: str(r["n"]),
        "cells": lambda r: str(r["n_cells"]),
        "diameter": lambda r: f"{r['diameter_px']:.1f} px",
        "speed-up": lambda r: "" if r["speedup"] is None else f"{r['speedup']:.2f}×",
        "flags": lambda r: f"{r['n_flagged']} of {r['n']}: {r['flags']}" if r["n_flagged"] else "",
    }
    for name in ("node", "protocol"):
        if len({row[name] for row in rows}) == 1:
            del columns[name]
    for name in ("speed-up", "flags"):
        if not any(columns[name](row) for row in rows):
            del columns[name]
    shown = Table(box=None, pad_edge=False)
    for name in columns:
        shown.add_column(name, justify="left" if name in ("device", "node", "protocol") else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(text(row) for text in columns.values()))
    stdout().print(shown)
    for note in _notes(rows):
        Console(stderr=True, highlight=False).print(note, markup=False)


def print_stages(table: pa.Table, ceilings: pa.Table) -> None:
    """Print where the time of one call goes, a table for each device and crop, with what it tells."""
    from harness.results import advice  # the plan and its configuration come with it, which other tables can do without

    rows = table.to_pylist()
    if not rows:
        raise CellbenchError("this run has no stage pass", None, "make one: cellbench run --passes stages")
    best = {(row["node"], row["device"]): row for row in ceilings.to_pylist()}
    for case in advice.by_case(rows):
        first = case[0]
        title = f"{device_label(first)}, {size_label(first)}, protocol {first['protocol']}: {seconds(first['total_s'])}"
        stdout().print(title, markup=False, style="bold")
        stdout().print(_stage_table(case))
        found = advice.findings(case, best.get((first["node"], first["device"])))
        for text in [*found, *advice.advise(first["backend"], advice.shares(case))]:
            stdout().print(text, markup=False)
        stdout().print()
    notes = ["medians of the stage pass; a stage's time is without the stages inside it", *_provenance(rows)]
    for note in notes:
        Console(stderr=True, highlight=False).print(note, markup=False)


def _stage_table(case: list[dict[str, Any]]) -> Table:
    from harness.results import advice

    passes = advice.passes(case)
    shown = Table(box=None, pad_edge=False)
    shown.add_column("stage")
    for name in (*("outside" if name == "none" else name for name in passes), "all", "share"):
        shown.add_column(name, justify="right", no_wrap=True)
    for line in advice.lines(case):
        times = (seconds(line.by_pass_s[name]) if name in line.by_pass_s else "" for name in passes)
        shown.add_row(line.label, *times, seconds(line.total_s), percent(line.share, 1))
    return shown


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of the table must know besides the figures."""
    names = sorted({f"{row['device']} is {row['device_name']}" for row in rows})
    notes = ["; ".join(names)]
    images = sorted({row["image"] for row in rows})
    blocks = max(row["n_blocks"] for row in rows)
    spread = "within one process" if blocks == 1 else f"over {blocks} processes"
    notes.append(f"image {', '.join(images)}; spread and the mean's 95 % interval are {spread}")
    if flagged := sum(row["n_flagged"] for row in rows):
        notes.append(f"{flagged} of {sum(row['n'] for row in rows)} repetitions carry a flag; none is left out")
    for reason, meaning in STOPPED_SHORT.items():
        short = [f"{r['device']} {r['crop']}" for r in rows if reason in (r["stop_reason"] or "")]
        if short:
            notes.append(f"{meaning}: {', '.join(short)}")
    if wavering := [f"{r['device']} {r['crop']}" for r in rows if r["n_distinct_masks"] > 1]:
        notes.append(f"masks differed between repetitions: {', '.join(wavering)}")
    return notes + _provenance(rows)


def _provenance(rows: list[dict[str, Any]]) -> list[str]:
    if any(row["weights"] == "standin" for row in rows):
        return ["stand-in weights: the network costs what cyto3's costs, the masks are not cyto3's"]
    return []
