"""Commands that draw: chart, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Out, Published, Run

app = typer.Typer()


@app.command("chart")
def chart_(
    name: Annotated[str, typer.Argument(help="time, time-log, percent-of-cpu, speedup or stages.")],
    to: Annotated[Path, typer.Option("--to", help="File to write: .html .png .svg .pdf .json")],
    out: Out = RESULTS,
    run: Run = None,
    published: Published = True,
) -> None:
    """Draw one figure into a file."""
    from harness import query
    from harness.show import charts, drawing, report
    from harness.store import Store

    session = query.Session(Store.at(out))
    drawing.save(charts.draw(name, report.tables(session, run, published)), to)
    typer.echo(to, err=True)


@app.command("report")
def report_(
    out: Out = RESULTS,
    run: Run = None,
    to: Annotated[Path | None, typer.Option("--to", help="HTML file to write; in --out if not given.")] = None,
    published: Published = True,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one run's report: a single HTML file that needs no network."""
    from harness import query
    from harness.show import report
    from harness.store import Store

    session = query.Session(Store.at(out))
    run_id = query.which_run(session, run)
    path = to or out / f"report-{run_id}.html"
    report.write(report.build(session, run_id, published), path)
    typer.echo(path)
    if open_:
        typer.launch(str(path.resolve()))
