"""The limits of a figure's numbers, in short sentences for the picture itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.engines import registry
from harness.query import reference_timings
from harness.results.formatting import count, dimension_value, flagged, listed, models_with
from harness.results.tables import Tables
from harness.schema import identity

FEW = 5  # repetitions; the article used as many
# Columns that should be equal for all cases of a figure, or may explain a difference; devices and variants are its
# subject.
ALIKE = (*identity.without(identity.WORK, identity.SIZE), "dtype", *identity.VERSIONS)


def notes(tables: Tables) -> list[str]:
    """All limits of the times: their origin, their number, failures, mixed columns."""
    rows = tables.cases
    found = provenance(tables)
    if rows and (fewest := min(row["n"] for row in rows)) < FEW:
        found.append(f"few repetitions (n = {fewest})")
    if tables.n_failed:
        found.append(f"{count(tables.n_failed, 'failed repetition')} excluded")
    if flags := flag_note(tables):
        found.append(flags)
    if caution := all_flagged(rows):
        found.append(caution)
    found += mixed(tables)
    if tables.published is not None:
        found.append(
            "reference timings: published means of 5 without spread, model construction included (protocol article)"
        )
        if rows and {row["protocol"] for row in rows} != {reference_timings.PROTOCOL}:
            found.append("measured here: model construction not included (protocol standard)")
    return found


def surrogate_notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The common properties of stand-in and published weights, for each model that ran with the former."""
    names = models_with(rows, "standin")
    return [f"Stand-in weights for {name}. {registry.info(name).surrogate_note}" for name in names]


def provenance(tables: Tables) -> list[str]:
    """The origin of these numbers, where it is not the published weights on a real image."""
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
    """The columns that differ between the cases and may explain a difference of times."""
    found = []
    for column in identity.distinguishing(tables.cases, (), ALIKE):
        values = {dimension_value(row, column) for row in tables.cases}
        found.append(f"mixed {_plural(column)}: {listed(sorted(values))}")
    return found


def _plural(column: str) -> str:
    word = column.replace("_", " ") if column in identity.VERSIONS else identity.word(column)
    return word if word.endswith("s") else f"{word}s"


def all_flagged(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """A caution about medians whose repetitions all carry a flag; None where there is no such median."""
    rows = list(rows)
    wholly = [row for row in rows if row["n"] and row["n_flagged"] == row["n"]]
    if not wholly:
        return None
    flags = sorted({flag for row in wholly for flag in (row["flags"] or "").split()})
    cases = count(len(wholly), "case") if len(wholly) == len(rows) else f"{len(wholly)} of {count(len(rows), 'case')}"
    return f"every repetition of {cases} carries a flag ({listed(flags)}): measure again"


def flag_note(tables: Tables) -> str | None:
    """The flagged repetitions in words; None if there is none."""
    n_flagged, n = (sum(row[column] for row in tables.cases) for column in ("n_flagged", "n"))
    return flagged(n_flagged, n, {row["flag"]: row["n"] for row in tables.flags.to_pylist()})
