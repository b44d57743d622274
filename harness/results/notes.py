"""What a reader must know to judge the numbers of a figure, in short sentences for the picture itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.engines import registry
from harness.query import reference_timings
from harness.results.formatting import count, dimension_value, flagged, listed, models_with
from harness.results.tables import Tables
from harness.schema import identity

FEW = 5  # repetitions; the article used as many
# What should be the same for all cases of a figure, or may explain what differs; devices and variants are its subject.
ALIKE = (*identity.without(identity.WORK, identity.SIZE), "dtype", *identity.VERSIONS)


def notes(tables: Tables) -> list[str]:
    """Everything that limits the times: what they are made from, how many, what failed, what is mixed."""
    rows = tables.cases
    found = provenance(tables)
    if rows and (fewest := min(row["n"] for row in rows)) < FEW:
        found.append(f"few repetitions (n = {fewest})")
    if tables.n_failed:
        found.append(f"{count(tables.n_failed, 'failed repetition')} excluded")
    if flags := flag_note(tables):
        found.append(f"{flags}; none is left out")
    if caution := all_flagged(rows):
        found.append(caution)
    found += mixed(tables)
    if tables.published is not None:
        found.append("published series: means of 5 without spread, model construction included (protocol article)")
        if rows and {row["protocol"] for row in rows} != {reference_timings.PROTOCOL}:
            found.append("measured here: model construction not included (protocol standard)")
    return found


def surrogate_notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What stand-in weights share with the published ones and what not, for each model that ran with them."""
    names = models_with(rows, "standin")
    return [f"Stand-in weights for {name}. {registry.info(name).surrogate_note}" for name in names]


def provenance(tables: Tables) -> list[str]:
    """What these numbers are made from, where that is not the published weights on a real image."""
    rows = tables.cases
    found = []
    if any(row["workload"] == "simulated" for row in rows):
        found.append("simulated workload: not a measurement")
    for kind, words in (("standin", "stand-in weights"), ("custom", "custom weights")):
        if models := models_with(rows, kind):
            found.append(f"{words}, not the published {listed(models)}")
    if any(row["image_is_synthetic"] for row in rows):
        found.append("synthetic image")
    if sources := sorted({row["source"] for row in rows} - {"measured"}):
        found.append(f"not all measured by cellbench: {', '.join(sources)}")
    return found


def mixed(tables: Tables) -> list[str]:
    """What is not the same for all cases and may explain a difference between them."""
    found = []
    for column in identity.distinguishing(tables.cases, (), ALIKE):
        values = {dimension_value(row, column) for row in tables.cases}
        found.append(f"mixed {_plural(column)}: {listed(sorted(values))}")
    return found


def _plural(column: str) -> str:
    word = column.replace("_", " ") if column in identity.VERSIONS else identity.word(column)
    return word if word.endswith("s") else f"{word}s"


def all_flagged(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Which of these medians consist of flagged repetitions only, as a caution; None if none does."""
    rows = list(rows)
    wholly = [row for row in rows if row["n"] and row["n_flagged"] == row["n"]]
    if not wholly:
        return None
    flags = sorted({flag for row in wholly for flag in (row["flags"] or "").split()})
    cases = count(len(wholly), "case") if len(wholly) == len(rows) else f"{len(wholly)} of {count(len(rows), 'case')}"
    return f"every repetition of {cases} carries a flag ({listed(flags)}): measure again"


def flag_note(tables: Tables) -> str | None:
    """How many repetitions carry a flag, and which; None if there is none."""
    n_flagged, n = (sum(row[column] for row in tables.cases) for column in ("n_flagged", "n"))
    return flagged(n_flagged, n, {row["flag"]: row["n"] for row in tables.flags.to_pylist()})
