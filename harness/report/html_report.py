"""The HTML report of a scope, one file without network access.

Its parts: headline, answers, figures, failures, environment, methods, data.
"""

from __future__ import annotations

import base64
import gzip
import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from harness import __version__, files
from harness.charts import catalogue, rendering
from harness.charts.figure import Figure
from harness.engines import registry
from harness.query import Session, reference_timings
from harness.report import narrative, report_tables
from harness.report.pages import template
from harness.results import citation, differences, many_machines, ranks, tables
from harness.results.formatting import listed, text
from harness.results.scope import Scope
from harness.results.tables import Tables
from harness.results.text_table import TextTable

PROTOCOLS = {
    "standard": "standard: the timed region is one call of eval(); the model was loaded and warmed up before",
    "article": "article: the timed region is the construction of the model and one call of eval()",
}
MAIN = ("time", "stages", "model-cost", "speedup", "agreement", "history", "throughput")  # shown first, by priority
N_MAIN, N_HERO_BARS = 3, 9  # figures below the first; most devices of a ranking at the top
N_PLAIN_BYTES = 100_000  # of the medians as CSV, or of a figure; larger ones are compressed


@dataclass(frozen=True)
class Report:
    """The content of a report, independent of HTML and Markdown."""

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
    def caution(self) -> str:
        return narrative.cautions_in_short(self.data)

    @property
    def key_figures(self) -> list[narrative.KeyFigure]:
        return narrative.key_figures(self.data)

    @property
    def has_path(self) -> bool:
        return any("PATH" in command for command in self.commands)

    @property
    def citation(self) -> str:
        return citation.sentence(self.data)

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
        return ", ".join(sorted({text(row[column]) for row in self.data.cases})) or "none"

    @property
    def differing(self) -> str:
        """The number of facts that differ between the devices, and the names of the first ones, in one sentence."""
        found = differences.differing(self.facts)
        if len(self.places) < 2:
            return "Only one device was measured."
        if not found:
            return f"All {len(self.facts)} known facts are the same at the {len(self.places)} devices."
        names = listed([each.label for each in found], 12)
        return f"{len(found)} of {len(self.facts)} known facts differ between the {len(self.places)} devices: {names}."


def prepare(session: Session, scope: Scope, with_published: bool = True) -> Report:
    """Load the content of a report from the store."""
    data = tables.load(session, scope, with_published)
    with session.holding("samples", scope.in_runs):
        runs = session.table(f"SELECT * FROM runs WHERE {scope.in_runs} ORDER BY run_id DESC").to_pylist()
        places, facts = differences.find(session, scope)
        commands = [_command(session, run) for run in scope.runs[:3]]
    return Report(scope, data, runs, narrative.answers(data), places, facts, commands)


def figures(report: Report) -> list[Figure]:
    """The figures that have data in these results."""
    return [figure for figure in catalogue.FIGURES if figure.has_data(report.data)]


@dataclass(frozen=True)
class Page:
    """The layout of a report's figures.

    hero: at the top. main: below it, at most N_MAIN. more: on request. texts: sentences in place of figures that cannot
    be drawn from these results.
    """

    hero: Figure | None
    main: list[Figure]
    more: list[Figure]
    texts: list[str]


def arranged(report: Report) -> Page:
    """The layout: first the figures that answer the questions of a report."""
    data, found = report.data, figures(report)
    texts = [f"{each.title}: {drawing.description}." for each in found if not (drawing := each.draw(data)).chart]
    drawn = {each.name: each for each in found if each.draw(data).chart}
    n_ranked = len(ranks.ranks(data)[0])
    heroes = [name for name in (("ranking", "time") if 1 < n_ranked <= N_HERO_BARS else ("time",)) if name in drawn]
    hero = drawn.pop(heroes[0]) if heroes else None
    main = [drawn.pop(name) for name in [name for name in MAIN if name in drawn][:N_MAIN]]
    more = [each for each in found if each.name in drawn]
    absent = [each.title for each in catalogue.FIGURES if each not in found]
    if absent:
        texts.append(f"No data in this run for: {listed(absent, len(absent))}.")
    return Page(hero, main, more, texts)


def without_figure(data: Tables) -> dict[str, TextTable]:
    """The tables that belong to no figure and have rows, by caption: tuning results and many images."""
    found = {
        "Variants raced: interleaved calls of each and of stock, in separate processes. × stock: the speed-up, with "
        "its 95 % CI. Masks: the worst of the comparisons with stock on the CPU.": report_tables.tuning(data),
        "Many images: the medians of images a minute, from interleaved rounds of all ways, in separate processes.":
        report_tables.many_images(data),
    }  # fmt: skip
    return {caption: table for caption, table in found.items() if table.groups}


def html(report: Report) -> str:
    """The complete report as one page."""
    data = report.data
    protocols = sorted({text(row["protocol"]) for row in data.cases})
    with rendering.unchecked():
        return template("report.html").render(
            report=report,
            scope=report.scope,
            data=data,
            runs=report.runs,
            cases=report_tables.cases(data),
            hardware=many_machines.summary(data) if many_machines.are_many(data) else None,
            case_notes=narrative.case_notes(data),
            page=arranged(report),
            spec=_spec,
            sentence=rendering.sentence,
            dark_style=rendering.dark_style(),
            wrap=rendering.WRAP,
            policy=rendering.CONTENT_POLICY,
            embed=rendering.script_json(rendering.EMBED),
            without_figure=without_figure(data),
            failures=report_tables.failures(data),
            summary=report_tables.summary(report.places, report.facts),
            environment=report_tables.environment(report.places, report.facts),
            protocols=[PROTOCOLS.get(name, name) for name in protocols],
            origin=reference_timings.ORIGIN if data.published is not None else None,
            download=_download(data.medians),
            bundle=rendering.bundle(),
        )


def _spec(figure: Figure, data: Tables) -> str:
    """A figure for a script element, as wide as its page: JSON, or gzip in base64 above N_PLAIN_BYTES."""
    spec: dict[str, Any] = rendering.as_dict(figure.chart(data)) | {"width": "container"}
    # The top of the page has the cautions about all of these results.
    spec["usermeta"] = {"notes": spec["usermeta"]["notes"]} if "usermeta" in spec else {"notes": []}
    json = rendering.script_json(spec)
    return json if len(json) <= N_PLAIN_BYTES else base64.b64encode(gzip.compress(json.encode(), mtime=0)).decode()


def write(page: str, path: Path | str) -> Path:
    """Write the report atomically and return its path."""
    return files.write(Path(path), page)


def medians_csv(table: pa.Table) -> bytes:
    """The medians as the content of a CSV file."""
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return buffer.getvalue()


def _download(medians: pa.Table) -> dict[str, str]:
    """The medians as a link that contains its file. href: a data URL; suffix: of the file."""
    content = medians_csv(medians)
    kind, suffix = "text/csv;charset=utf-8", "csv"
    if len(content) > N_PLAIN_BYTES:
        content, kind, suffix = gzip.compress(content, mtime=0), "application/gzip", "csv.gz"
    return {"href": f"data:{kind};base64,{base64.b64encode(content).decode()}", "suffix": suffix}


def _command(session: Session, run: str) -> str:
    """The command that repeats a run. PATH stands for paths, which the rows do not contain."""
    row = session.table(
        """WITH made AS (SELECT * FROM samples WHERE run_id = $run AND image IS DISTINCT FROM 'control'),
                asked AS (SELECT * FROM made WHERE role IN ('warmup', 'timed', 'tune', 'throughput')),
                crops AS (SELECT crop, max(height_px) AS height_px FROM asked GROUP BY crop),
                blocks AS (SELECT count(DISTINCT block) AS n FROM asked GROUP BY node, device, model, dtype)
           SELECT max(profile) AS profile, max(image) AS image, bool_and(image_is_synthetic) AS built_in,
                  max(weights) AS weights, bool_or(role = 'tune') AS is_search,
                  max(n_images) FILTER (role = 'throughput') AS n_images,
                  string_agg(DISTINCT device, ',' ORDER BY device) AS devices,
                  string_agg(DISTINCT protocol, ',' ORDER BY protocol) AS protocols,
                  string_agg(DISTINCT model, ',' ORDER BY model) AS models,
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
        "weights": "PATH" if row["weights"] == "custom" else row["weights"],
    }
    if row["is_search"]:
        return _line("tune", flags | {"device": row["devices"], "crop": row["crops"]})
    flags["variants"] = row["variants"] if row["variants"] != "stock" else None
    if row["n_images"]:
        return _line(
            "throughput", flags | {"device": row["devices"], "crop": row["crops"], "n-images": row["n_images"]}
        )
    flags |= {
        "profile": row["profile"], "models": row["models"] if row["models"] != registry.default_model() else None,
        "crops": row["crops"], "devices": row["devices"], "protocol": row["protocols"],
        "blocks": row["blocks"], "repeats": row["repeats"],
    }  # fmt: skip
    return _line("run", flags)


def _line(command: str, flags: Mapping[str, object]) -> str:
    return shlex.join(
        ["cellbench", command, *(word for flag, to in flags.items() if to for word in (f"--{flag}", str(to)))]
    )
