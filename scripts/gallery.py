"""Write the list of figures in docs/charts.md, and draw those whose pictures README.md and docs/charts.md show.

    python scripts/gallery.py [RUN]

A figure is drawn from the samples of RUN; one of passes that RUN did not make, from those of all runs since SINCE.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from harness.charts import catalogue, rendering
from harness.charts.figure import Figure
from harness.query import Session
from harness.results import scope, tables
from harness.store import Store

ROOT = Path(__file__).resolve().parents[1]
PAGE, GALLERY = ROOT / "docs" / "charts.md", ROOT / "docs" / "gallery"
RUN, SINCE = "20261126T050820Z-328f48", "2026-11-23"
LIST = re.compile(r"\| name \| what it shows \|\n(?:\|.*\n)+")


def page(text: str) -> str:
    """docs/charts.md with the list of figures as it is now."""
    return LIST.sub(lambda _: catalogue.markdown(), text)


def shown() -> list[Figure]:
    """The figures whose pictures the documents show."""
    text = PAGE.read_text() + (ROOT / "README.md").read_text()
    return [figure for figure in catalogue.FIGURES if f"gallery/{figure.name}.png" in text]


def main(run: str = RUN) -> None:
    PAGE.write_text(page(PAGE.read_text()))
    session = Session(Store.at(ROOT / "results" / "reference"))
    one, every = (tables.load(session, scope.resolve(session, **chosen)) for chosen in ({"run": run}, {"since": SINCE}))
    for figure in shown():
        is_whole = all(len(getattr(one, name)) for name in figure.queries)
        rendering.save(figure.chart(one if is_whole else every), GALLERY / f"{figure.name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
