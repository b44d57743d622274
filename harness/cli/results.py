"""Commands that read and join results: show, list, query, merge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Csv, Json, Markdown, Out, Run, form
from harness.errors import CellbenchError

app = typer.Typer()


@app.command("show")
def show_(
    out: Out = RESULTS,
    run: Run = None,
    stages: Annotated[bool, typer.Option("--stages", help="Where the time of one call goes instead.")] = False,
    passes: Annotated[bool, typer.Option("--passes", help="Agreement of masks, memory and energy instead.")] = False,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
) -> None:
    """A table of one run: crop, device, median, IQR, mean ± SD, n, cells, speed-up."""
    from harness.show import screen
    from harness.store import Store

    wanted = form(json, csv, md)
    if stages and passes:
        raise CellbenchError("more than one table", "--stages --passes", "choose one")
    if passes:
        screen.print_table(screen.passes(Store.at(out), run), wanted)
        return
    if stages:
        table, ceilings = screen.stages(Store.at(out), run)
        screen.print_stages(table, ceilings) if wanted == "table" else screen.print_table(table, wanted)
        return
    table = screen.cases(Store.at(out), run)
    screen.print_cases(table) if wanted == "table" else screen.print_table(table, wanted)


@app.command("list")
def list_(out: Out = RESULTS, json: Json = False, csv: Csv = False, md: Markdown = False) -> None:
    """The runs in a store, newest first."""
    from harness import query
    from harness.show import screen
    from harness.store import Store

    table = query.Session(Store.at(out)).table("SELECT * FROM runs ORDER BY started_at DESC")
    screen.print_table(table, form(json, csv, md))


@app.command("merge")
def merge_(
    others: Annotated[list[Path], typer.Argument(help="Folders of results to take in, as from other machines.")],
    out: Out = RESULTS,
) -> None:
    """Take the results of other machines into --out; each store whole or not at all."""
    from harness.store import Store

    sources = [Store.at(other) for other in others]
    store = Store.make(out)
    for other in sources:
        n_new, n_known = store.merge(other)
        typer.echo(f"{other.root}: {n_new} new, {n_known} here already", err=True)


@app.command("query")
def query_(
    sql: Annotated[str, typer.Argument(help='One SELECT; "-" reads it from stdin.')],
    out: Out = RESULTS,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
) -> None:
    """Ask the results anything, in SQL (views: samples, timed, medians, speedups, failures, runs)."""
    from harness import query
    from harness.show import screen
    from harness.store import Store

    text = sys.stdin.read() if sql == "-" else sql
    screen.print_table(query.Session(Store.at(out)).table(text), form(json, csv, md))
