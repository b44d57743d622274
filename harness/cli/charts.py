"""Commands that draw: chart, report."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from harness.cli.options import RESULTS, Out, Published, Run, check_writable
from harness.errors import CellbenchError

app = typer.Typer()
MM_LEAST, MM_MOST = 60, 300  # widths of a printed figure
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
    dark: Annotated[bool, typer.Option("--dark", help="Draw it on a dark background.")] = False,
    for_: Annotated[
        str | None, typer.Option("--for", help="paper: print size, black letters of 6 pt or more, and a caption file.")
    ] = None,
    width: Annotated[str | None, typer.Option("--width", help="Width on paper: 85mm.")] = None,
) -> None:
    """Draw one figure into a file."""
    from harness import query
    from harness.charts import catalogue, rendering
    from harness.results import citation, scope, tables
    from harness.store import Store

    if for_ not in (None, "paper"):
        raise CellbenchError(f"there is no form {for_!r} of a figure", "--for", "give: --for paper")
    if (width and not for_) or (dark and for_):
        raise CellbenchError(
            "--width needs --for paper, and --dark excludes it", "--for, --width, --dark", "leave one of them out"
        )
    width_mm = _millimetres(width or "85mm")
    figure = catalogue.figure(name)
    session = query.Session(Store.at(out))
    chosen = scope.resolve(session, run, since, series)
    data = tables.load(session, chosen, published)
    if for_ is None:
        typer.echo(rendering.save(figure.chart(data), to, dark), err=True)
        return
    for path in rendering.save_for_paper(figure.chart(data), to, width_mm, citation.sentence(data)):
        typer.echo(path, err=True)


def _millimetres(text: str) -> float:
    """'85mm' or '85' as a number within what is printed."""
    with suppress(ValueError):
        if MM_LEAST <= (value := float(text.removesuffix("mm"))) <= MM_MOST:
            return value
    raise CellbenchError(f"this is not a width: {text}", "--width", f"give {MM_LEAST} to {MM_MOST} mm, as --width 85mm")


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
    if not (md or to):
        check_writable(out)
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
