"""All runs → one HTML page: when, what, how it went, its alarms and its report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from harness.judge.alarms import Watch
from harness.report import history_page
from harness.report.pages import template
from harness.results.alarm_text import gap_texts
from harness.stats.watch import ALARM


def build(runs: list[dict[str, Any]], watched: Watch, folder: Path) -> str:
    """The page as HTML; runs: rows of the view `runs`, newest first; folder: where reports and this page lie."""
    confirmed: Counter[str] = Counter()
    for series in watched.series:
        for point, before in zip(series.points[1:], series.points, strict=False):
            confirmed[point.run_id] += point.judged.state == ALARM and before.judged.state != ALARM
    rows = [
        row
        | {
            "alarms": confirmed[row["run_id"]],
            "report": name if (folder / (name := f"report-{row['run_id']}.html")).is_file() else None,
        }
        for row in runs
    ]
    has_history = (folder / "history.html").is_file()
    return template("index.html").render(
        headline=history_page.headline(watched), runs=rows, gaps=gap_texts(watched.gaps), has_history=has_history
    )
