"""The HTML page of all runs: a card per machine with its newest times, then every run with its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.judge.alarms import Gap, Watch
from harness.judge.history import TIME, Series
from harness.report import history_page, sparkline
from harness.report.pages import template
from harness.results.alarm_text import value_text
from harness.results.formatting import count, listed, short_name, size_label
from harness.results.history_rows import state
from harness.schema import identity
from harness.stats.watch import ALARM

N_DEVICES = 4  # the most that a card shows


@dataclass(frozen=True)
class Newest:
    """A device of a card: its newest time at the largest image, its state, and the sparkline of its times."""

    device: str
    size: str
    value: str
    state: str
    n_runs: int
    line: str


@dataclass(frozen=True)
class Card:
    """The card of a machine. run_id: its newest run. n_more: the number of devices that are not shown."""

    node: str
    anchor: str
    date: str
    run_id: str
    devices: list[Newest]
    n_more: int


def build(runs: list[dict[str, Any]], watched: Watch, folder: Path) -> str:
    """The page as HTML. runs: rows of the view `runs`, newest first. folder: contains the reports and this page."""
    confirmed: Counter[str] = Counter()
    for series in watched.series:
        for point, before in zip(series.points[1:], series.points, strict=False):
            confirmed[point.run_id] += point.judged.state == ALARM and before.judged.state != ALARM
    reports = {row["run_id"] for row in runs if (folder / f"report-{row['run_id']}.html").is_file()}
    rows = [
        row
        | {
            "alarms": confirmed[row["run_id"]],
            "report": f"report-{row['run_id']}.html" if row["run_id"] in reports else None,
        }
        for row in runs
    ]
    return template("index.html").render(
        headline=history_page.headline(watched), runs=rows, cards=cards(watched), reports=reports,
        gaps=gaps_by_node(watched.gaps), has_history=(folder / "history.html").is_file(),
        width=sparkline.WIDTH_PX, height=sparkline.HEIGHT_PX,
    )  # fmt: skip


def cards(watched: Watch) -> list[Card]:
    """A card for each machine with timed cases, the newest run first."""
    times = [each for each in watched.series if each.metric == TIME]
    by_node = identity.grouped(times, lambda each: str(each.last.place["node"]))
    made = [_card(node, series) for node, series in by_node.items()]
    return sorted(made, key=lambda card: card.run_id, reverse=True)


def _card(node: str, every: Sequence[Series]) -> Card:
    last = max((each.last for each in every), key=lambda point: point.run_id)
    by_device = identity.grouped(every, lambda each: str(each.last.place["device"]))
    newest = [_newest(max(series, key=_rank)) for series in by_device.values()]
    date = last.started_at.strftime("%Y-%m-%d %H:%M")
    return Card(node, history_page.anchor(node), date, last.run_id, newest[:N_DEVICES], len(newest[N_DEVICES:]))


def _rank(series: Series) -> tuple[Any, ...]:
    """The sort key of the series that represents a device: stock, then the largest image, then the newest run."""
    place = series.last.place
    return place["variant"] == "stock", (place["height_px"] or 0) * (place["width_px"] or 0), series.last.run_id


def _newest(series: Series) -> Newest:
    place = series.last.place
    device = f"{short_name(place['device_name'])} ({place['device']})"
    value = value_text(series.metric, series.last.value)
    line = sparkline.points([point.value for point in series.points])
    return Newest(device, size_label(place), value, state(series, len(series.points) - 1), len(series.points), line)


def gaps_by_node(gaps: Sequence[Gap]) -> list[str]:
    """The cases that the newest run lacks, one line per machine: 'h200: 7 cases (absent)'."""
    by_node = identity.grouped(gaps, lambda gap: str(gap.place["node"]))
    return [
        f"{node}: {count(len(found), 'case')} ({listed(list(dict.fromkeys(gap.why for gap in found)))})"
        for node, found in by_node.items()
    ]
