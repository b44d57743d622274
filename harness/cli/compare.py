"""Commands that judge results: compare, alarms, accept, tag; and the pages over all runs: history, index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import RESULTS, Json, Markdown, Out, OutToWrite, Run, Wide, check_writable, form
from harness.errors import CellbenchError

if TYPE_CHECKING:
    from harness.judge.compare import Comparison

app = typer.Typer()

# The conditions of a gate, and their exit codes.
GATES = {"slower": 1, "inconclusive": 1, "missing": 1, "failed": 1, "not-comparable": 1, "masks": 5}


@app.command("compare")
def compare_(
    a: Annotated[str, typer.Argument(help="Before: run, date, tag, node, latest, previous, key=value, or path.")],
    b: Annotated[str, typer.Argument(help="After: in the same forms.")],
    out: Out = RESULTS,
    margin: Annotated[float, typer.Option(help="Largest change that counts as the same: 0.05 is ±5 %.")] = 0.05,
    fail_on: Annotated[
        str | None,
        typer.Option(help="Exit with 1 on slower,inconclusive,missing,failed,not-comparable; masks: 5."),
    ] = None,
    json: Json = False,
    md: Markdown = False,
    wide: Wide = False,
) -> None:
    """Compare two sets of results: is the second slower?

    Every case gets a ratio, its 95 % interval and a verdict.
    """
    from harness.judge import compare, selection
    from harness.terminal import comparison_view

    wanted = form(json, False, md, wide)
    gates = _gates(fail_on)
    if not 0 < margin < 1:
        raise CellbenchError(f"a margin of {margin:g} is invalid", "--margin", "0.05 is ±5 %")
    found = compare.compare(selection.select(out, a), selection.select(out, b), margin)
    comparison_view.print_comparison(found, wanted)
    _gate(found, gates)


def _gates(text: str | None) -> list[str]:
    gates = [word.strip().lower() for word in (text or "").split(",") if word.strip()]
    if unknown := [word for word in gates if word not in GATES]:
        raise CellbenchError(f"unknown: {', '.join(unknown)}", "--fail-on", f"choose some of {', '.join(GATES)}")
    return gates


def _gate(found: Comparison, gates: list[str]) -> None:
    """Exit with the code of the gates; no gate passes where nothing could be judged."""
    cases = found.cases
    failing = {word for word in gates for case in cases if case.verdict.lower().replace(" ", "-") == word}
    if "masks" in gates and not any(case.same_masks for case in cases):
        typer.echo("cellbench: no masks with cells were compared, so the gate is not passed", err=True)
        failing.add("masks")
    if "masks" in gates and any(case.same_masks is False for case in cases):
        failing.add("masks")
    if gates and not any(case.verdict in ("FASTER", "SLOWER", "SAME") for case in cases):
        typer.echo("cellbench: nothing could be judged, so the gate is not passed", err=True)
        failing.add("inconclusive")
    if failing:
        raise typer.Exit(max(GATES[word] for word in failing))


@app.command("alarms")
def alarms_(
    out: Out = RESULTS,
    run: Run = None,
    every: Annotated[bool, typer.Option("--all", help="Show every series, not only the unusual ones.")] = False,
    fail_on_alarm: Annotated[bool, typer.Option("--fail-on-alarm", help="Exit with 1 if there is an alarm.")] = False,
    json: Json = False,
    md: Markdown = False,
    wide: Wide = False,
) -> None:
    """List regressions and improvements in the newest run of each series.

    Checks times, masks and memory.
    """
    from harness.terminal import alarms_view

    wanted = form(json, False, md, wide)
    _, found = _look(out, run)
    alarms_view.print_watch(found, wanted, every)
    if fail_on_alarm and found.alarms:
        raise typer.Exit(1)


@app.command("accept")
def accept_(
    names: Annotated[list[str], typer.Argument(help="Names of alarms as `cellbench alarms` shows them, or all.")],
    why: Annotated[str, typer.Option(help="Reason for the change; stored with it.")],
    out: OutToWrite = RESULTS,
) -> None:
    """Accept a change; a new baseline starts after it."""
    from harness.judge import alarms, annotations

    if not why.strip():
        raise CellbenchError("an accepted change needs a reason", "--why", 'give the reason: --why "torch 2.14"')
    store, found = _look(out, None)
    accepted = alarms.accept(found, names, why)
    annotations.add(Path(store.root), accepted)
    for each in accepted:
        typer.echo(f"{each.alarm}: accepted; its baseline begins at run {each.run_id}", err=True)


@app.command("tag")
def tag_(
    run: Annotated[str, typer.Argument(help="Run to name, or latest.")],
    name: Annotated[str, typer.Argument(help="Its tag; `compare` takes it.")],
    out: OutToWrite = RESULTS,
) -> None:
    """Give a run a name, such as before-update."""
    from harness import query
    from harness.judge import annotations, selection
    from harness.store import Store

    store = Store.at(out)
    if not name or set(name) & set("=,/ "):
        raise CellbenchError("a tag has no spaces, commas, slashes or equals signs", name, "before-update")
    run_id = selection.run(query.Session(store), run)
    annotations.add(Path(store.root), [annotations.new("tag", run_id, name=name)])
    typer.echo(f"{run_id} is tagged {name}", err=True)


@app.command("history")
def history_(
    out: Out = RESULTS,
    to: Annotated[Path | None, typer.Option("--to", help="HTML file to write; in --out if not given.")] = None,
) -> None:
    """Write the history page: every series over time.

    The page shows baselines, alarms, versions and accepted changes.
    """
    from harness import files
    from harness.report import history_page

    if to is None:
        check_writable(out)
    _, found = _look(out, None)
    typer.echo(files.write(to or out / "history.html", history_page.build(found)))


@app.command("index")
def index_(
    out: Out = RESULTS,
    to: Annotated[Path | None, typer.Option("--to", help="HTML file to write; in --out if not given.")] = None,
) -> None:
    """Write the index page: all runs, reports and alarms."""
    from harness import files, query
    from harness.report import index_page

    if to is None:
        check_writable(out)
    store, found = _look(out, None)
    path = to or out / "index.html"
    runs = query.Session(store).table("SELECT * FROM runs ORDER BY run_id DESC").to_pylist()
    typer.echo(files.write(path, index_page.build(runs, found, path.parent)))


def _look(out: Path, run_id: str | None) -> tuple:
    from harness import query
    from harness.judge import alarms, annotations
    from harness.store import Store

    store = Store.at(out)
    return store, alarms.look(query.Session(store), annotations.read(Path(store.root)), run_id)
