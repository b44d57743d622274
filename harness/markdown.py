"""Markdown for GitHub: tables, and text that is shown unchanged."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Container[int] = ()) -> Iterator[str]:
    """The lines of a table, one at a time; cells are Markdown. numeric: columns that are aligned to the right."""
    yield _line(head)
    yield "|" + "|".join("---:" if column in numeric else "---" for column in range(len(head))) + "|"
    yield from map(_line, rows)


def escaped(text: str) -> str:
    """Text that Markdown shows unchanged: no tags, no links, no mentions, on one line."""
    plain = re.sub(r"([\\`*_\[\]#~])", r"\\\1", " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """A cell on one line, in which every bar that would end it is escaped."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", " ".join(text.splitlines()))
