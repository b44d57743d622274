"""A few rows of text on stdout, as a table or Markdown; and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_rows(head: Sequence[str], rows: Iterable[Sequence[str]], n_labels: int, form: str, title: str = "") -> None:
    """A table, or nothing where it has no rows; the first n_labels columns are words, the others numbers."""
    rows = [[str(value) for value in row] for row in rows]
    if not rows:
        return
    if form == "md":
        escaped = [[value.replace("|", r"\|") for value in row] for row in rows]
        lines = [head, ["---"] * len(head), *escaped]
        print("\n".join(([f"\n{title}\n"] if title else []) + ["| " + " | ".join(line) + " |" for line in lines]))
        return
    # Piped output is never wrapped: a program reads it.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    table = Table(box=None, pad_edge=False)
    for column, name in enumerate(head):
        is_number = n_labels <= column < len(head) - 2
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(*(value.replace("[", r"\[") for value in row))
    if title:
        console.print(f"\n{title}", style="bold", markup=False)
    console.print(table)


def print_json(told: dict[str, Any]) -> None:
    json.dump(told, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def environment_json(differences: Iterable[tuple[str, str, str, str]]) -> list[dict[str, str]]:
    """Facts that differ, for programs."""
    return [dict(zip(("node", "fact", "before", "after"), each, strict=True)) for each in differences]
