"""A page for each question that a table answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.results.formatting import number
from harness.schema import Row
from harness.site import queries
from harness.site.parts import (
    ALL,
    DTYPE,
    HARDWARE,
    IMAGE,
    SIZE,
    VARIANT,
    Ask,
    Column,
    Figure,
    Page,
    counts,
    failures,
    models,
    numbers,
    size,
    spread,
    weights,
)

MEMORY = (
    "Measured is the memory that PyTorch reserved on a CUDA device, the memory that the Metal driver allocated, or the "
    "peak resident memory of the process on a CPU. 1 GB is 10⁹ bytes. Display and driver need more in addition.",
    "A device with more memory may use more than it needs. “Not measured” means that no submitter measured memory and "
    "none ran out of memory.",
)


def pages(ask: Ask) -> Iterator[Page]:
    """Time and memory below a limit, and the cost of Cellpose-SAM."""
    below = (
        "A kind of hardware counts as below 1 s at a size if the median of every submitter is, and no call failed.",
    )
    yield Page(
        "under-1-s.html", f"Which hardware needs less than {queries.LIMIT_S} s per image?", below,
        _limits(ask, queries.UNDER_LIMIT, f"below {queries.LIMIT_S} s", "s", 1.0),
    )  # fmt: skip
    yield Page(
        "fits-in-8-gb.html", f"Does it fit in {queries.LIMIT_GB} GB?", MEMORY,
        _limits(ask, queries.UNDER_MEMORY, f"within {queries.LIMIT_GB} GB", "GB", 1e9),
    )  # fmt: skip
    about = (
        "The median time of Cellpose-SAM divided by that of cyto3 on the same kind of hardware, both stock. "
        "This is about time, not about the quality of the masks."
    )
    yield Page("cellpose-sam-or-cyto3.html", "Cellpose-SAM or cyto3: what does it cost?", (about,), _costs(ask))


def _limits(ask: Ask, question: tuple[str, str], limit: str, unit: str, scale: float) -> tuple[Figure, Figure]:
    """Numbers of kinds of hardware by size, then the sizes of each kind. scale: of the unit."""

    def border(which: str, other: str) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            if (found := row[which]) is None:
                return "none" if row[other] else "not measured"
            ends = [number(found[name] / scale) for name in ("low", "high") if found[name] is not None]
            measured = f"{' – '.join(dict.fromkeys(ends))} {unit}" if ends else ""
            return f"{size(found)}: {'; '.join(filter(None, (measured, failures(found['failure']))))}"

        return text

    totals, rows = map(ask, question)
    case = (models(rows), VARIANT, DTYPE, IMAGE, weights(rows))
    by_size = (
        counts(limit, "n_yes"), counts(f"not {limit}", "n_no"), counts("of these failed", "n_failed"),
        counts("not measured", "n_unknown"),
    )  # fmt: skip
    by_hardware = (
        Column(f"largest {limit}", border("yes", "no"), "words"),
        Column(f"smallest not {limit}", border("no", "yes"), "words"),
        counts("n", "n"),
    )
    caption = f"The largest measured size {limit}, and the smallest that is not; ranges are of the submitters"
    return (
        Figure(f"Kinds of hardware {limit}, by size", (SIZE, *case, *by_size), totals, question[0]),
        Figure(caption, (*HARDWARE, *case, *by_hardware), rows, question[1]),
    )


def _costs(ask: Ask) -> tuple[Figure, Figure]:
    """The ratio of Cellpose-SAM to cyto3 by size, then of each kind of hardware."""
    totals, rows = ask(queries.SAM_SUMMARY), ask(queries.SAM_OR_CYTO3)
    case = (models(rows), DTYPE, IMAGE, weights(rows))
    ratio = (numbers("times as long", "ratio", "number main"), Column("range", spread, "number"))
    sizes = Column("size", size, choice=size(rows[-1]) if rows else ALL)
    by_hardware = (
        numbers("cyto3, s", "cyto_s"), counts("n of cyto3", "cyto_n"), numbers("Cellpose-SAM, s", "sam_s"),
        counts("n of Cellpose-SAM", "sam_n"), *ratio, Column("failed", _failed, "failure"),
    )  # fmt: skip
    return (
        Figure(
            "Times as long as cyto3: the median over kinds of hardware, the lowest and the highest",
            (SIZE, *case, *ratio, counts("hardware", "n_hardware"), counts("failed", "n_failed")),
            totals, queries.SAM_SUMMARY,
        ),
        Figure(
            "Times as long as cyto3: the ratio of the medians, and its range over all pairs of submitters",
            (*HARDWARE, sizes, *case, *by_hardware), rows, queries.SAM_OR_CYTO3,
        ),
    )  # fmt: skip


def _failed(row: Row) -> str:
    pairs = (("Cellpose-SAM", row["sam_failure"]), ("cyto3", row["cyto_failure"]))
    return "; ".join(f"{name}: {failures(words)}" for name, words in pairs if words)
