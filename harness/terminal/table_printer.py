"""Tables on a terminal: the columns that fit its width, the alignment of cells, and their colours; JSON on stdout.

Nothing is cut. Where a table is too wide, the least important columns are left out and named; `--wide` prints them all.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import markdown
from harness.results.formatting import listed

UNLIMITED = 10_000  # columns of a pipe: a program reads it, so no line is wrapped
GAP = 2  # between columns
TEXT_MIN, TEXT_LEAST = 20, 8  # width of a text while other columns can be left out, and the minimum
N_NAMED = 10  # of the columns that are left out
TABLE, WIDE = "table", "wide"  # forms for people: the columns that fit the terminal, and all columns
STYLES = {
    **dict.fromkeys(("ok", "FASTER", "SAME", "identical", "equivalent"), "green"),
    **dict.fromkeys(("warn", "warning", "INCONCLUSIVE", "suspect", "noisy", "close"), "yellow"),
    **dict.fromkeys(("fail", "error", "SLOWER", "ALARM", "different"), "red"),
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    order: where the terminal is too narrow, columns with the highest number are left out first; those with 0 stay.
    is_whole: whether it is never wrapped, because users copy it. text_min: the width of a text below which other
    columns are left out.
    """

    name: str
    is_number: bool = False
    order: int = 0
    is_whole: bool = False
    text_min: int = TEXT_MIN


def stdout(form: str = TABLE) -> Console:
    """The terminal on stdout; piped output and the wide form are never wrapped."""
    limited = sys.stdout.isatty() and form != WIDE
    return Console(highlight=False, width=None if limited else UNLIMITED)


def stderr(style: str | None = None) -> Console:
    """The terminal on stderr for notes; piped output is never wrapped."""
    width = None if sys.stderr.isatty() else UNLIMITED
    return Console(stderr=True, highlight=False, width=width, style=style)


def wrapped(text: str, mark: str = "") -> str:
    """A paragraph in lines as wide as stdout; mark: begins each of them, such as that of a comment."""
    width = stdout().width
    return textwrap.fill(
        text, width, initial_indent=mark, subsequent_indent=mark, break_long_words=False, break_on_hyphens=False
    )


def rendered(columns: Sequence[Column], rows: Iterable[Sequence[str]], form: str = TABLE) -> str:
    """The table as text, as wide as stdout."""
    console = stdout(form)
    with console.capture() as capture:
        console.print(fitted(columns, list(rows), console.width)[0])
    return capture.get().rstrip("\n")


def print_columns(columns: Sequence[Column], rows: Iterable[Sequence[str]], form: str = TABLE, title: str = "") -> None:
    """Print rows of text on stdout; columns that do not fit are named on stderr."""
    console = stdout(form)
    if title:
        console.print(f"\n{title}", style="bold", markup=False)
    shown, left_out = fitted(columns, list(rows), console.width)
    console.print(shown)
    if left_out:
        names = listed(left_out, N_NAMED)
        stderr("dim").print(f"left out at {console.width} columns: {names}; all of them: --wide", markup=False)


def fitted(columns: Sequence[Column], rows: list[Sequence[str]], width: int) -> tuple[Table, list[str]]:
    """The table in this width, and the names of the columns that it leaves out.

    Where even the required columns do not fit, each row becomes a block of lines `name  value`.
    """
    cells = [_aligned(column, [row[i] for row in rows]) for i, column in enumerate(columns)]
    full = [max(map(cell_len, [column.name, *cells[i]])) for i, column in enumerate(columns)]
    kept = list(range(len(columns)))

    def needed(text_least: int | None = None) -> int:
        least = (full[i] if _is_fixed(columns[i]) else min(full[i], text_least or columns[i].text_min) for i in kept)
        return sum(least) + GAP * (len(kept) - 1)

    while needed() > width and (spare := [i for i in kept if columns[i].order]):
        kept.remove(max(spare, key=lambda i: (columns[i].order, i)))
    left_out = [column.name for i, column in enumerate(columns) if i not in kept and column.name]
    if needed(TEXT_LEAST) > width:
        return _records([columns[i] for i in kept], [[row[i] for i in kept] for row in rows]), left_out
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for i in kept:
        width_min = full[i] if _is_fixed(columns[i]) else min(full[i], TEXT_LEAST)
        name = columns[i].name.rjust(full[i]) if columns[i].is_number else columns[i].name
        table.add_column(Text(name), no_wrap=_is_fixed(columns[i]), overflow="fold", min_width=width_min)
    for n in range(len(rows)):
        table.add_row(*(_styled(cells[i][n].rjust(full[i]) if columns[i].is_number else cells[i][n]) for i in kept))
    return table, left_out


def print_rows(columns: Sequence[Column], rows: Iterable[Sequence[str]], form: str, title: str = "") -> None:
    """Print rows of text on stdout, as Markdown or for people; nothing where there are none."""
    rows = [[str(value) for value in row] for row in rows]
    if form != "md" and rows:
        print_columns(columns, rows, form, title)
    elif rows:
        cells = [[markdown.escaped(value) for value in row] for row in rows]
        lines = markdown.table(
            [each.name for each in columns], cells, [i for i, c in enumerate(columns) if c.is_number]
        )
        print("\n".join([*([f"\n{title}\n"] if title else []), *lines]))


def print_json(value: dict[str, Any]) -> None:
    """A value as JSON on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def environment_json(differences: Iterable[tuple[str, str, str, str]]) -> list[dict[str, str]]:
    """Facts that differ, for programs."""
    return [dict(zip(("node", "fact", "before", "after"), each, strict=True)) for each in differences]


def _is_fixed(column: Column) -> bool:
    return column.is_number or column.is_whole


def _aligned(column: Column, cells: Sequence[str]) -> list[str]:
    """The cells of a column of numbers with their decimal points below each other; other cells unchanged."""
    if not column.is_number or not all(re.fullmatch(r"[^.]*(\.\d*)?", cell) for cell in cells):
        return list(cells)
    tails = [len(cell) - cell.find(".") if "." in cell else 0 for cell in cells]
    return [cell + " " * (max(tails) - tail) if cell else cell for cell, tail in zip(cells, tails, strict=True)]


def _records(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """Each row as lines of name and value, with an empty line between rows."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for n, row in enumerate(rows):
        if n:
            table.add_row("", "")
        for column, cell in zip(columns, row, strict=True):
            table.add_row(Text(column.name), _styled(cell))
    return table


def _styled(cell: str) -> Text:
    return Text(cell, style=STYLES.get(cell.strip(), ""))
