"""Every figure, in the order of the report. A new figure needs a module and an entry in FIGURES."""

from __future__ import annotations

from harness.charts.agreement_chart import AGREEMENT
from harness.charts.coverage_chart import COVERAGE
from harness.charts.figure import Figure
from harness.charts.history_strip import HISTORY
from harness.charts.model_chart import MODEL_COST
from harness.charts.ranking_chart import RANKING
from harness.charts.repetition_chart import REPETITIONS
from harness.charts.resource_charts import ENERGY, MEMORY
from harness.charts.speedup_charts import PERCENT_OF_CPU, SPEEDUP
from harness.charts.stage_chart import STAGES
from harness.charts.time_charts import THROUGHPUT, TIME
from harness.errors import CellbenchError

FIGURES: tuple[Figure, ...] = (
    TIME, SPEEDUP, PERCENT_OF_CPU, MODEL_COST, THROUGHPUT, RANKING, AGREEMENT, STAGES, *MEMORY, ENERGY,
    REPETITIONS, HISTORY, COVERAGE,
)  # fmt: skip


def figure(name: str) -> Figure:
    """The figure of a name. Raises CellbenchError with all names where there is none."""
    for each in FIGURES:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in FIGURES)
    raise CellbenchError(f"there is no chart called {name}", fix=f"choose one of: {names}")


def markdown() -> str:
    """The table of names and contents of all figures in docs/charts.md."""
    rows = (f"| `{each.name}` | {each.shows} |" for each in FIGURES)
    return "\n".join(["| name | what it shows |", "|---|---|", *rows]) + "\n"
