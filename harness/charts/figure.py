"""What a figure is: one entry of the catalogue, which the command, the report, the documentation and the tests read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.charts import rendering
from harness.results import tables
from harness.results.messages import Message
from harness.results.notes import provenance
from harness.results.scope import Scope
from harness.results.tables import Tables
from harness.results.text_table import TextTable

LONGEST = 120  # characters of a title


@dataclass(frozen=True)
class Drawing:
    """A picture without its title: chart, one line on what is drawn, a text for screen readers, notes for below it.

    Where chart is None there is nothing to draw, and the text says why.
    """

    chart: rendering.Layered | None
    subtitle: str
    description: str
    height_px: float = rendering.HEIGHT_PX
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Remarks:
    """Sentences under a figure about one device: what to change, and what was found."""

    advice: list[str]
    findings: list[str]


@dataclass(frozen=True)
class Figure:
    """A figure by its name on the command line, with everything that is said about it elsewhere.

    title: where the data carry no message. message: what the figure shows of these data, as their title. shows: one
    line for the documentation. queries: names in results.tables.QUERIES; they are what it is made of, and
    the SQL that a report gives to its readers. numbers: the tables under it, by caption. in_report: whether a report
    shows it; by default where the first query has rows. cautions: notes that every picture ends with. glossary: words
    in the tables and what they mean.
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
        """The whole picture of these results, or a picture that says why there is nothing to see."""
        drawing = self.draw(data)
        if drawing.chart is None:
            return rendering.empty(rendering.heading(self.title, ""), drawing.description, self.cautions(data))
        message = self.message(data)
        # A name may be long; a title is read at a glance.
        title = message.text if message and len(message.text) <= LONGEST else self.title
        heading, cautions = rendering.heading(title, drawing.subtitle), self.cautions(data)
        description = f"{title}. {drawing.description}"
        return rendering.theme(drawing.chart, heading, description, drawing.height_px, drawing.notes, cautions)

    def has_data(self, data: Tables) -> bool:
        """Whether a report of these results shows it."""
        return self.in_report(data) if self.in_report else len(getattr(data, self.queries[0])) > 0

    def sql(self, scope: Scope) -> list[str]:
        """The queries as they can be run again."""
        return [tables.sql(name, scope) for name in self.queries]
