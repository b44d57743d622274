"""All pages of the site, and the data of each kind of hardware for the comparison of two."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup

from harness.report.pages import template
from harness.results.formatting import count, number
from harness.schema import Row, identity
from harness.site import queries, questions
from harness.site.parts import (
    BACKEND,
    DTYPE,
    HARDWARE,
    IMAGE,
    PUBLISHED,
    SIZE,
    TIMES,
    VARIANT,
    Ask,
    Figure,
    Link,
    Page,
    device_page,
    failed,
    filtered,
    models,
    size,
    spread,
    weights,
)
from harness.submissions.collection import Entry, Verdict

ORDER = Markup(
    "Rows are sorted by their median, which is not a ranking: neighbours may be equally fast. "
    '<a href="compare.html">Compare two kinds of hardware</a> to see whether one of them is faster.'
)
STANDIN = "Stand-in weights are the network of a model, trained on drawn cells. Their times are shown on their own."
PENDING = "This hardware is not in the list of the maintainers yet. Its name is the one that the device reports."


def build(entries: Sequence[Entry], ask: Ask) -> Iterator[tuple[str, str]]:
    """Name and text of every file that shows results."""
    shown = sorted((entry for entry in entries if entry.verdict != Verdict.REJECTED), key=lambda entry: entry.slug)
    by_slug = identity.grouped(shown, lambda entry: entry.slug)
    for page in (*_glances(ask), *questions.pages(ask)):
        yield page.name, _text(page)
    for slug, found in by_slug.items():
        sql = queries.times(queries.of_slug(slug))
        rows = ask(sql)
        page = _device(found, rows, sql)
        yield page.name, _text(page)
        yield f"device-{slug}.js", f"compare({json.dumps(_data(slug, page.title, rows, sql))});\n"
    known = sorted(((slug, found[0].hardware) for slug, found in by_slug.items()), key=lambda each: each[1].lower())
    yield "compare.html", render("compare.html", "compare.html", "Two kinds of hardware side by side", known=known)


def render(kind: str, name: str, title: str, **facts: object) -> str:
    """A page as HTML. kind: its template. name: its file."""
    return template(kind, "harness.site").render(name=name, title=title, **facts)


def _text(page: Page) -> str:
    return render("page.html", page.name, page.title, page=page)


# ---------------------------------------------------------------- all hardware at a glance


def _glances(ask: Ask) -> Iterator[Page]:
    """A page for each work: weights, image and size. One of them is the start page, too."""
    works = ask(queries.WORKS)
    if not works:
        yield Page("index.html", "No times yet", ["The reference set has no times."])
        return
    first = max(works, key=lambda work: (work["weights"] == PUBLISHED, work["n_hardware"], work["height_px"]))
    for work in works:
        sql = queries.times(queries.of_work({name: work[name] for name in queries.WORK}))
        rows = ask(sql)
        title = f"Seconds per image at {size(work)}"
        words = {"standin": "stand-in"}.get(work["weights"], work["weights"])
        hardware = count(work["n_hardware"], "kind")
        notes = [f"{hardware} of hardware, image “{work['image']}”, {words} weights.", ORDER]
        if work["weights"] != PUBLISHED:
            notes.insert(1, STANDIN)
        caption = f"{title}: the median of the submitters’ medians, their range, and n, the number of submitters"
        figure = Figure(caption, (*HARDWARE, models(rows), VARIANT, DTYPE, *TIMES), rows, sql)
        choices = {
            what: [_choice(works, work, names, value) for value in identity.grouped(works, _values(names))]
            for what, names in (("Size", queries.SIZE), ("Image", ("image",)), ("Weights", ("weights",)))
        }
        yield Page(_name(work), title, notes, [figure], choices)
        if work is first:
            yield Page("index.html", title, notes, [figure], choices)


def _values(names: Sequence[str]) -> Callable[[Row], tuple[object, ...]]:
    return lambda work: tuple(work[name] for name in names)


def _choice(works: Sequence[Row], here: Row, names: Sequence[str], value: tuple[object, ...]) -> Link:
    """The link to the work that has this value and otherwise differs least from the one that is shown."""
    found = [work for work in works if _values(names)(work) == value]
    alike = max(found, key=lambda work: (sum(work[name] == here[name] for name in queries.WORK), work["n_hardware"]))
    words = " × ".join(map(str, dict.fromkeys(value)))  # 448 of a square, else 2160 × 2560
    return Link(f"{words} px" if names == queries.SIZE else words, _name(alike), value == _values(names)(here))


def _name(work: Row) -> str:
    """The file of the page of a work."""
    words = f"{work['weights']}-{work['image']}-{work['height_px']}x{work['width_px']}"
    return f"{re.sub(r'[^a-z0-9]+', '-', words.lower())}.html"


# ---------------------------------------------------------------- one kind of hardware


def _device(entries: Sequence[Entry], rows: Sequence[Row], sql: str) -> Page:
    """The page of one kind of hardware: its times and its submissions."""
    slug = entries[0].slug
    notes: list[str] = [Markup('<a href="compare.html?a={}">Compare it with another one</a>').format(slug)]
    if any(entry.verdict == Verdict.PENDING for entry in entries):
        notes.append(PENDING)
    if any(row["weights"] != PUBLISHED for row in rows):
        notes.append(STANDIN)
    columns = (SIZE, BACKEND, filtered("model"), VARIANT, DTYPE, IMAGE, weights(rows), *TIMES)
    caption = "Seconds per image: the median of the submitters’ medians, their range, and n, their number"
    by_date = sorted(entries, key=lambda entry: (entry.month, entry.id), reverse=True)
    figures = [Figure(caption, columns, rows, sql)]
    return Page(device_page({"slug": slug}), entries[0].hardware, notes, figures, entries=by_date)


def _data(slug: str, name: str, rows: Sequence[Row], sql: str) -> Row:
    """The data of one kind of hardware for the comparison. key: equal for equal work, executed alike."""
    return {
        "slug": slug,
        "name": name,
        "sql": sql,
        "rows": [
            {
                "key": [row["weights"], row["image"], size(row), row["model"], row["variant"], row["dtype"] or "–"],
                "backend": row["backend"] or "–",
                "s": row["median_s"],
                "text": number(row["median_s"]),
                "range": spread(row, "low_s", "high_s"),
                "failed": failed(row),
                **{key: row[key] for key in ("n", "mean_ln", "sd_ln", "t")},
            }
            for row in rows
        ],
    }
