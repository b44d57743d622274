"""Arrow tables → Altair charts: one pure function a figure."""

from __future__ import annotations

from collections.abc import Callable

import altair as alt

from harness.charts import (
    encodings,
    heatmap,
    history_strip,
    line_chart,
    ranking_chart,
    repetition_chart,
    resource_charts,
    stage_chart,
)
from harness.charts.line_chart import Figure, Law, point
from harness.errors import CellbenchError
from harness.query import reference_timings
from harness.results import resources, speedups
from harness.results.formatting import Row, number
from harness.results.notes import notes, provenance
from harness.results.tables import Tables

Draw = Callable[[Tables], alt.LayerChart]
N_CURVE = 40  # points of a fitted curve
N_LAWS = 3  # scaling laws that a figure draws; all stand in the table


def time_by_length(tables: Tables, log: bool = False) -> alt.LayerChart:
    """Seconds against image length: medians with interquartile range and every repetition, linear ⇄ logarithmic."""
    own = [
        {**point(row, tables.name(row), row["median_s"]), "low": row["q1_s"], "high": row["q3_s"], **_effort(row)}
        for row in tables.cases
    ]
    repetitions, shown = _repetitions(tables)
    figure = Figure(
        "Time to segment one image",
        "Seconds per image",
        [f"median, interquartile range and {shown}" if own else "nothing was timed here", *notes(tables)],
        "no repetition was timed",
        ("q1", "q3"),
        log=log,
    )
    return line_chart.draw(figure, own, reference(tables, "mean_s"), _series(tables), repetitions)


def throughput(tables: Tables) -> alt.LayerChart:
    """Megapixels a second against image length, with images an hour."""
    own = [
        {
            **point(row, tables.name(row), row["n_pixels"] / row["median_s"] / 1e6),
            "low": row["n_pixels"] / row["q3_s"] / 1e6,
            "high": row["n_pixels"] / row["q1_s"] / 1e6,
            "images_per_hour": number(3600 / row["median_s"]),
            **_effort(row),
        }
        for row in tables.cases
    ]
    others = [
        row | {"value": row["n_pixels"] / row["mean_s"] / 1e6, "images_per_hour": number(3600 / row["mean_s"])}
        for row in reference(tables, "mean_s")
    ]
    figure = Figure(
        "Throughput",
        "Megapixels per second",
        ["of the median, with its interquartile range" if own else "nothing was timed here", *notes(tables)],
        "no repetition was timed",
        ("of q3", "of q1"),
    )
    return line_chart.draw(figure, own, others, _series(tables))


def percent_of_cpu(tables: Tables) -> alt.LayerChart:
    """An accelerator's time as a percentage of the time of the CPU beside it."""
    intervals = speedups.intervals(tables)
    own = [
        {
            **point(row, tables.name(row), row["percent_of_cpu"]),
            **_bounds(*(bound and 100 / bound for bound in (known.high, known.low))),
            "basis": known.basis,
            **_effort(row),
        }
        for row, known in zip(tables.gains, intervals, strict=True)
    ]
    figure = Figure(
        "Accelerator time as a share of CPU time",
        "% of CPU time",
        [_of_ratios(tables), *notes(tables)],
        "no accelerator was measured here beside its CPU",
        baseline=100,
    )
    return line_chart.draw(figure, own, reference(tables, "percent_of_cpu"), _series(tables))


def speedup(tables: Tables) -> alt.LayerChart:
    """How many times faster an accelerator is than the CPU beside it, and the limit that its scaling law approaches."""
    own = [
        {
            **point(row, tables.name(row), row["speedup"]),
            **_bounds(known.low, known.high),
            "basis": known.basis,
            **_effort(row),
        }
        for row, known in zip(tables.gains, speedups.intervals(tables), strict=True)
    ]
    found = speedups.laws(tables)
    mine = [gain for gain in found if not gain.is_published]
    drawn = [] if len(mine) > N_LAWS else [_law(gain) for gain in mine or found]
    said = ["dotted: t = a + b · pixels fitted to each device; dashed: the ratio of their b, with its 95 % interval"]
    figure = Figure(
        "Speed-up over the CPU of the same machine",
        "CPU time ÷ accelerator time",
        [_of_ratios(tables), *(said if drawn else []), *notes(tables)],
        "no accelerator was measured here beside its CPU",
        ("95 % low", "95 % high"),
        baseline=1,
    )
    return line_chart.draw(figure, own, reference(tables, "speedup"), _series(tables), laws=drawn)


def stages(tables: Tables) -> alt.LayerChart:
    """Where the time of one call goes: the stage pass of each device, pass after pass."""
    return stage_chart.draw(tables.stages.to_pylist(), tables.name, provenance(tables))


def _memory(method: resources.Method) -> Draw:
    return lambda tables: line_chart.draw(
        resource_charts.memory_figure(tables, method),
        resource_charts.memory_points(tables, method),
        [],
        (tables.series, []),
    )


def energy(tables: Tables) -> alt.LayerChart:
    """Energy of one image above idle, by the chip's own counter."""
    return line_chart.draw(
        resource_charts.energy_figure(tables),
        resource_charts.energy_points(tables),
        [],
        (resources.energy_series(tables), []),
    )


NAMES: dict[str, Draw] = {
    "time": time_by_length,
    "time-log": lambda tables: time_by_length(tables, log=True),
    "percent-of-cpu": percent_of_cpu,
    "speedup": speedup,
    "throughput": throughput,
    "ranking": ranking_chart.ranking,
    "stages": stages,
    "agreement": heatmap.agreement,
    "repetitions": repetition_chart.draw,
    **{method.name: _memory(method) for method in resources.METHODS},
    "energy": energy,
    "history": history_strip.draw,
    "coverage": heatmap.coverage,
}


def draw(name: str, tables: Tables) -> alt.LayerChart:
    """One figure by its name."""
    if name not in NAMES:
        raise CellbenchError(f"there is no chart called {name}", fix=f"choose one of: {', '.join(NAMES)}")
    return NAMES[name](tables)


def reference(tables: Tables, column: str) -> list[Row]:
    """The published series as points of a figure: means where `column` is mean_s, else ratios to the CPU."""
    if tables.published is None:
        return []
    means = tables.published if column == "mean_s" else reference_timings.speedups(tables.published)
    keys = ("mean_s", "cpu_mean_s", "percent_of_cpu", "speedup")
    return [
        {key: row[key] for key in keys if key in row}
        | {"n_pixels": row["height_px"] * row["width_px"]}
        | point(row, speedups.published_name(row), row[column], is_published=True)
        for row in means.to_pylist()
    ]


def _series(tables: Tables) -> tuple[list[str], list[str]]:
    """The names of all series, one's own and the published ones."""
    return tables.series, list(dict.fromkeys(row["series"] for row in reference(tables, "mean_s")))


def _repetitions(tables: Tables) -> tuple[list[Row], str]:
    """The timed repetitions as points, and how many of them these are, in words; none for a crowd of series."""
    if encodings.is_crowded(tables.series):
        return [], "no single repetitions, since there are too many series"
    cases = {(row["run_id"], row["case_id"]): row for row in tables.cases}
    timed = [row for row in tables.calls if row["role"] == "timed"]
    points = [
        point(cases[key], tables.name(row), row["elapsed_s"])
        for row in timed
        if (key := (row["run_id"], row["case_id"])) in cases
    ]
    n_all = sum(row["n"] for row in tables.cases)
    return points, "every repetition" if len(points) == n_all else f"{len(points)} of {n_all} repetitions"


def _of_ratios(tables: Tables) -> str:
    if not tables.gains:
        return "no accelerator was measured here"
    bases = {known.basis for known in speedups.intervals(tables)}
    if bases == {"processes"}:
        return "ratio of medians with the 95 % interval between processes"
    within = "within one process each: other processes may differ by more"
    return f"ratio of medians with its 95 % interval, {within}"


def _law(gain: speedups.Gained) -> Law:
    fast, slow = gain.fast, gain.slow
    lengths = [fast.bounds_mpx[1] ** 0.5 * (i + 0.5) / N_CURVE for i in range(N_CURVE)]
    points = [{"length": 1000 * each, "value": slow.at(each**2) / fast.at(each**2)} for each in lengths]
    known = gain.gain
    # An interval far wider than its estimate would flatten everything else; then it stands in the words alone.
    bounds = (known.limit_low, known.limit_high) if speedups.is_narrow(known) else (None, None)
    text = ("published\n" if gain.is_published else "") + speedups.limit_text(known)
    return Law(gain.series, gain.is_published, points, known.limit, *bounds, text)


def _bounds(low: float | None, high: float | None) -> Row:
    return {"low": low, "high": high}


def _effort(row: Row) -> Row:
    """How well a median is known, for its tooltip."""
    blocks = f" in {row['n_blocks']} processes" if row["n_blocks"] > 1 else ""
    return {
        "repetitions": f"{row['n']}{blocks} ({row['stop_reason'] or 'end unknown'})",
        "precision": "–" if row["precision"] is None else f"mean ± {100 * row['precision']:.2g} %",
        "flagged": f"{row['n_flagged']} of {row['n']}: {row['flags']}" if row["n_flagged"] else "none",
    }
