"""A few rows of text on stdout, as a table or Markdown; and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness import markdown


def print_rows(head: Sequence[str], rows: Iterable[Sequence[str]], n_labels: int, form: str, title: str = "") -> None:
    """A table, or nothing where it has no rows; the first n_labels columns are words, the others numbers."""
    rows = [[str(value) for value in row] for row in rows]
    if not rows:
        return
    numeric = range(n_labels, len(head) - 2)
    if form == "md":
        cells = [[markdown.escaped(value) for value in row] for row in rows]
        print("\n".join([*([f"\n{title}\n"] if title else []), *markdown.table(head, cells, numeric)]))
        return
    # Piped output is never wrapped: a program reads it.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    table = Table(box=None, pad_edge=False)
    for column, name in enumerate(head):
        is_number = column in numeric
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(*(value.replace("[", r"\[") for value in row))
    if title:
        console.print(f"\n{title}", style="bold", markup=False)
    console.print(table)


def print_json(value: dict[str, Any]) -> None:
    """A value as JSON on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def environment_json(differences: Iterable[tuple[str, str, str, str]]) -> list[dict[str, str]]:
    """Facts that differ, for programs."""
    return [dict(zip(("node", "fact", "before", "after"), each, strict=True)) for each in differences]
