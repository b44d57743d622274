"""One run → one HTML file that needs no network: headline, cases, figures, failures, environment, methods, data."""

from __future__ import annotations

import base64
import io
import math
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import vl_convert
from pyarrow import csv

from harness import charts, published
from harness.charts import Row, Tables
from harness.query import Session, which_run

_ORDER = "ORDER BY node, backend <> 'cpu', device, protocol, variant, n_pixels"
QUERIES = {
    "medians": f"SELECT * FROM medians WHERE run_id = $run {_ORDER}",
    "speedups": f"SELECT * FROM speedups WHERE run_id = $run {_ORDER}",
    "timed": f"SELECT * FROM timed WHERE run_id = $run {_ORDER}, started_at",
    "failures": "SELECT * FROM failures WHERE run_id = $run ORDER BY started_at",
}
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
        {"name": "time", "spec": charts.time_by_length(data), "grid": _times(data), "sql": sql["medians"]},
        {"name": "percent-of-cpu", "spec": charts.percent_of_cpu(data), "grid": _ratios(data), "sql": sql["speedups"]},
        {"name": "speedup", "spec": charts.speedup(data), "grid": _ratios(data), "sql": sql["speedups"]},
    ]
    for figure in figures:
        chart = figure["spec"].properties(width="container")
        figure |= {"title": chart.title.text, "spec": charts.script_json(chart.to_dict())}
    return _template().render(
        headline=headline(data),
        run=facts,
        banners=banners(data),
        cases=_cases(data),
        figures=figures,
        policy=charts.CONTENT_POLICY,
        embed=charts.script_json(charts.EMBED),
        failures=_failures(data),
        environment=_environment(session, run),
        protocols=[PROTOCOLS.get(name, name) for name in _distinct(data.medians, "protocol")],
        command=_command(session, run),
        origin=published.ORIGIN if with_published else None,
        csv="data:text/csv;charset=utf-8;base64," + base64.b64encode(_csv(data.medians)).decode(),
        bundle=_bundle(),
    )


def write(html: str, path: Path | str) -> Path:
    """Write the report whole or not at all."""
    return charts.write_file(Path(path), html.encode())


def headline(data: Tables) -> str:
    """The run in one sentence that claims nothing beyond its rows."""
    medians = data.medians.to_pylist()
    if not medians:
        failed = data.failures.num_rows
        return (
            f"Nothing was timed: {_count(failed, 'repetition')} failed" if failed else "Nothing was timed in this run"
        )
    most = Counter(map(_kind, medians)).most_common(1)[0][0]
    chosen = [row for row in medians if _kind(row) == most]
    speedups = [row for row in data.speedups.to_pylist() if _kind(row) == most]
    varied = [i for i in range(len(KIND)) if len({_kind(row)[i] for row in medians}) > 1]
    among = ", ".join(f"{KIND[i]} {most[i]}" for i in varied)
    return _what(chosen[0]) + _finding(chosen, speedups) + (f" ({among})" if among else "")


def _finding(medians: list[Row], speedups: list[Row]) -> str:
    name = charts.series_namer(medians)
    by_series = {series: [row for row in medians if name(row) == series] for series in map(name, medians)}
    nodes = len({row["node"] for row in medians})
    if speedups and nodes == 1:
        largest = {row["device"]: row for row in sorted(speedups, key=_area)}
        return ": " + "; ".join(map(_comparison, largest.values()))
    if len(by_series) == 1:
        ends = {row["n_pixels"]: row for row in (min(medians, key=_area), max(medians, key=_area))}
        times = (f"{_seconds(row['median_s'])} at {_size(row)}" for row in ends.values())
        return f" on {name(medians[0])}: {', '.join(times)}"
    said = f" on {len(by_series)} devices of {_count(nodes, 'machine')}"
    common = set.intersection(*(set(map(_area, rows)) for rows in by_series.values()))
    if not common:
        return said
    ranked = sorted((row for row in medians if _area(row) == max(common)), key=lambda row: row["median_s"])
    fast, slow = (f"{_seconds(row['median_s'])} on {name(row)}" for row in (ranked[0], ranked[-1]))
    return f"{said}: at {_size(ranked[0])} from {fast} to {slow}"


def _comparison(row: Row) -> str:
    return (
        f"the {charts.short_name(row['device_name'])} is {number(row['speedup'])} times as fast as this machine’s CPU "
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
        said.append(f"{_count(failed, 'repetition')} failed. No median or figure contains them; they are listed below.")
    if few:
        said.append(f"Few repetitions: {_count(few, 'case')} with fewer than {charts.FEW}. Read the spread with care.")
    if unstable:
        said.append(f"Masks differed between the repetitions of {_count(unstable, 'case')}.")
    if unlike:
        said.append(f"CPU and accelerator counted different numbers of cells in {_count(unlike, 'case')}.")
    return said


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.{digits}g}")  # 9.996 has one digit more once it is 10.0
    decimals = digits - 1 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{value:,.{max(decimals, 0)}f}"


def _cases(data: Tables) -> Grid:
    medians = data.medians.to_pylist()
    name = charts.series_namer(medians)
    speedups = {row["case_id"]: row["speedup"] for row in data.speedups.to_pylist()}
    head = ("crop", "protocol", "n", "median s", "IQR s", "mean ± SD s", "cells", "diameter px", "speed-up")
    rows = [
        (
            name(row), row["crop"], row["protocol"] or "–", str(row["n"]), number(row["median_s"]), _range(row),
            f"{number(row['mean_s'])} ± {number(row['sd_s'], 2)}", number(row["n_cells"], 1),
            number(row["diameter_px"]), number(speedups.get(row["case_id"])),
        )
        for row in medians
    ]  # fmt: skip
    return Grid.grouped(head, rows, n_labels=2)


def _times(data: Tables) -> Grid:
    medians = data.medians.to_pylist()
    name = charts.series_namer(medians)
    own = [(name(row), _pixels(row), str(row["n"]), number(row["median_s"]), _range(row)) for row in medians]
    others = [
        (f"{row['series']}: means", row["size"], "5", number(row["mean_s"]), "–")
        for row in charts.reference(data, "mean_s")
    ]
    return Grid.grouped(("image in px", "n", "median s", "IQR s"), own + others)


def _ratios(data: Tables) -> Grid:
    name = charts.series_namer(data.medians.to_pylist())
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


def _failures(data: Tables) -> Grid:
    columns = ("node", "device", "crop", "role", "phase", "status", "error_type", "error_message")
    rows = [tuple(str(row[column] or "–") for column in columns) for row in data.failures.to_pylist()]
    return Grid(tuple(column.replace("_", " ") for column in columns), {"": rows}, n_labels=len(columns))


def _environment(session: Session, run: str) -> Grid:
    """One row a fact, one column a device; several values of one device stand side by side."""
    facts = ", ".join(f"string_agg(DISTINCT {fact}::VARCHAR, ', ' ORDER BY {fact}::VARCHAR)" for fact in ENVIRONMENT)
    columns = session.table(
        f"SELECT concat_ws(' ', node, device), max(device_name), {facts} FROM samples WHERE run_id = $run "
        "GROUP BY node, device ORDER BY node, device",
        run=run,
    ).columns
    places, names, *values = [[str(value or "–") for value in column.to_pylist()] for column in columns]
    labels = ["device", *ENVIRONMENT.values()]
    rows = [(label, *row) for label, row in zip(labels, [names, *values], strict=True)]
    return Grid(("", *places), {"": rows}, n_labels=len(places) + 1)


def _command(session: Session, run: str) -> str:
    """The command that would measure the same again; what the rows do not tell is left to the reader."""
    row = session.table(
        """SELECT max(profile) AS profile, max(image) AS image, bool_and(image_is_synthetic) AS built_in,
                  max(weights) AS weights,
                  string_agg(DISTINCT device, ',' ORDER BY device) AS devices,
                  string_agg(DISTINCT protocol, ',' ORDER BY protocol) AS protocols
           FROM samples WHERE run_id = $run""",
        run=run,
    ).to_pylist()[0]
    crops = session.table(
        "SELECT crop FROM samples WHERE run_id = $run AND crop IS NOT NULL GROUP BY crop ORDER BY max(height_px)",
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


def _pixels(row: Row) -> str:
    return f"{row['height_px']} × {row['width_px']}"


def _range(row: Row) -> str:
    return f"{number(row['q1_s'])} – {number(row['q3_s'])}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _distinct(table: pa.Table, column: str) -> list[str]:
    return sorted({str(value) for value in table[column].to_pylist()})


def _csv(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return buffer.getvalue()


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script; it defines vegaEmbed."""
    return vl_convert.javascript_bundle()


@cache
def _template() -> jinja2.Template:
    text = resources.files("harness").joinpath("data/report.html").read_text(encoding="utf-8")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(**options).from_string(text)
