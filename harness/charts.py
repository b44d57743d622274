"""Arrow tables → Altair charts: one pure function a figure, one theme. Only `save` and `write_file` touch the disk."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pyarrow as pa
import vl_convert

from harness import published
from harness.errors import CellbenchError

Row = dict[str, Any]

# The four Okabe-Ito hues that keep a contrast of 3:1 on white and on near-black; shapes are the second code.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ([8, 3], [2, 3], [8, 3, 2, 3], [4, 2])
# Readable on both backgrounds, so one transparent picture serves light and dark.
GREY = "#777777"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
WIDTH_PX, HEIGHT_PX, EMPTY_HEIGHT_PX = 640, 340, 120
NOTE_CHARACTERS = 100
FEW = 5  # repetitions; the article used as many
SHOWN = "show_published || !datum.published"
EMBED = {"renderer": "svg", "actions": {"export": True, "source": False, "compiled": False, "editor": False}}
# Nothing from the network, enforced; Vega compiles its expressions, which needs unsafe-eval.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
# Ticks of the logarithmic axis, 1 ms to 50,000 s; those outside the data are not drawn.
LOG_TICKS = [round(digit * 10.0**power, 3) for power in range(-3, 5) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Tables:
    """What the figures are made of: rows of the views of the same name, already filtered."""

    medians: pa.Table
    speedups: pa.Table
    timed: pa.Table
    failures: pa.Table
    published: pa.Table | None = None  # published.means(), or None to leave them out


def time_by_length(tables: Tables, log: bool = False) -> alt.LayerChart:
    """Seconds against image length: medians with interquartile range and every repetition, linear ⇄ logarithmic."""
    medians = tables.medians.to_pylist()
    name = series_namer(medians)
    own = [
        {**_point(row, name(row), row["median_s"]), "q1": row["q1_s"], "q3": row["q3_s"], "n": row["n"]}
        for row in medians
    ]
    return _figure(
        tables,
        own,
        reference(tables, "mean_s"),
        title="Time to segment one image",
        y_title="Seconds per image",
        notes=["median, interquartile range and every repetition" if own else "nothing was timed here", *notes(tables)],
        empty="no repetition was timed",
        repetitions=[_point(row, name(row), row["elapsed_s"]) for row in tables.timed.to_pylist()],
        log=log,
    )


def percent_of_cpu(tables: Tables) -> alt.LayerChart:
    """An accelerator's time as a percentage of the time of the CPU beside it."""
    return _ratio(tables, "percent_of_cpu", "Accelerator time as a share of CPU time", "% of CPU time", 100)


def speedup(tables: Tables) -> alt.LayerChart:
    """How many times faster an accelerator is than the CPU beside it."""
    return _ratio(tables, "speedup", "Speed-up over the CPU of the same machine", "CPU time ÷ accelerator time", 1)


NAMES: dict[str, Callable[[Tables], alt.LayerChart]] = {
    "time": time_by_length,
    "time-log": lambda tables: time_by_length(tables, log=True),
    "percent-of-cpu": percent_of_cpu,
    "speedup": speedup,
}


def draw(name: str, tables: Tables) -> alt.LayerChart:
    """One figure by its name."""
    if name not in NAMES:
        raise CellbenchError(f"there is no chart called {name}", fix=f"choose one of: {', '.join(NAMES)}")
    return NAMES[name](tables)


def series_namer(medians: Iterable[Row]) -> Callable[[Row], str]:
    """A function from a row to its series' name: device, and whatever else differs among these medians."""
    rows = list(medians)
    varied = [
        column
        for column in ("run_id", "protocol", "variant", "weights", "image", "workload", "source")
        if len({row[column] for row in rows}) > 1
    ]
    several_nodes = len({row["node"] for row in rows}) > 1

    def name(row: Row) -> str:
        node = f"{row['node']} · " if several_nodes else ""
        extras = "".join(f", {row[column]}" for column in varied)
        return f"{node}{device_label(row)}{extras}"

    return name


def device_label(row: Row) -> str:
    """A device as people say it: its model, which one it is, and a CPU's threads."""
    threads = row.get("torch_threads") if row["backend"] == "cpu" else None
    which = row["device"] + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")
    return f"{short_name(row['device_name'])} ({which})"


def short_name(device_name: str | None) -> str:
    """A processor's name without trademarks and clock speed."""
    if not device_name:
        return "unknown"
    bare = re.sub(r"\((R|TM|C)\)|\b(CPU|Processor)\b|@.*$|\b\d+-Core\b", " ", device_name, flags=re.IGNORECASE)
    return " ".join(bare.split()) or device_name


def reference(tables: Tables, column: str) -> list[Row]:
    """The published series as points of a figure: means where `column` is mean_s, else ratios to the CPU."""
    if tables.published is None:
        return []
    means = tables.published if column == "mean_s" else published.speedups(tables.published)
    keys = ("mean_s", "cpu_mean_s", "percent_of_cpu", "speedup")
    return [
        {key: row[key] for key in keys if key in row}
        | _point(row, f"{row['device_name']}, {row['backend'].upper()} (published)", row[column], is_published=True)
        for row in means.to_pylist()
    ]


def notes(tables: Tables) -> list[str]:
    """What a reader must know to judge these numbers, in short sentences for the picture itself."""
    rows = tables.medians.to_pylist()
    weights, workloads, protocols = ({row[key] for row in rows} for key in ("weights", "workload", "protocol"))
    said = []
    if "simulated" in workloads:
        said.append("simulated workload: not a measurement")
    if "standin" in weights:
        said.append("stand-in weights, not the published cyto3")
    if "custom" in weights:
        said.append("custom weights, not the published cyto3")
    if any(row["image_is_synthetic"] for row in rows):
        said.append("synthetic image")
    if rows and (fewest := min(row["n"] for row in rows)) < FEW:
        said.append(f"few repetitions (n = {fewest})")
    if count := tables.failures.num_rows:
        said.append(f"{count} failed repetition{'s' * (count > 1)} excluded")
    for column, words in (("protocol", "protocols"), ("torch_version", "torch versions"), ("weights", "weights")):
        if len(values := {str(row[column]) for row in rows}) > 1:
            said.append(f"mixed {words}: {', '.join(sorted(values))}")
    if tables.published is not None:
        said.append("published series: means of 5 without spread, model construction included (protocol article)")
        if rows and protocols != {published.PROTOCOL}:
            said.append("measured here: model construction not included (protocol standard)")
    return said


def save(chart: alt.LayerChart, path: Path | str) -> Path:
    """Write a chart as html (works offline), png, svg, pdf or json, by the suffix of the path; whole or not at all."""
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("html", "png", "svg", "pdf", "json"):
        raise CellbenchError(
            f"a chart cannot be written as {path.suffix or 'a file without a suffix'}",
            str(path),
            "end the name with .html, .png, .svg, .pdf or .json",
        )
    if kind == "html":
        return write_file(path, _html(chart).encode())
    buffer = io.BytesIO() if kind in ("png", "pdf") else io.StringIO()
    chart.save(buffer, format=kind, **({"scale_factor": 2} if kind == "png" else {}))
    content = buffer.getvalue()
    return write_file(path, content if isinstance(content, bytes) else content.encode())


def script_json(value: Any) -> str:
    """JSON for a script element: without any "<", nothing in it can end the element or open a comment."""
    return json.dumps(value).replace("<", "\\u003c")


def _html(chart: alt.LayerChart) -> str:
    """A page of one chart; altair's own does not escape the names in it."""
    return f"""<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">
<title>{chart.title.text}</title>
<div id="chart"></div>
<script>{vl_convert.javascript_bundle()}</script>
<script>vegaEmbed("#chart", {script_json(chart.to_dict())}, {script_json(EMBED)}).catch(console.error)</script>
"""


def write_file(path: Path, content: bytes) -> Path:
    """Write a file under a temporary name and move it into place, so that nobody ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CellbenchError(
            f"the file cannot be written: {error.strerror}", str(path), "give a path in an existing, writable folder"
        ) from error
    return path


def _ratio(tables: Tables, column: str, title: str, y_title: str, baseline: float) -> alt.LayerChart:
    name = series_namer(tables.medians.to_pylist())
    own = [{**_point(row, name(row), row[column]), "n": row["n"]} for row in tables.speedups.to_pylist()]
    return _figure(
        tables,
        own,
        reference(tables, column),
        title=title,
        y_title=y_title,
        notes=["ratio of medians" if own else "no accelerator was measured here", *notes(tables)],
        empty="no accelerator was measured here beside its CPU",
        baseline=baseline,
    )


def _point(row: Row, series: str, value: float, is_published: bool = False) -> Row:
    size = f"{row['height_px']} × {row['width_px']}"
    return {"series": series, "published": is_published, "length": row["length_px"], "size": size, "value": value}


def _figure(
    tables: Tables,
    own: list[Row],
    others: list[Row],
    *,
    title: str,
    y_title: str,
    notes: list[str],
    empty: str,
    repetitions: list[Row] | None = None,
    baseline: float | None = None,
    log: bool | None = None,
) -> alt.LayerChart:
    """The one plot that every figure is: lines through points against image length, and what goes with them.

    `log` None is a linear axis from zero; True or False is what a switch between both starts with.
    """
    # The separator sticks to the word before it, so that no line starts with one.
    heading = alt.TitleParams(title, subtitle=textwrap.wrap("\u00a0· ".join(notes), NOTE_CHARACTERS))
    rows = others + own  # one's own are drawn on top
    if not rows:
        text = alt.Chart(alt.Data(values=[{"text": empty}])).mark_text(size=15, color=GREY).encode(text="text:N")
        return _theme(alt.layer(text), heading, f"{title}. Empty: {empty}.").properties(height=EMPTY_HEIGHT_PX)

    look = _look(tables, {row["series"] for row in rows})
    rows = [row | {"dash": look["dash"].get(row["series"])} for row in rows]
    x, y = _axes(y_title, log)
    base = _on_axis(alt.Chart().encode(x=x, y=y, stroke=look["stroke"]), log)
    lines = base.transform_filter(SHOWN if others else "true")
    layers = [
        lines.mark_line(strokeWidth=1.6, strokeDash=alt.ExprRef("datum.dash")),
        lines.mark_point(size=44, strokeWidth=1.4, opacity=1).encode(
            fill=look["fill"], shape=look["shape"], tooltip=_tooltip(y_title, rows[-1])
        ),
    ]
    if repetitions:
        dots = base.properties(data=alt.Data(values=repetitions))
        ranges = base.transform_filter("!datum.published").encode(y="y_q1:Q", y2="y_q3:Q")
        layers[1:1] = [
            dots.mark_point(shape="circle", size=8, strokeWidth=1.5, opacity=0.4),
            ranges.mark_rule(strokeWidth=4, opacity=0.5),
        ]
    if baseline is not None:
        rule = alt.Chart(alt.Data(values=[{"y": baseline}])).mark_rule(color=GREY, strokeWidth=1)
        layers.insert(0, rule.encode(y="y:Q"))
    chart = alt.layer(*layers, data=alt.Data(values=rows)).add_params(*_switches(log, bool(others)))
    names = ", ".join(dict.fromkeys(row["series"] for row in own + others))
    return _theme(chart, heading, f"{title}. Lines of {y_title} against image length in px for {names}.")


def _look(tables: Tables, shown: set[str]) -> dict[str, Any]:
    """Encodings that tell the series apart, the same for a series in every figure, sharing one legend.

    One's own are coloured, solid and filled; the published ones grey, dashed and hollow.
    """
    medians = tables.medians.to_pylist()
    own = list(dict.fromkeys(map(series_namer(medians), medians)))
    others = list(dict.fromkeys(row["series"] for row in reference(tables, "mean_s")))
    looks = {
        name: (hue := HUES[i % len(HUES)], hue, SHAPES[(i + i // len(HUES)) % len(SHAPES)])
        for i, name in enumerate(own)
    } | {name: (GREY, "transparent", SHAPES[i % len(SHAPES)]) for i, name in enumerate(others)}
    domain = [name for name in looks if name in shown]
    strokes, fills, shapes = zip(*(looks[name] for name in domain), strict=True)
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=alt.ExprRef("width < 480 ? 1 : 2"),
        labelLimit=alt.ExprRef("width < 480 ? width - 18 : 0.6 * width"),
        labelFontSize=alt.ExprRef("width < 480 ? 10.5 : 12"),
    )

    def by_series(channel: Any, values: Iterable[Any]) -> Any:
        return channel("series:N", legend=legend, scale=alt.Scale(domain=domain, range=list(values)))

    return {
        "stroke": by_series(alt.Stroke, strokes),
        "fill": by_series(alt.Fill, fills),
        "shape": by_series(alt.Shape, shapes),
        # Not an encoding of its own: a legend would draw the symbols dashed too, and nobody could tell them apart.
        "dash": {name: DASHES[i % len(DASHES)] for i, name in enumerate(others)},
    }


def _tooltip(y_title: str, row: Row) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("size:N", title="image in px"),
        alt.Tooltip("value:Q", title=y_title, format=".3~r"),
        *[alt.Tooltip(f"{name}:Q", title=name, format=".3~r") for name in ("q1", "q3", "n") if name in row],
    ]


def _switches(log: bool | None, with_published: bool) -> list[alt.Parameter]:
    switches = []
    if log is not None:
        radio = alt.binding_radio(options=["linear", "log"], name="Scale: ")
        switches.append(alt.param(name="yscale", value="log" if log else "linear", bind=radio))
    if with_published:
        box = alt.binding_checkbox(name="Show published series ")
        switches.append(alt.param(name="show_published", value=True, bind=box))
    return switches


def _axes(y_title: str, log: bool | None) -> tuple[alt.X, alt.Y]:
    x_axis = alt.Axis(grid=False, tickCount=6, format="d", labelFlush=False)
    x = alt.X("length:Q", title="Image length √(h·w) in px", axis=x_axis, scale=alt.Scale(zero=True))
    powers = ", ".join(f"log({tick}) / LN10" for tick in LOG_TICKS)
    y_axis = alt.Axis(
        values=alt.ExprRef(_by_scale("null", f"[{powers}]", log)),
        tickCount=alt.ExprRef(_by_scale("7", "15", log)),
        labelExpr=f"format({_by_scale('datum.value', 'pow(10, datum.value)', log)}, '.3~r')",
    )
    zero = alt.ExprRef(_by_scale("true", "false", log))
    return x, alt.Y("y:Q", title=y_title, axis=y_axis, scale=alt.Scale(zero=zero))


def _on_axis(chart: alt.Chart, log: bool | None) -> alt.Chart:
    """Add y, y_q1, y_q3: a scale's type cannot be a parameter, so the switch is in the numbers instead."""
    sources = {"y": "value", "y_q1": "q1", "y_q3": "q3"}
    return chart.transform_calculate(
        **{y: _by_scale(f"datum.{source}", f"log(datum.{source}) / LN10", log) for y, source in sources.items()}
    )


def _by_scale(linear: str, logarithmic: str, log: bool | None) -> str:
    return linear if log is None else f"(yscale == 'log' ? {logarithmic} : {linear})"


def _theme(chart: alt.LayerChart, heading: alt.TitleParams, description: str) -> alt.LayerChart:
    words = {"labelColor": GREY, "titleColor": GREY, "labelFontSize": 12, "titleFontSize": 12}
    return (
        chart.properties(title=heading, description=description, width=WIDTH_PX, height=HEIGHT_PX)
        .configure(background="transparent", font=FONT, padding=8)
        .configure_view(stroke=None)
        .configure_axis(**words, titleFontWeight="normal", domainColor=GREY, tickColor=GREY, gridOpacity=0.2)
        .configure_axisY(gridColor=GREY, titlePadding=10)
        .configure_legend(labelColor=GREY, symbolSize=70, symbolOpacity=1, rowPadding=4)
        .configure_title(anchor="start", color=GREY, fontSize=16, subtitleColor=GREY, subtitleFontSize=12, offset=16)
    )
