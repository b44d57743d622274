"""Commands that read and keep results: show, list, query, schema, merge, compact, import, export, anonymise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, Csv, Json, Markdown, OutToWrite, Place, Run, Wide, form
from harness.errors import CellbenchError

app = typer.Typer()


@app.command("show")
def show_(
    out: Place = str(RESULTS),
    run: Run = None,
    stages: Annotated[
        bool, typer.Option("--stages", help="Print the stages of one call instead: where the time goes.")
    ] = False,
    passes: Annotated[
        bool, typer.Option("--passes", help="Print agreement of masks, memory and energy instead.")
    ] = False,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
    wide: Wide = False,
) -> None:
    """Print the table of one run.

    The table has medians, spread, images per hour, cells and speed-up; for a search, its variants.
    """
    from harness.store import Store
    from harness.terminal import run_tables
    from harness.terminal.table_printer import TABLE, WIDE

    wanted = form(json, csv, md, wide)
    for_people = wanted in (TABLE, WIDE)
    if stages and passes:
        raise CellbenchError("more than one table", "--stages --passes", "choose one")
    if passes:
        run_tables.print_dimensions(run_tables.passes(Store.at(out), run), wanted)
        return
    if stages:
        table, ceilings = run_tables.stages(Store.at(out), run)
        if for_people:
            run_tables.print_stages(table, ceilings, wanted)
        else:
            run_tables.print_dimensions(table, wanted)
        return
    table = run_tables.cases(Store.at(out), run)
    if not table.num_rows and (searched := run_tables.races(Store.at(out), run)).num_rows:
        run_tables.print_dimensions(searched, wanted)
        return
    run_tables.print_cases(table, wanted) if for_people else run_tables.print_dimensions(table, wanted)


@app.command("list")
def list_(
    out: Place = str(RESULTS), json: Json = False, csv: Csv = False, md: Markdown = False, wide: Wide = False
) -> None:
    """List the runs in the results, newest first."""
    from harness import query
    from harness.store import Store
    from harness.terminal import run_tables

    table = query.Session(Store.at(out)).table("SELECT * FROM runs ORDER BY started_at DESC")
    run_tables.print_table(table, form(json, csv, md, wide))


@app.command("query")
def query_(
    sql: Annotated[
        str | None,
        typer.Argument(help="SQL (one SELECT), the name of a query or view, or - for stdin; omit it for a prompt."),
    ] = None,
    out: Place = str(RESULTS),
    list_: Annotated[bool, typer.Option("--list", help="List the named queries.")] = False,
    print_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL of a named query, and stop.")] = False,
    param: Annotated[
        list[str] | None, typer.Option(help="name=value of a $name in the SQL; text, $name::INT makes it a number.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Print at most N rows; 0: all.")] = None,
    time_limit: Annotated[float, typer.Option(min=0.001, help="Longest time of a query in seconds.")] = 60.0,
    memory_limit: Annotated[float, typer.Option(min=0.05, help="Memory for the work of a query in GB.")] = 2.0,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write the rows into this Parquet file.")] = None,
    json: Json = False,
    csv: Csv = False,
    md: Markdown = False,
    wide: Wide = False,
) -> None:
    """Query the results in SQL or by the name of a query.

    `query --list` lists the named queries, `schema` the columns; docs/schema.md has the views.
    """
    import pyarrow as pa

    from harness import query
    from harness.query import named
    from harness.store import Store
    from harness.terminal import dimensions, writers
    from harness.terminal.table_printer import TABLE, WIDE

    wanted = form(json, csv, md, wide)
    if list_:
        _print_named(wanted)
        return
    if sql is None and not sys.stdin.isatty():
        raise CellbenchError("there is no query", None, 'cellbench query "SELECT …"; see cellbench query --list')
    text = sys.stdin.read() if sql == "-" else sql
    given = _parameters(param or [])
    if print_sql:
        typer.echo(named.find(text or "").sql)
        return
    session = query.Session(Store.at(out), time_limit, int(memory_limit * 1e9))

    def answer(statement: str) -> None:
        found = named.find(statement)
        if "run" in dict(found.defaults) and "run" in given:
            query.which_run(
                session, given["run"]
            )  # a run that is not there has no rows, which would look like an answer
        with session.stream(found.sql, dict(found.defaults) | given) as answer:
            if parquet is not None:
                n_rows = writers.save(parquet, answer.schema, answer.batches, "parquet")
                typer.echo(f"{n_rows} rows in {parquet}", err=True)
                return
            batches, names = answer.batches, answer.schema
            if found.dimensions and wanted in (TABLE, WIDE, "md"):
                table = dimensions.without_constants(pa.Table.from_batches(batches, names), found.dimensions)
                batches, names = table.to_batches(), table.schema
            labels = [name for name in found.dimensions if name in names.names]
            writers.show(names, batches, wanted, limit, labels)

    if text is not None:
        answer(text)
        return
    from harness.terminal import prompt

    prompt.ask(answer, lambda message: typer.echo(message, err=True))


@app.command("schema")
def schema_(
    table: Annotated[str, typer.Argument(help="samples or environment.")] = "samples",
    json: Json = False,
    md: Markdown = False,
) -> None:
    """List every column: name, type, unit and meaning.

    --md prints the whole of docs/schema.md.
    """
    from harness.query import dictionary
    from harness.terminal import run_tables

    wanted = form(json, False, md)
    if wanted == "md":
        typer.echo(dictionary.page(), nl=False)
    else:
        run_tables.print_table(dictionary.columns(table), wanted)


@app.command("merge")
def merge_(
    others: Annotated[list[str], typer.Argument(help="Results to add: folders or URIs.")],
    out: Place = str(RESULTS),
) -> None:
    """Add the results of other machines to --out.

    Each folder is added as a whole or not at all, with its tags and accepted changes.
    """
    from harness.judge import annotations
    from harness.store import Store

    sources = [Store.at(other) for other in others]
    store = Store.make(out)
    for other in sources:
        n_new, n_known = store.merge(other)
        n_notes = annotations.merge(Path(store.root), Path(other.root)) if store.is_local and other.is_local else 0
        suffix = f", {n_notes} annotations" if n_notes else ""
        typer.echo(f"{other.root}: {n_new} new, {n_known} here already{suffix}", err=True)


@app.command("compact")
def compact_(out: OutToWrite = RESULTS) -> None:
    """Merge each month's small files into one.

    Safe at any time, also while other commands read and measure.
    """
    from harness.store import Store

    done = Store.at(out).compact()
    for month in done:
        size = f"{month.bytes_before / 1e6:.2f} → {month.bytes_after / 1e6:.2f} MB"
        typer.echo(f"{month.path.parent.name}: {month.n_files} files became one, {month.n_rows} rows, {size}", err=True)
    if not done:
        typer.echo("every month is one file already", err=True)


@app.command("export")
def export_(
    to: Annotated[Path, typer.Option("--to", help="File to write: .parquet .csv .json .arrow; - is stdout.")],
    out: Place = str(RESULTS),
    run: Annotated[str | None, typer.Option("--run", help="Only this run; all if not given.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="parquet, csv, json or arrow.")] = None,
) -> None:
    """Write all samples, or one run's, into one file.

    A Parquet file has the schema of a results folder.
    """
    from harness.store import Store
    from harness.terminal import writers

    wanted = writers.form_of(to, format_)
    batches = Store.at(out).rows(run)
    if str(to) != "-":
        typer.echo(f"{writers.save(to, batches.schema, batches, wanted)} rows in {to}", err=True)
        return
    if wanted in writers.BINARY and sys.stdout.isatty():
        raise CellbenchError(f"{wanted} is not for a terminal", "--to -", "give a file, or --format csv")
    writers.show(batches.schema, batches, wanted)


@app.command("anonymise")
def anonymise_(
    to: Annotated[Path, typer.Option("--to", help="New folder for the copy.")],
    out: Place = str(RESULTS),
    run: Annotated[str | None, typer.Option("--run", help="Only this run; all if not given.")] = None,
) -> None:
    """Copy results without data that identify machines and people.

    Machines, images and runs get other names. Users, ids, paths, messages and times of day are left out.
    """
    from harness import files
    from harness.store import Store, anonymous

    n_runs, n_samples = anonymous.copy(Store.at(out), files.expanded(to), run)
    typer.echo(f"{n_samples} samples of {n_runs} runs in {to}, with other names and without times of day", err=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV file in the format of docs/query.md or of the article's script.")],
    out: OutToWrite = RESULTS,
    node: Annotated[str | None, typer.Option(help="Name of the machine that was measured.")] = None,
    date: Annotated[str | None, typer.Option(help="Date of the measurement: 2024-08-31.")] = None,
    gpu: Annotated[str | None, typer.Option(help='Backend of the article\'s "GPU": cuda, mps, …')] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="column=value for every row; may be repeated.")
    ] = None,
) -> None:
    """Import timings from a CSV file, marked as imported."""
    from harness.machine.accelerators import GPUS
    from harness.store import Store, csv_import

    if gpu not in (None, *GPUS):
        raise CellbenchError(f"unknown GPU {gpu!r}", "--gpu", f"known are {', '.join(GPUS)}")
    try:
        measured_at = csv_import.instant(date) if date else None
        columns = _parameters(set_ or [], "--set")
        samples = csv_import.read(file, csv_import.Origin(node, measured_at, gpu, columns))
    except ValueError as error:
        raise CellbenchError(str(error), "--date" if date else "--set") from error
    new = Store.make(out).add(samples)
    done = "imported as" if new else "was imported before: it is"
    typer.echo(f"{samples.num_rows} samples; {file} {done} run {csv_import.run_of(samples)}", err=True)


def _parameters(words: list[str], flag: str = "--param") -> dict[str, str]:
    """name=value, as often as it was given."""
    pairs = [word.partition("=") for word in words]
    for (name, equals, _), word in zip(pairs, words, strict=True):
        if not equals or not name.strip():
            raise CellbenchError(f"{word!r} is not name=value", flag, f"{flag} name=value")
    return {name.strip(): value for name, _, value in pairs}


def _print_named(wanted: str) -> None:
    import pyarrow

    from harness.query.named import QUERIES
    from harness.terminal import run_tables

    listed = [
        {
            "query": name,
            "answers": named.question,
            "parameters": ", ".join(f"{key}={value or '(latest)'}" for key, value in named.defaults),
        }
        for name, named in QUERIES.items()
    ]
    run_tables.print_table(pyarrow.Table.from_pylist(listed), wanted)
