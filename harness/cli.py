"""The `cellbench` command: parse, call, print, exit code; everything else is imported when it is needed."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import CasesFailedError, CellbenchError, ChecksFailedError

app = typer.Typer(
    name="cellbench",
    help="How fast is Cellpose (cyto3) on this hardware, what does a GPU buy, and from which image size on?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Out = Annotated[Path, typer.Option("--out", help="Folder of the results.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Markdown = Annotated[bool, typer.Option("--md", help="Print a Markdown table.")]
Run = Annotated[str | None, typer.Option("--run", help="Run to use; the latest if not given.")]
Published = Annotated[bool, typer.Option(help="Draw the published desktop and M1 figures as reference.")]
RESULTS = Path("results")


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="quick, article, thorough, or a TOML file.")] = "quick",
    image: Annotated[str | None, typer.Option(help="sparse, dense, or a 2-D TIFF file.")] = None,
    plane: Annotated[int | None, typer.Option(help="Plane of a stack, from 0.")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel of a multi-channel image, from 0.")] = None,
    crops: Annotated[str | None, typer.Option(help="Sides of centred squares in px, and full: 224,448,full.")] = None,
    devices: Annotated[str | None, typer.Option(help="auto, or some of cpu, mps, cuda, cuda:N.")] = None,
    protocol: Annotated[str | None, typer.Option(help="standard, article, or both: standard,article.")] = None,
    weights: Annotated[str | None, typer.Option(help="auto, cyto3, standin, or a path.")] = None,
    warmups: Annotated[int | None, typer.Option(help="Warm-up calls before each case's repetitions.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed repetitions of each case.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Repeat until the mean is known this well: 0.02 is ±2 %.")
    ] = None,
    passes: Annotated[str | None, typer.Option(help="Besides times: some of stages, memory, energy, masks.")] = None,
    blocks: Annotated[int | None, typer.Option(help="Fresh processes per device.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the order of cases.")] = None,
    out: Out = RESULTS,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Measure without Ray; the rows are the same.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured, and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table of results.")] = False,
) -> None:
    """Measure this machine: crops × devices, every repetition kept."""
    from harness import bench, config
    from harness.show import progress, screen

    flags = {
        "image": image, "plane": plane, "channel": channel, "warmups": warmups, "repeats": repeats,
        "blocks": blocks, "seed": seed, "weights": weights, "crops": config.split(crops),
        "devices": config.split(devices), "protocols": config.split(protocol),
        "precision": precision, "passes": config.split(passes),
    }  # fmt: skip
    prepared = bench.prepare(config.load(profile, flags))
    shown = progress.Progress(prepared, quiet)
    shown.begin()
    if dry_run:
        return
    try:
        with shown:
            result = bench.run(prepared, out, use_ray=not no_ray, on_sample=shown.sample)
    except KeyboardInterrupt:
        typer.echo(f"cellbench: stopped; what was measured is saved in {out}", err=True)
        raise typer.Exit(130) from None
    shown.end(result)
    if result.n_timed:
        screen.print_cases(screen.cases(result.store, result.run_id))
    if result.n_failed:
        raise CasesFailedError(
            f"{result.n_failed} of {prepared.n_tasks} measurements failed; everything else is saved",
            f"{out}, run {result.run_id}",
            f'see why: cellbench query --out {out} "SELECT device, crop, status, error_message FROM failures"',
        )


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

    form = _format(json, csv, md)
    if stages and passes:
        raise CellbenchError("more than one table", "--stages --passes", "choose one")
    if passes:
        screen.print_table(screen.passes(Store.at(out), run), form)
        return
    if stages:
        table, ceilings = screen.stages(Store.at(out), run)
        screen.print_stages(table, ceilings) if form == "table" else screen.print_table(table, form)
        return
    table = screen.cases(Store.at(out), run)
    screen.print_cases(table) if form == "table" else screen.print_table(table, form)


@app.command("list")
def list_(out: Out = RESULTS, json: Json = False, csv: Csv = False, md: Markdown = False) -> None:
    """The runs in a store, newest first."""
    from harness import query
    from harness.show import screen
    from harness.store import Store

    table = query.Session(Store.at(out)).table("SELECT * FROM runs ORDER BY started_at DESC")
    screen.print_table(table, _format(json, csv, md))


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
    screen.print_table(query.Session(Store.at(out)).table(text), _format(json, csv, md))


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


@app.command("env")
def env_(
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto", json: Json = False
) -> None:
    """The facts about this machine that are stored with every block: hardware, power, system, libraries."""
    from harness.show import environment

    told = environment.ask(device)
    typer.echo(dumps(told, indent=2) if json else environment.text(told))


@app.command("doctor")
def doctor_(
    out: Out = RESULTS,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of Ray's head; RAY_ADDRESS if not given.")] = None,
    json: Json = False,
) -> None:
    """Check this machine in seconds: devices, clock, threads, versions, weights, load, power, room, Ray."""
    from harness import diagnosis, doctor

    checks = diagnosis.show(doctor.examine(out, address), json)
    if failed := [check.name for check in checks if check.verdict == diagnosis.FAIL]:
        what = f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}"
        raise ChecksFailedError(what, "this machine", "see the fix of each above")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from harness import __version__

        typer.echo(__version__)
        raise typer.Exit


def _format(json: bool, csv: bool, md: bool) -> str:
    chosen = [name for name, wanted in (("json", json), ("csv", csv), ("md", md)) if wanted]
    if len(chosen) > 1:
        raise CellbenchError("more than one output format", " ".join(f"--{name}" for name in chosen), "choose one")
    return chosen[0] if chosen else "table"


def main() -> None:
    """Run the command; errors that a user can cause are printed without a traceback."""
    try:
        app(standalone_mode=True)
    except CellbenchError as error:
        typer.echo(f"cellbench: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
