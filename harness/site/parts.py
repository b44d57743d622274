"""The parts of a page: tables with their columns and their SQL, and links to other pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.results.formatting import number
from harness.schema import Row, Status
from harness.submissions.collection import Entry

Ask = Callable[[str], list[Row]]
FAILURES: Mapping[str, str] = {
    Status.OOM_DEVICE: "out of memory",
    Status.OOM_HOST: "out of memory (host)",
    Status.TIMEOUT: "stopped, too slow",
}
ALL = ""  # the choice of a filter that shows every row
PUBLISHED = "published"


@dataclass(frozen=True)
class Column:
    """A column of a table. text: of a row.

    kind: classes of the style sheet. choice: the first choice of its filter; None for no filter.
    """

    title: str
    text: Callable[[Row], str]
    kind: str = ""
    choice: str | None = None
    href: Callable[[Row], str] | None = None


@dataclass(frozen=True)
class Figure:
    """A table, its caption, and the SQL that made its rows; the first column names the row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    sql: str


@dataclass(frozen=True)
class Link:
    """A choice of another page; is_here: whether it is the page that is shown."""

    text: str
    href: str
    is_here: bool


@dataclass(frozen=True)
class Page:
    """A page of tables. notes: paragraphs below its title. choices: pages of its kind, by what differs."""

    name: str
    title: str
    notes: Sequence[str]
    figures: Sequence[Figure] = ()
    choices: Mapping[str, Sequence[Link]] = field(default_factory=dict)
    entries: Sequence[Entry] = ()


# ---------------------------------------------------------------- cells


def size(row: Row) -> str:
    """The image's height and width."""
    return f"{row['height_px']} × {row['width_px']} px"


def failures(words: str | None) -> str:
    """Statuses for people: 'oom_device, crash' becomes 'out of memory, crash'."""
    return ", ".join(FAILURES.get(word, word.replace("_", " ")) for word in (words or "").split(", ") if word)


def failed(row: Row) -> str:
    """The failures of a case, and n, the number of submitters with one."""
    return f"{failures(row['failure'])} (n = {row['n_failed']})" if row["n_failed"] else ""


def spread(row: Row, low: str = "low", high: str = "high") -> str:
    """The lowest and the highest value; a dash for a single one, which has no range."""
    return f"{number(row[low])} – {number(row[high])}" if row[low] != row[high] else "–"


def device_page(row: Row) -> str:
    """The address of the page of a row's hardware."""
    return f"device-{row['slug']}.html"


def _plot(row: Row) -> str:
    """Median, lowest and highest value for the drawing."""
    return "" if row["median_s"] is None else " ".join(f"{row[name]:.4g}" for name in ("median_s", "low_s", "high_s"))


# ---------------------------------------------------------------- columns


def numbers(title: str, name: str, kind: str = "number") -> Column:
    """A column of numbers with three significant digits."""
    return Column(title, lambda row: number(row[name]), kind)


def counts(title: str, name: str) -> Column:
    """A column of counts."""
    return Column(title, lambda row: str(row[name]), "number")


def filtered(name: str, choice: str = ALL, kind: str = "") -> Column:
    """A column of words with a filter."""
    return Column(name, lambda row: str(row[name] or "–"), kind, choice)


def models(rows: Sequence[Row]) -> Column:
    """The column of models; its filter begins with the commonest."""
    found = Counter(row["model"] for row in rows if row.get("variant", "stock") == "stock")
    return filtered("model", next((name for name, _ in found.most_common(1)), ALL))


def weights(rows: Sequence[Row]) -> Column:
    """The column of weights; its filter begins with the published ones where there are any."""
    return filtered("weights", PUBLISHED if any(row["weights"] == PUBLISHED for row in rows) else ALL)


BACKEND = filtered("backend", kind="backend")
HARDWARE = (Column("hardware", lambda row: row["hardware"], href=device_page), BACKEND)
SIZE = Column("image size", size)
VARIANT, DTYPE, IMAGE = filtered("variant", "stock"), filtered("dtype"), filtered("image")
TIMES = (
    Column("log scale", _plot, "plot"),
    numbers("s per image", "median_s", "number main"),
    Column("range", lambda row: spread(row, "low_s", "high_s"), "number"),
    counts("n", "n"),
    Column("failed", failed, "failure"),
)
