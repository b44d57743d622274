"""Commands that draw: chart, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from harness.cli.options import RESULTS, Out, Published, Run
from harness.errors import CellbenchError

app = typer.Typer()
Since = Annotated[str | None, typer.Option("--since", help="Newest case of each series since this date: 2026-01-31.")]
Series = Annotated[str | None, typer.Option("--series", help="Only this series_key, or those that begin with it.")]


class _Chart(TyperCommand):
    """A command whose help ends with the names of the figures, which take long to import."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        super().format_epilog(ctx, formatter)
        from harness.charts import catalogue

        with formatter.section("Figures"):
            formatter.write_dl([(figure.name, figure.shows) for figure in catalogue.FIGURES])


@app.command("chart", cls=_Chart)
def chart_(
    name: Annotated[str, typer.Argument(help="Name of the figure; all are listed below.")],
    to: Annotated[Path, typer.Option("--to", help="File to write: .html .png .svg .pdf .json")],
    out: Out = RESULTS,
    run: Run = None,
    since: Since = None,
    series: Series = None,
    published: Published = True,
) -> None:
    """Draw one figure into a file."""
    from harness import query
    from harness.charts import catalogue, rendering
    from harness.results import scope, tables
    from harness.store import Store

    figure = catalogue.figure(name)
    session = query.Session(Store.at(out))
    chosen = scope.resolve(session, run, since, series)
    rendering.save(figure.chart(tables.load(session, chosen, published)), to)
    typer.echo(to, err=True)


@app.command("report")
def report_(
    out: Out = RESULTS,
    run: Run = None,
    since: Since = None,
    series: Series = None,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; a file in --out if not given.")] = None,
    published: Published = True,
    md: Annotated[bool, typer.Option("--md", help="Print Markdown for a comment or an issue instead.")] = False,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Write a zip of the page, its figures and the samples instead.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write a report: one HTML file that needs no network."""
    from harness import query
    from harness.report import bundle as bundles
    from harness.report import html_report, markdown
    from harness.results import scope
    from harness.store import Store

    if chosen := [name for name, wanted in (("--md", md), ("--bundle", bundle), ("--open", open_)) if wanted][1:]:
        raise CellbenchError(
            "these exclude each other", f"--md --bundle --open: {', '.join(chosen)}", "give one of them"
        )
    if md and to:
        raise CellbenchError("--md goes to stdout", f"--to {to}", "redirect it: cellbench report --md > FILE")
    store = Store.at(out)
    session = query.Session(store)
    made = html_report.prepare(session, scope.resolve(session, run, since, series), published)
    if md:
        typer.echo(markdown.text(made), nl=False)
        return
    path = to or out / f"report-{made.scope.name}.{'zip' if bundle else 'html'}"
    bundles.write(made, store, path) if bundle else html_report.write(html_report.html(made), path)
    typer.echo(path)
    if open_:
        typer.launch(str(path.resolve()))
