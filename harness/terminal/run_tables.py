"""Tables on the terminal: data on stdout, notes about them on stderr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from harness import query
from harness.errors import CellbenchError
from harness.query.named import CASE
from harness.query.sql import WORST
from harness.results.formatting import (
    device_label,
    duration,
    extras,
    flagged,
    models_with,
    number,
    percent,
    pixels,
    seconds,
    size_label,
    text,
)
from harness.schema import identity
from harness.stats.student import PROCESSES_MIN
from harness.store import Store
from harness.terminal.dimensions import ALWAYS, common_text, dimensions_shown, without_constants
from harness.terminal.table_printer import TABLE, Column, print_columns, stderr, stdout
from harness.terminal.writers import show

KEYS = ("run_id", "case_id")  # of a case, for programs
# Medians are computed once, and each accelerator's is compared with the CPU's.
CASES = f"""
    WITH m AS MATERIALIZED (SELECT * FROM medians WHERE run_id = $run_id)
    SELECT {", ".join(f"m.{name}" for name in (*CASE, *KEYS))}, m.n,
           m.median_s, m.q1_s, m.q3_s, m.mean_s, m.sd_s, m.precision, m.stop_reason, m.n_blocks, m.n_flagged, m.flags,
           m.n_cells, m.diameter_px, m.n_distinct_masks,
           cpu.median_s / m.median_s AS speedup
    FROM m LEFT JOIN m AS cpu ON m.backend <> 'cpu' AND cpu.backend = 'cpu' AND {query.beside("m", "cpu")}
    ORDER BY m.protocol DESC, m.node, m.model, m.n_pixels, m.backend = 'cpu' DESC, m.device, m.variant, m.case_id
"""

STAGES = """
    SELECT * FROM stages WHERE run_id = $run_id
    ORDER BY protocol DESC, node, model, backend = 'cpu' DESC, device, variant, n_pixels, case_id, stage_pass, stage
"""

# The results of the passes; a column whose pass was not requested, or not possible here, is left out. Of several words
# about one case the worst counts.
PASSES = f"""
    WITH masks AS (
        SELECT run_id, case_id, {WORST} FILTER (as_timed) AS masks,
               {WORST} FILTER (NOT as_timed) AS masks_at_cpu_diameter,
               min(ap50) FILTER (as_timed) AS ap50, min(ap90) FILTER (as_timed) AS ap90,
               max(reference_n_cells) AS cells_on_cpu,
               arg_max(delta_cells, abs(delta_cells)) FILTER (as_timed) AS delta_cells
        FROM agreement GROUP BY ALL),
    peaks AS (
        SELECT run_id, case_id, round(max(peak_rss_bytes) / 1e9, 2) AS peak_rss_gb, max(rss_method) AS rss_method,
               round(max(cuda_allocated_bytes) / 1e9, 2) AS cuda_allocated_gb,
               round(max(cuda_reserved_bytes) / 1e9, 2) AS cuda_reserved_gb,
               round(max(mps_current_bytes) / 1e9, 2) AS mps_current_gb,
               round(max(mps_driver_bytes) / 1e9, 2) AS mps_driver_gb
        FROM memory GROUP BY ALL),
    joules AS (
        SELECT run_id, case_id, max(gross_per_call_j) AS gross_per_call_j, max(energy_per_call_j) AS energy_per_call_j,
               max(energy_method) AS energy_method
        FROM energy GROUP BY ALL)
    SELECT {", ".join(CASE)}, masks.* EXCLUDE (run_id, case_id), peaks.* EXCLUDE (run_id, case_id),
           joules.* EXCLUDE (run_id, case_id)
    FROM medians LEFT JOIN masks USING (run_id, case_id) LEFT JOIN peaks USING (run_id, case_id)
         LEFT JOIN joules USING (run_id, case_id)
    WHERE run_id = $run_id
          AND (masks.run_id IS NOT NULL OR peaks.run_id IS NOT NULL OR joules.run_id IS NOT NULL)
    ORDER BY node, model, n_pixels, backend = 'cpu' DESC, device, variant, case_id
"""

N_IMAGES, N_CLOSING = 1000, 4  # images, and lines about them, after a run

STOPPED_SHORT = {
    "time_cap": "stopped at the time limit before the CI of the mean was as narrow as requested",
    "plateau": "stopped where more repetitions did not narrow the CI of the mean: the machine is unstable",
    "n_max": "stopped at the maximum number of repetitions before the CI of the mean was as narrow as requested",
}


def cases(store: Store, run_id: str | None) -> pa.Table:
    """One row per case of a run (by default the latest), as `cellbench show` prints them."""
    session, run = query.Session.of_run(store, run_id)
    return session.table(CASES, run_id=run)


def stages(store: Store, run_id: str | None) -> tuple[pa.Table, pa.Table]:
    """One row per part of each case's call in a run (by default the latest), and the devices' ceilings."""
    session, run = query.Session.of_run(store, run_id)
    return session.table(STAGES, run_id=run), session.table("SELECT * FROM ceilings WHERE run_id = $run", run=run)


def passes(store: Store, run_id: str | None) -> pa.Table:
    """One row per case with a pass in a run (by default the latest): masks, memory, energy."""
    session, run = query.Session.of_run(store, run_id)
    found = session.table(PASSES, run_id=run)
    if not found.num_rows:
        raise CellbenchError(
            "this run has no pass of masks, memory or energy", None, "make one: cellbench run --passes masks"
        )
    known = [name for name in found.column_names if name in CASE or found[name].null_count < found.num_rows]
    return found.select(known)


def races(store: Store, run_id: str | None) -> pa.Table:
    """One row per race and variant of a run (by default the latest): its speed-up over stock, with its masks."""
    from harness.results import scope, tables, tuning_results  # only a search has any

    session = query.Session.of_run(store, run_id)[0]
    found = session.table(tables.sql("races", scope.resolve(session, run_id)))
    return pa.Table.from_pylist([
        {name: each.row[name] for name in (*CASE, "block", "n", "median_s")}
        | {"times_stock": each.speedup, "low": each.low, "high": each.high, "masks": each.row["masks"]}
        for each in tuning_results.from_rows(found.to_pylist())
    ])  # fmt: skip


def print_dimensions(table: pa.Table, form: str) -> None:
    """Print rows about cases: all columns for programs, the distinguishing ones for people."""
    for_people = table.drop_columns([name for name in KEYS if name in table.column_names])
    print_table(table if form in ("json", "csv") else without_constants(for_people, CASE), form, CASE)


def print_table(table: pa.Table, form: str = TABLE, labels: Sequence[str] = ()) -> None:
    """Print rows on stdout: as a table for people, or as json, csv or md for programs; labels distinguish rows."""
    show(
        table.schema, table.to_batches(), form, limit=0, labels=[each for each in labels if each in table.column_names]
    )


def print_cases(table: pa.Table, form: str = TABLE) -> None:
    """Print the table of cases for people: rounded, with units."""
    from harness.results import findings, sentences  # the engines come with them

    if not table.num_rows:
        raise CellbenchError("this run has no successful timed repetition", None, "see: cellbench query failure-causes")
    rows = table.to_pylist()
    labels = dimensions_shown(rows, CASE, ("crop", "device"))
    figures: list[tuple[Column, Callable[[dict[str, Any]], str]]] = [
        (Column("median (s)", True), lambda r: number(r["median_s"])),
        (Column("IQR (s)", True, 4), lambda r: f"{number(r['q1_s'])} – {number(r['q3_s'])}"),
        (Column("mean ± SD (s)", True, 6), lambda r: f"{number(r['mean_s'])} ± {number(r['sd_s'], 2)}"),
        (
            Column("95 % CI of mean", True, 5),
            lambda r: "" if r["precision"] is None else f"±{100 * r['precision']:.2g} %",
        ),
        (Column("images/h", True, 1), lambda r: number(3600 / r["median_s"])),
        (Column("n", True, 2), lambda r: str(r["n"])),
        (Column("cells", True, 3), lambda r: "–" if r["n_cells"] is None else f"{r['n_cells']:,}"),
        (Column("diameter (px)", True, 7), lambda r: number(r["diameter_px"])),
        (Column("speed-up", True), lambda r: "" if r["speedup"] is None else f"{r['speedup']:.2f}×"),
        (Column("flags", False, 8), lambda r: f"{r['n_flagged']} of {r['n']}: {r['flags']}" if r["n_flagged"] else ""),
    ]
    for rare in ("95 % CI of mean", "speed-up", "flags"):
        figures = [(column, cell) for column, cell in figures if column.name != rare or any(map(cell, rows))]
    named = [
        (Column(identity.word(name), name == "crop", is_whole=name in ALWAYS), partial(_label, column=name))
        for name in sorted(labels, key=lambda name: name != "crop")
    ]
    longest_s = max(row["median_s"] for row in rows)
    columns = [*named, *figures, (Column("", order=9), lambda r: bar(r["median_s"] / longest_s))]
    notes = stderr()
    if common := common_text(rows, identity.without(CASE, labels)):
        notes.print(common, markup=False)
    known = findings.of_cases(rows)
    for finding in known:
        if finding.kind == findings.Kind.ALL_FLAGGED:
            notes.print(f"CAUTION: {sentences.sentence(finding)}", markup=False, style="bold red")
    print_columns([column for column, _ in columns], [[cell(row) for _, cell in columns] for row in rows], form)
    above = {findings.Kind.ALL_FLAGGED, findings.Kind.UNSTABLE}  # above the table, and by name among the notes
    others = [sentences.sentence(finding) for finding in known if finding.kind not in above]
    for note in [*_notes(rows, labels), *others]:
        notes.print(note, markup=False)


def print_stages(table: pa.Table, ceilings: pa.Table, form: str = TABLE) -> None:
    """Print the time of each stage of a call, a table for each device and crop, with advice."""
    from harness.results import advice, sentences  # the engines come with them, which other tables can do without

    rows = table.to_pylist()
    if not rows:
        raise CellbenchError("this run has no stage pass", None, "make one: cellbench run --passes stages")
    best = advice.best_rates(ceilings.to_pylist())
    cases = advice.by_case(rows)
    labels = dimensions_shown([case[0] for case in cases], CASE, ("device", "device_name", *identity.SIZE, "protocol"))
    for case in cases:
        first = case[0]
        title = f"{device_label(first)}, {size_label(first)}, protocol {first['protocol']}"
        title += f"{extras(first, identity.without(labels, identity.SIZE, 'protocol'))}: {seconds(first['total_s'])}"
        stdout().print(title, markup=False, style="bold")
        print_columns(*_stage_table(case), form)
        found = advice.findings(case, best.get(advice.place(first)))
        for each in [*found, *advice.advise(case)]:
            stdout().print(sentences.sentence(each), markup=False)
        stdout().print()
    notes = ["medians of the stage pass; a stage's time is without the stages inside it", *_provenance(rows)]
    for note in notes:
        stderr().print(note, markup=False)


def _stage_table(case: list[dict[str, Any]]) -> tuple[list[Column], list[tuple[str, ...]]]:
    """Columns and rows: a line a stage, with its time in each network pass in ms."""
    from harness.results import advice

    passes = advice.passes(case)
    names = ("outside" if name == "none" else name for name in passes)
    columns = [
        Column("stage (ms)"),
        *(Column(name, True, 1) for name in names),
        Column("all", True),
        Column("share", True),
    ]
    return columns, [
        (
            line.label,
            *(_ms(line.by_pass_s[name]) if name in line.by_pass_s else "" for name in passes),
            _ms(line.total_s),
            percent(line.share, 1),
        )
        for line in advice.lines(case)
    ]


def _ms(value_s: float | None) -> str:
    return "–" if value_s is None else number(1000 * value_s)


def bar(share: float, length: int = 12) -> str:
    """A bar of this length for a share of 1; at least the thinnest one."""
    eighths = max(1, round(8 * length * share))
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def closing(table: pa.Table) -> list[str]:
    """The last lines of a run: the time for many images of the largest size on each device, and the next commands."""
    rows = sorted(table.to_pylist(), key=lambda row: (-row["height_px"] * row["width_px"], row["median_s"]))
    largest = [row for row in rows if pixels(row) == pixels(rows[0])]
    several = identity.differing(rows, ("node", "device", "model", "variant", "dtype"))
    texts = [
        f"{N_IMAGES:,} images of {pixels(row)} px would take about {duration(N_IMAGES * row['mean_s'])}"
        + (f": {' '.join(identity.short(row[name]) for name in several)}" if several else "")
        for row in largest[:N_CLOSING]
    ]
    return [
        *texts,
        "report: cellbench report --open",
        f"other sizes: cellbench estimate {N_IMAGES} --size 2048",
        f"faster settings: cellbench tune --device {rows[0]['device']}",
    ]


def _label(row: dict[str, Any], column: str) -> str:
    return identity.short(row[column])


def _notes(rows: list[dict[str, Any]], labels: Sequence[str]) -> list[str]:
    """The notes that a reader of the table needs in addition to the numbers."""
    names = sorted({f"{text(row['device'])} is {text(row['device_name'], 'unknown')}" for row in rows})
    notes = ["; ".join(names)]
    images = sorted({text(row["image"], "unknown") for row in rows})
    fewest, most = (choose(row["n_blocks"] for row in rows) for choose in (min, max))
    counted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    within = "within one process" if most == 1 else f"over {counted} processes"
    few = f"; a 95 % CI needs {PROCESSES_MIN} processes: --blocks {PROCESSES_MIN}" if fewest < PROCESSES_MIN else ""
    notes.append(f"image {', '.join(images)}; medians and spread are {within}{few}")
    if flags := flagged(sum(row["n_flagged"] for row in rows), sum(row["n"] for row in rows)):
        notes.append(flags)
    called = ("device", *identity.without(labels, "device"))
    for reason, meaning in STOPPED_SHORT.items():
        short = [" ".join(_label(r, name) for name in called) for r in rows if reason in (r["stop_reason"] or "")]
        if short:
            notes.append(f"{meaning}: {', '.join(short)}")
    if wavering := [" ".join(_label(r, name) for name in called) for r in rows if r["n_distinct_masks"] > 1]:
        notes.append(f"masks differed between repetitions: {', '.join(wavering)}")
    return notes


def _provenance(rows: list[dict[str, Any]]) -> list[str]:
    return [f"stand-in weights: the network of {name}, with other masks" for name in models_with(rows, "standin")]
