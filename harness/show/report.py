"""One run → one HTML file that needs no network: headline, cases, figures, failures, environment, methods, data."""

from __future__ import annotations

import base64
import io
import shlex
from collections import Counter
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from pyarrow import csv

from harness import published
from harness.query import Session, which_run
from harness.show import advice, charts, drawing, grids
from harness.show.charts import Tables
from harness.show.wording import Row, count, flagged, number, series_namer, short_name, size_label

_ORDER = "ORDER BY node, backend <> 'cpu', device, protocol, variant, n_pixels"
QUERIES = {
    "medians": f"SELECT * FROM medians WHERE run_id = $run {_ORDER}",
    "speedups": f"SELECT * FROM speedups WHERE run_id = $run {_ORDER}",
    "timed": f"SELECT * FROM timed WHERE run_id = $run {_ORDER}, started_at",
    "failures": "SELECT * FROM failures WHERE run_id = $run ORDER BY started_at",
    # Only what was timed as well: those rows say which weights and image it was.
    "stages": "SELECT * FROM stages WHERE run_id = $run AND timed_median_s IS NOT NULL "
    "ORDER BY node, backend <> 'cpu', device, protocol, n_pixels",
    "ceilings": "SELECT * FROM ceilings WHERE run_id = $run ORDER BY node, device",
}
# What must agree before two medians may stand in one sentence.
KIND = ("workload", "protocol", "variant", "weights", "image")
PROTOCOLS = {
    "standard": "standard: the timed region is one call of eval(); the model was loaded and warmed up before",
    "article": "article: the timed region is the construction of the model and one call of eval()",
}
BANNERS = {
    "simulated": "Simulated workload. These rows exercise the program; they say nothing about any machine.",
    "standin": "Stand-in weights. The network has the architecture of cyto3, so a pass through it costs the same; the "
    "cells it finds, and the time that depends on them, can differ.",
    "custom": "Custom weights, not the published cyto3.",
    "synthetic": "Synthetic image. Its cells are invented; on another image the time may differ.",
}
# Why repetitions ended, other than because there were as many as asked for.
ENDINGS = {
    "precision": "the mean was known as well as asked for",
    "plateau": "more repetitions would not have helped, since the machine itself wanders",
    "n_max": "there were as many as allowed",
    "time_cap": "the time was used up",
}


def tables(session: Session, run_id: str | None, with_published: bool = True) -> Tables:
    """What the figures of one run are made of."""
    run = which_run(session, run_id)
    rows = {view: session.table(sql, run=run) for view, sql in QUERIES.items()}
    return Tables(**rows, published=published.means() if with_published else None)


def build(session: Session, run_id: str | None, with_published: bool = True) -> str:
    """The whole report as HTML."""
    run = which_run(session, run_id)
    data = tables(session, run, with_published)
    facts = session.table("SELECT * FROM runs WHERE run_id = $run", run=run).to_pylist()[0]
    sql = {view: text.replace("$run", "'" + run.replace("'", "''") + "'") for view, text in QUERIES.items()}
    figures = [
        {"name": "time", "spec": charts.time_by_length(data), "grid": grids.times(data), "sql": sql["medians"]},
        {
            "name": "percent-of-cpu", "spec": charts.percent_of_cpu(data), "grid": grids.ratios(data),
            "sql": sql["speedups"],
        },
        {"name": "speedup", "spec": charts.speedup(data), "grid": grids.ratios(data), "sql": sql["speedups"]},
    ]  # fmt: skip
    if data.stages.num_rows:
        figures.append(
            {"name": "stages", "spec": charts.stages(data), "grid": grids.stages(data), "sql": sql["stages"]}
            | {"remarks": remarks(data), "meanings": grids.stage_meanings()}
        )
    for figure in figures:
        chart = figure["spec"].properties(width="container")
        figure |= {"title": chart.title.text, "spec": drawing.script_json(chart.to_dict())}
    return _template().render(
        headline=headline(data),
        run=facts,
        banners=banners(data),
        cases=grids.cases(data),
        case_notes=case_notes(data),
        figures=figures,
        policy=drawing.CONTENT_POLICY,
        embed=drawing.script_json(drawing.EMBED),
        failures=grids.failures(data),
        environment=grids.environment(session, run),
        protocols=[PROTOCOLS.get(name, name) for name in _distinct(data.medians, "protocol")],
        with_stages=data.stages.num_rows > 0,
        command=_command(session, run),
        origin=published.ORIGIN if with_published else None,
        csv="data:text/csv;charset=utf-8;base64," + base64.b64encode(_csv(data.medians)).decode(),
        bundle=drawing.bundle(),
    )


def write(html: str, path: Path | str) -> Path:
    """Write the report whole or not at all."""
    return drawing.write_file(Path(path), html.encode())


def headline(data: Tables) -> str:
    """The run in one sentence that claims nothing beyond its rows."""
    medians = data.medians.to_pylist()
    if not medians:
        failed = data.failures.num_rows
        return f"Nothing was timed: {count(failed, 'repetition')} failed" if failed else "Nothing was timed in this run"
    most = Counter(map(_kind, medians)).most_common(1)[0][0]
    chosen = [row for row in medians if _kind(row) == most]
    speedups = [row for row in data.speedups.to_pylist() if _kind(row) == most]
    varied = [i for i in range(len(KIND)) if len({_kind(row)[i] for row in medians}) > 1]
    among = ", ".join(f"{KIND[i]} {most[i]}" for i in varied)
    return _what(chosen[0]) + _finding(chosen, speedups) + (f" ({among})" if among else "")


def _finding(medians: list[Row], speedups: list[Row]) -> str:
    name = series_namer(medians)
    by_series = {series: [row for row in medians if name(row) == series] for series in map(name, medians)}
    nodes = len({row["node"] for row in medians})
    if speedups and nodes == 1:
        largest = {row["device"]: row for row in sorted(speedups, key=_area)}
        return ": " + "; ".join(map(_comparison, largest.values()))
    if len(by_series) == 1:
        ends = {row["n_pixels"]: row for row in (min(medians, key=_area), max(medians, key=_area))}
        times = (f"{_seconds(row['median_s'])} at {_size(row)}" for row in ends.values())
        return f" on {name(medians[0])}: {', '.join(times)}"
    said = f" on {len(by_series)} devices of {count(nodes, 'machine')}"
    common = set.intersection(*(set(map(_area, rows)) for rows in by_series.values()))
    if not common:
        return said
    ranked = sorted((row for row in medians if _area(row) == max(common)), key=lambda row: row["median_s"])
    fast, slow = (f"{_seconds(row['median_s'])} on {name(row)}" for row in (ranked[0], ranked[-1]))
    return f"{said}: at {_size(ranked[0])} from {fast} to {slow}"


def _comparison(row: Row) -> str:
    return (
        f"the {short_name(row['device_name'])} is {number(row['speedup'])} times as fast as this machine’s CPU "
        f"at {_size(row)}, {_seconds(row['median_s'])} instead of {_seconds(row['cpu_median_s'])}"
    )


def banners(data: Tables) -> list[str]:
    """What a reader must know before believing a number, in full sentences."""
    medians, speedups = data.medians.to_pylist(), data.speedups.to_pylist()
    kinds = {row["workload"] for row in medians} | {row["weights"] for row in medians}
    if any(row["image_is_synthetic"] for row in medians):
        kinds.add("synthetic")
    said = [text for kind, text in BANNERS.items() if kind in kinds]
    few, unstable, unlike = (
        sum(row["n"] < charts.FEW for row in medians),
        sum(row["n_distinct_masks"] > 1 for row in medians),
        sum(row["n_cells"] != row["cpu_n_cells"] for row in speedups),
    )
    if failed := data.failures.num_rows:
        said.append(f"{count(failed, 'repetition')} failed. No median or figure contains them; they are listed below.")
    if few:
        said.append(f"Few repetitions: {count(few, 'case')} with fewer than {charts.FEW}. Read the spread with care.")
    if unstable:
        said.append(f"Masks differed between the repetitions of {count(unstable, 'case')}.")
    if unlike:
        said.append(f"CPU and accelerator counted different numbers of cells in {count(unlike, 'case')}.")
    return said


def case_notes(data: Tables) -> list[str]:
    """What a reader of the table of cases must know besides its numbers."""
    medians = data.medians.to_pylist()
    said = []
    if flags := flagged(data.timed.to_pylist()):
        said.append(f"{flags}. None is left out of a median or figure.")
    reasons = Counter(reason for row in medians for reason in (row["stop_reason"] or "").split())
    if endings := [f"{ENDINGS[reason]} ({count(n, 'case')})" for reason, n in reasons.items() if reason in ENDINGS]:
        said.append(f"Repetitions ended because {'; because '.join(endings)}.")
    if (blocks := max((row["n_blocks"] for row in medians), default=1)) > 1:
        said.append(f"The repetitions of a case come from up to {blocks} processes.")
    return said


def remarks(data: Tables) -> dict[str, dict[str, list[str]]]:
    """What the stage pass tells of each device, at the largest image that it segmented."""
    ceilings = {(row["node"], row["device"]): row for row in data.ceilings.to_pylist()}
    name = charts.stage_namer(data)
    largest: dict[str, list[Row]] = {}
    for case in sorted(advice.by_case(data.stages.to_pylist()), key=lambda case: _area(case[0])):
        largest[name(case[0])] = case
    said = {}
    for title, case in largest.items():
        row = case[0]
        findings = advice.findings(case, ceilings.get((row["node"], row["device"])))
        said[f"{title}, {size_label(row)}"] = {
            "advice": advice.advise(row["backend"], advice.shares(case)),
            "findings": findings,
        }
    return said


def _command(session: Session, run: str) -> str:
    """The command that would measure the same again; what the rows do not tell is left to the reader."""
    row = session.table(
        """SELECT max(profile) AS profile, max(image) AS image, bool_and(image_is_synthetic) AS built_in,
                  max(weights) AS weights,
                  string_agg(DISTINCT device, ',' ORDER BY device) AS devices,
                  string_agg(DISTINCT protocol, ',' ORDER BY protocol) AS protocols
           FROM samples WHERE run_id = $run AND image IS DISTINCT FROM 'control'""",
        run=run,
    ).to_pylist()[0]
    crops = session.table(
        "SELECT crop FROM samples WHERE run_id = $run AND crop <> 'control' GROUP BY crop ORDER BY max(height_px)",
        run=run,
    )["crop"].to_pylist()
    image = row["image"] if row["built_in"] or not row["image"] else f"PATH/{row['image']}"
    weights = {"published": "cyto3", "standin": "standin", "custom": "PATH"}.get(row["weights"])
    flags = {
        "profile": row["profile"],
        "image": image,
        "crops": ",".join(crops),
        "devices": row["devices"],
        "protocol": row["protocols"],
        "weights": weights,
    }
    return shlex.join(["cellbench", "run", *(word for flag, to in flags.items() if to for word in (f"--{flag}", to))])


def _kind(row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in KIND)


def _what(row: Row) -> str:
    if row["workload"] == "simulated":
        return "Simulated workload"
    names = {"published": "cyto3", "standin": "cyto3’s network with stand-in weights"}
    return names.get(row["weights"], "cyto3’s network with custom weights")


def _seconds(value: float) -> str:
    return f"{number(value, 2)}\u00a0s"


def _size(row: Row) -> str:
    return "the full image" if row["crop"] == "full" else f"{row['crop']}\u00a0px"


def _area(row: Row) -> int:
    return row["n_pixels"]


def _distinct(table: pa.Table, column: str) -> list[str]:
    return sorted({str(value) for value in table[column].to_pylist()})


def _csv(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return buffer.getvalue()


@cache
def _template() -> jinja2.Template:
    text = resources.files("harness").joinpath("data/report.html").read_text(encoding="utf-8")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(**options).from_string(text)
