"""The definition of a figure: an entry of the catalogue, for the command, the report, the documentation and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.charts import rendering
from harness.errors import CellbenchError
from harness.results import tables
from harness.results.messages import Message
from harness.results.notes import provenance
from harness.results.scope import Scope
from harness.results.tables import Tables
from harness.results.text_table import TextTable

LONGEST = 120  # characters of a title
FEWEST = 2  # values in a picture; a sentence states a single one, as in the error of Figure.chart


@dataclass(frozen=True)
class Drawing:
    """A chart without its title.

    chart: None where nothing, or fewer than FEWEST values, would be drawn. subtitle: one line about its marks.
    description: for screen readers; without a chart, the values or the reason. notes: shown below the chart.
    """

    chart: rendering.Layered | None
    subtitle: str
    description: str
    height_px: float = rendering.HEIGHT_PX
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Remarks:
    """Sentences under a figure about one device: advice and findings."""

    advice: list[str]
    findings: list[str]


@dataclass(frozen=True)
class Figure:
    """A figure: its name on the command line, its queries, its drawing and its texts.

    title: where the data have no message. message: the finding of these data, as title. shows: one line for the
    documentation. queries: names in results.tables.QUERIES, the sources of the figure; a report prints their SQL.
    numbers: the tables under the figure, by caption. in_report: whether a report contains it, by default where the
    first query has rows. cautions: the last notes of every picture. glossary: terms of the tables with their meanings.
    """

    name: str
    title: str
    shows: str
    queries: tuple[str, ...]
    draw: Callable[[Tables], Drawing]
    numbers: Callable[[Tables], Mapping[str, TextTable]]
    message: Callable[[Tables], Message | None] = lambda _: None
    in_report: Callable[[Tables], bool] | None = None
    cautions: Callable[[Tables], list[str]] = provenance
    remarks: Callable[[Tables], Mapping[str, Remarks]] = lambda _: {}
    glossary: Callable[[Tables], Mapping[str, str]] = lambda _: {}

    def chart(self, data: Tables) -> rendering.Layered:
        """The complete chart of these results. CellbenchError, with the values, where there are too few for one."""
        drawing = self.draw(data)
        if drawing.chart is None:
            raise CellbenchError(
                f"the figure {self.name} is not drawn: it would show fewer than two values",
                f"{self.title}: {drawing.description}",
                "measure more sizes, devices or passes: cellbench run --crops 224,448,896",
            )
        message = self.message(data)
        # Device names can make a message too long for a title.
        title = message.text if message and len(message.text) <= LONGEST else self.title
        heading, cautions = rendering.heading(title, drawing.subtitle), self.cautions(data)
        description = f"{title}. {drawing.description}"
        return rendering.theme(drawing.chart, heading, description, drawing.height_px, drawing.notes, cautions)

    def has_data(self, data: Tables) -> bool:
        """Whether a report of these results contains the figure."""
        return self.in_report(data) if self.in_report else len(getattr(data, self.queries[0])) > 0

    def sql(self, scope: Scope) -> list[str]:
        """The SQL of the queries, ready to run."""
        return [tables.sql(name, scope) for name in self.queries]
