"""Pieces of SQL that several modules share."""

from __future__ import annotations

from collections.abc import Iterable

from harness.schema import FINE, Status
from harness.stats.levels import AGREEMENTS


def text(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Iterable[str]) -> str:
    """Texts as the inside of an SQL list."""
    return ", ".join(map(text, values))


OK = f"status = {text(Status.OK)}"
# Successful rows with a duration; an imported row may lack the duration.
MEASURED = f"{OK} AND isfinite(elapsed_s) AND elapsed_s > 0"
FAILED = f"status NOT IN ({texts(FINE)})"
# Of several words about the masks of one case, the worst; a word unknown to this version counts as worse than all.
WORST = f"arg_min(agreement, coalesce(list_position([{texts(AGREEMENTS)}], agreement), 0))"
LENGTH = "sqrt(height_px * width_px) AS length_px, height_px * width_px AS n_pixels"
