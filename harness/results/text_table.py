"""A table as text: a report shows it under a figure, and Markdown repeats it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """A table as text, ready to be shown; the first `n_labels` columns are words, the others numbers."""

    head: tuple[str, ...]
    groups: dict[str, list[tuple[str, ...]]]  # heading, empty for none → rows
    n_labels: int = 1

    @classmethod
    def grouped(cls, head: tuple[str, ...], rows: Iterable[tuple[str, ...]], n_labels: int = 1) -> TextTable:
        """Rows whose first item is the heading they belong under."""
        groups: dict[str, list[tuple[str, ...]]] = {}
        for heading, *cells in rows:
            groups.setdefault(heading, []).append(tuple(cells))
        return cls(head, groups, n_labels)

    @property
    def n_lines(self) -> int:
        """The number of lines, headings included."""
        return 1 + sum(len(rows) + bool(heading) for heading, rows in self.groups.items())
