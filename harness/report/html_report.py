"""One scope → one HTML file that needs no network: headline, answers, figures, failures, environment, methods, data."""

from __future__ import annotations

import base64
import gzip
import io
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources as files
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from pyarrow import csv

from harness import __version__
from harness.charts import catalogue, heatmap, history_strip, rendering
from harness.query import Session, reference_timings
from harness.report import narrative, report_tables
from harness.report.report_tables import Grid
from harness.results import differences, resources, tables
from harness.results.formatting import listed
from harness.results.scope import Scope
from harness.results.tables import Tables

PROTOCOLS = {
    "standard": "standard: the timed region is one call of eval(); the model was loaded and warmed up before",
    "article": "article: the timed region is the construction of the model and one call of eval()",
}
N_PLAIN_BYTES = 100_000  # of medians as CSV, or of a figure; more are compressed


@dataclass(frozen=True)
class Figure:
    """A figure of the report with what stands under it: tables by their captions, sentences, SQL."""

    name: str
    chart: Any  # of altair
    tables: dict[str, Grid]
    sql: list[str]
    remarks: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    meanings: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.chart.title.text

    @property
    def spec(self) -> str:
        """For a script element, as wide as its page: JSON, compressed where that is much shorter."""
        text = rendering.script_json(rendering.as_dict(self.chart) | {"width": "container"})
        return text if len(text) <= N_PLAIN_BYTES else base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@dataclass(frozen=True)
class Report:
    """Everything that a report says, before it becomes HTML or Markdown."""

    scope: Scope
    data: Tables
    runs: list[dict[str, Any]]
    answers: list[narrative.Answer]
    places: list[str]
    facts: list[differences.Finding]
    commands: list[str]

    @cached_property
    def headline(self) -> str:
        return narrative.headline(self.data)

    @property
    def banners(self) -> list[str]:
        return narrative.banners(self.data)

    @property
    def n_timed(self) -> int:
        return sum(row["n"] for row in self.data.cases)

    @property
    def devices(self) -> str:
        return listed(self.places, 6) or "none"

    @property
    def version(self) -> str:
        return __version__

    @property
    def protocols(self) -> str:
        return self._distinct("protocol")

    @property
    def weights(self) -> str:
        return self._distinct("weights")

    def _distinct(self, column: str) -> str:
        return ", ".join(sorted({str(row[column]) for row in self.data.cases})) or "none"

    @property
    def differing(self) -> str:
        """How many facts differ between the places, and which first."""
        found = differences.differing(self.facts)
        if len(self.places) < 2:
            return "One device, so nothing to tell apart."
        if not found:
            return f"All {len(self.facts)} known facts are the same at the {len(self.places)} devices."
        names = listed([each.label for each in found], 12)
        return f"{len(found)} of {len(self.facts)} known facts differ between the {len(self.places)} devices: {names}."


def prepare(session: Session, scope: Scope, with_published: bool = True) -> Report:
    """Ask the store for everything that a report says."""
    data = tables.load(session, scope, with_published)
    with session.holding("samples", scope.in_runs):
        runs = session.table(f"SELECT * FROM runs WHERE {scope.in_runs} ORDER BY run_id DESC").to_pylist()
        places, facts = differences.find(session, scope)
        commands = [_command(session, run) for run in scope.runs[:3]]
    return Report(scope, data, runs, narrative.answers(data), places, facts, commands)


def figures(report: Report) -> Iterator[Figure]:
    """The figures that these results have something for, each with its tables."""
    data, scope = report.data, report.scope

    def sql(*names: str) -> list[str]:
        return [tables.sql(name, scope) for name in names]

    ratios = report_tables.ratios(data)
    yield Figure(
        "time",
        catalogue.time_by_length(data),
        {"Time": report_tables.times(data), "Fit t = a + b · pixels": report_tables.laws(data)},
        sql("medians"),
    )
    yield Figure(
        "speedup",
        catalogue.speedup(data),
        {"Speed-up": ratios, "Its limit": report_tables.limits(data)},
        sql("speedups"),
    )
    yield Figure("percent-of-cpu", catalogue.percent_of_cpu(data), {"Share of CPU time": ratios}, sql("speedups"))
    yield Figure(
        "throughput", catalogue.throughput(data), {"Throughput": report_tables.throughput(data)}, sql("medians")
    )
    yield Figure(
        "ranking",
        catalogue.draw("ranking", data),
        {"Ranking": report_tables.ranking(data)},
        sql("medians", "processes"),
    )
    if data.masks.num_rows:
        cells = {"Masks": report_tables.matrix(heatmap.agreement_cells(data))}
        yield Figure("agreement", catalogue.draw("agreement", data), cells, sql("masks", "agreement"))
    if data.stages.num_rows:
        yield Figure(
            "stages",
            catalogue.stages(data),
            {"Stages": report_tables.stages(data)},
            sql("stages"),
            narrative.remarks(data),
            meanings=report_tables.stage_meanings(),
        )
    for method in resources.METHODS:
        if resources.memory_rows(data, method):
            table = {method.title: report_tables.memory(data, method)}
            yield Figure(method.name, catalogue.draw(method.name, data), table, sql("memory"))
    if data.energy.num_rows:
        yield Figure("energy", catalogue.energy(data), {"Energy": report_tables.energy(data)}, sql("energy"))
    if data.cases:
        strip = {"Repetitions": report_tables.repetitions(data)}
        yield Figure("repetitions", catalogue.draw("repetitions", data), strip, sql("repetitions"))
    if data.history:
        past = [tables.sql_of_history(history_strip.chosen(data))]
        yield Figure("history", catalogue.draw("history", data), {"History": report_tables.history(data)}, past)
    if data.coverage.num_rows:
        table = {"Coverage": report_tables.matrix(heatmap.coverage_cells(data))}
        yield Figure("coverage", catalogue.draw("coverage", data), table, sql("coverage"))


def searches(data: Tables) -> dict[str, Grid]:
    """The tables of what was raced and of many images, by their captions; those that have rows."""
    found = {
        "Variants raced: each in turn with stock, in processes of their own. × stock: how many times as fast, with the "
        "95 % interval. Masks: the worst of the comparisons with stock on the CPU.": report_tables.races(data),
        "Many images: the medians of images a minute, each way in turn with the others, in processes of its own.":
        report_tables.many_images(data),
    }  # fmt: skip
    return {caption: grid for caption, grid in found.items() if grid.groups}


def html(report: Report) -> str:
    """The whole report as one page."""
    data = report.data
    protocols = sorted({str(row["protocol"]) for row in data.cases})
    with rendering.unchecked():
        drawn = list(figures(report))
    return _template().render(
        report=report,
        scope=report.scope,
        runs=report.runs,
        cases=report_tables.cases(data),
        case_notes=narrative.case_notes(data),
        figures=drawn,
        policy=rendering.CONTENT_POLICY,
        embed=rendering.script_json(rendering.EMBED),
        searches=searches(data),
        failures=report_tables.failures(data),
        environment=report_tables.environment(report.places, report.facts),
        protocols=[PROTOCOLS.get(name, name) for name in protocols],
        with_stages=data.stages.num_rows > 0,
        origin=reference_timings.ORIGIN if data.published is not None else None,
        download=_download(data.medians),
        bundle=rendering.bundle(),
    )


def write(text: str, path: Path | str) -> Path:
    """Write the report whole or not at all."""
    return rendering.write_file(Path(path), text.encode())


def medians_csv(table: pa.Table) -> bytes:
    """The medians as CSV."""
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return buffer.getvalue()


def _download(medians: pa.Table) -> dict[str, str]:
    """The medians as a link that holds its own file."""
    content = medians_csv(medians)
    kind, suffix = "text/csv;charset=utf-8", "csv"
    if len(content) > N_PLAIN_BYTES:
        content, kind, suffix = gzip.compress(content, mtime=0), "application/gzip", "csv.gz"
    return {"href": f"data:{kind};base64,{base64.b64encode(content).decode()}", "suffix": suffix}


def _command(session: Session, run: str) -> str:
    """The command that would measure the same again; what the rows do not tell is left to the reader."""
    row = session.table(
        """WITH made AS (SELECT * FROM samples WHERE run_id = $run AND image IS DISTINCT FROM 'control'),
                asked AS (SELECT * FROM made WHERE role IN ('warmup', 'timed', 'tune', 'throughput')),
                crops AS (SELECT crop, max(height_px) AS height_px FROM asked GROUP BY crop),
                blocks AS (SELECT count(DISTINCT block) AS n FROM asked GROUP BY node, device)
           SELECT max(profile) AS profile, max(image) AS image, bool_and(image_is_synthetic) AS built_in,
                  max(weights) AS weights, bool_or(role = 'tune') AS is_search,
                  max(n_images) FILTER (role = 'throughput') AS n_images,
                  string_agg(DISTINCT device, ',' ORDER BY device) AS devices,
                  string_agg(DISTINCT protocol, ',' ORDER BY protocol) AS protocols,
                  string_agg(DISTINCT variant, ',' ORDER BY variant <> 'stock', variant) AS variants,
                  (SELECT string_agg(crop, ',' ORDER BY height_px) FROM crops) AS crops,
                  (SELECT max(n) FROM blocks) AS blocks,
                  (SELECT max(repetition) + 1 FROM made WHERE role = 'timed'
                   HAVING bool_and(stop_reason = 'fixed_n')) AS repeats
           FROM made""",
        run=run,
    ).to_pylist()[0]
    image = row["image"] if row["built_in"] or not row["image"] else f"PATH/{row['image']}"
    flags = {
        "image": image,
        "weights": {"published": "cyto3", "standin": "standin", "custom": "PATH"}.get(row["weights"]),
    }
    if row["is_search"]:
        return _line("tune", flags | {"device": row["devices"], "crop": row["crops"]})
    flags["variants"] = row["variants"] if row["variants"] != "stock" else None
    if row["n_images"]:
        return _line(
            "throughput", flags | {"device": row["devices"], "crop": row["crops"], "n-images": row["n_images"]}
        )
    flags |= {
        "profile": row["profile"], "crops": row["crops"], "devices": row["devices"], "protocol": row["protocols"],
        "blocks": row["blocks"], "repeats": row["repeats"],
    }  # fmt: skip
    return _line("run", flags)


def _line(command: str, flags: dict[str, object]) -> str:
    return shlex.join(
        ["cellbench", command, *(word for flag, to in flags.items() if to for word in (f"--{flag}", str(to)))]
    )


@cache
def _template() -> jinja2.Template:
    text = files.files("harness.report").joinpath("templates/report.html").read_text(encoding="utf-8")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(**options).from_string(text)
