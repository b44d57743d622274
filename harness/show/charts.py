"""Arrow tables → Altair charts: one pure function a figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import altair as alt
import pyarrow as pa

from harness import published
from harness.errors import CellbenchError
from harness.show import linechart, stagechart
from harness.show.linechart import point
from harness.show.wording import Row, count, device_label, flagged, series_namer

FEW = 5  # repetitions; the article used as many


@dataclass(frozen=True)
class Tables:
    """What the figures are made of: rows of the views of the same name, already filtered."""

    medians: pa.Table
    speedups: pa.Table
    timed: pa.Table
    failures: pa.Table
    stages: pa.Table
    ceilings: pa.Table
    published: pa.Table | None = None  # published.means(), or None to leave them out


def time_by_length(tables: Tables, log: bool = False) -> alt.LayerChart:
    """Seconds against image length: medians with interquartile range and every repetition, linear ⇄ logarithmic."""
    medians = tables.medians.to_pylist()
    name = series_namer(medians)
    own = [
        {**point(row, name(row), row["median_s"]), "q1": row["q1_s"], "q3": row["q3_s"], **_effort(row)}
        for row in medians
    ]
    return linechart.draw(
        own,
        reference(tables, "mean_s"),
        _series(tables),
        title="Time to segment one image",
        y_title="Seconds per image",
        notes=["median, interquartile range and every repetition" if own else "nothing was timed here", *notes(tables)],
        empty="no repetition was timed",
        repetitions=[point(row, name(row), row["elapsed_s"]) for row in tables.timed.to_pylist()],
        log=log,
    )


def percent_of_cpu(tables: Tables) -> alt.LayerChart:
    """An accelerator's time as a percentage of the time of the CPU beside it."""
    return _ratio(tables, "percent_of_cpu", "Accelerator time as a share of CPU time", "% of CPU time", 100)


def speedup(tables: Tables) -> alt.LayerChart:
    """How many times faster an accelerator is than the CPU beside it."""
    return _ratio(tables, "speedup", "Speed-up over the CPU of the same machine", "CPU time ÷ accelerator time", 1)


def stages(tables: Tables) -> alt.LayerChart:
    """Where the time of one call goes: the stage pass of each device, pass after pass."""
    return stagechart.draw(tables.stages.to_pylist(), stage_namer(tables), _provenance(tables))


NAMES: dict[str, Callable[[Tables], alt.LayerChart]] = {
    "time": time_by_length,
    "time-log": lambda tables: time_by_length(tables, log=True),
    "percent-of-cpu": percent_of_cpu,
    "speedup": speedup,
    "stages": stages,
}


def draw(name: str, tables: Tables) -> alt.LayerChart:
    """One figure by its name."""
    if name not in NAMES:
        raise CellbenchError(f"there is no chart called {name}", fix=f"choose one of: {', '.join(NAMES)}")
    return NAMES[name](tables)


def stage_namer(tables: Tables) -> Callable[[Row], str]:
    """A function from a row of the stage pass to the name that its case has in the other figures."""
    medians = tables.medians.to_pylist()
    name = series_namer(medians)
    names = {row["case_id"]: name(row) for row in medians}
    return lambda row: names.get(row["case_id"]) or device_label(row)


def reference(tables: Tables, column: str) -> list[Row]:
    """The published series as points of a figure: means where `column` is mean_s, else ratios to the CPU."""
    if tables.published is None:
        return []
    means = tables.published if column == "mean_s" else published.speedups(tables.published)
    keys = ("mean_s", "cpu_mean_s", "percent_of_cpu", "speedup")
    return [
        {key: row[key] for key in keys if key in row}
        | point(row, f"{row['device_name']}, {row['backend'].upper()} (published)", row[column], is_published=True)
        for row in means.to_pylist()
    ]


def notes(tables: Tables) -> list[str]:
    """What a reader must know to judge these numbers, in short sentences for the picture itself."""
    rows = tables.medians.to_pylist()
    said = _provenance(tables)
    if rows and (fewest := min(row["n"] for row in rows)) < FEW:
        said.append(f"few repetitions (n = {fewest})")
    if failed := tables.failures.num_rows:
        said.append(f"{count(failed, 'failed repetition')} excluded")
    if flags := flagged(tables.timed.to_pylist()):
        said.append(f"{flags}; none is left out")
    for column, words in (("protocol", "protocols"), ("torch_version", "torch versions"), ("weights", "weights")):
        if len(values := {str(row[column]) for row in rows}) > 1:
            said.append(f"mixed {words}: {', '.join(sorted(values))}")
    if tables.published is not None:
        said.append("published series: means of 5 without spread, model construction included (protocol article)")
        if rows and {row["protocol"] for row in rows} != {published.PROTOCOL}:
            said.append("measured here: model construction not included (protocol standard)")
    return said


def _provenance(tables: Tables) -> list[str]:
    """What these numbers are made from, where that is not the published weights on a real image."""
    rows = tables.medians.to_pylist()
    weights = {row["weights"] for row in rows}
    said = []
    if any(row["workload"] == "simulated" for row in rows):
        said.append("simulated workload: not a measurement")
    if "standin" in weights:
        said.append("stand-in weights, not the published cyto3")
    if "custom" in weights:
        said.append("custom weights, not the published cyto3")
    if any(row["image_is_synthetic"] for row in rows):
        said.append("synthetic image")
    return said


def _ratio(tables: Tables, column: str, title: str, y_title: str, baseline: float) -> alt.LayerChart:
    name = series_namer(tables.medians.to_pylist())
    own = [{**point(row, name(row), row[column]), **_effort(row)} for row in tables.speedups.to_pylist()]
    return linechart.draw(
        own,
        reference(tables, column),
        _series(tables),
        title=title,
        y_title=y_title,
        notes=["ratio of medians" if own else "no accelerator was measured here", *notes(tables)],
        empty="no accelerator was measured here beside its CPU",
        baseline=baseline,
    )


def _series(tables: Tables) -> tuple[list[str], list[str]]:
    """The names of all series, one's own and the published ones."""
    medians = tables.medians.to_pylist()
    own = dict.fromkeys(map(series_namer(medians), medians))
    return list(own), list(dict.fromkeys(row["series"] for row in reference(tables, "mean_s")))


def _effort(row: Row) -> Row:
    """How well a median is known, for its tooltip."""
    blocks = f" in {row['n_blocks']} processes" if row["n_blocks"] > 1 else ""
    return {
        "repetitions": f"{row['n']}{blocks} ({row['stop_reason'] or 'end unknown'})",
        "precision": "–" if row["precision"] is None else f"mean ± {100 * row['precision']:.2g} %",
        "flagged": f"{row['n_flagged']} of {row['n']}: {row['flags']}" if row["n_flagged"] else "none",
    }
