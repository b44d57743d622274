"""Series over time as rows: a row a run, with its value, band and state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from harness.judge.alarms import WORDS
from harness.judge.history import AGREEMENT, MASKS, TIME, VERSIONS, Series
from harness.results.alarm_text import value_text
from harness.schema import Row
from harness.stats import changes

FIRST = ("alarm", "suspect", "noisy")  # states at the top of the page


def rows(series: Series, scale: float, runs: dict[str, list[Row]]) -> list[Row]:
    """The rows of a series, one a run: value, band, state, marks; the value is None where a run lacks it.

    runs: the result of runs_of.
    """
    made = []
    steps = changes.change_points([point.value for point in series.points]) if _is_number(series) else []
    for i, point in enumerate(series.points):
        band = point.judged.band
        accepted = series.accepted.get(point.run_id)
        made.append(
            {
                "at": point.started_at.isoformat(),
                "run": point.run_id,
                "value": point.value * scale,
                "low": band.low * scale if band else None,
                "high": band.high * scale if band else None,
                "state": state(series, i),
                "text": value_text(series.metric, point.value),
                "version": _changed(series, i),
                "accepted": f"accepted by {accepted.by}: {accepted.why}" if accepted else None,
                "level": "the level changed" if i in steps else None,
            }
        )
    first, last = made[0]["run"], made[-1]["run"]
    have = {row["run"] for row in made}
    blank = dict.fromkeys(made[0])
    missed = [
        blank | {"at": run["at"], "run": run["run"]}
        for run in runs.get(series.last.place["profile"], [])
        if first < run["run"] < last and run["run"] not in have and run["is_whole"]
    ]
    return sorted(made + (missed if series.metric == TIME else []), key=lambda row: row["run"])


def _is_number(series: Series) -> bool:
    return series.metric not in (MASKS, AGREEMENT)


def runs_of(every: Iterable[Series]) -> dict[str, list[Row]]:
    """The runs of each profile, and whether each was one of all cases or a repeat of a few."""
    by_run: dict[tuple[str, str], list[Any]] = {}
    for series in every:
        if series.metric == TIME:
            for point in series.points:
                by_run.setdefault((point.place["profile"], point.run_id), []).append(point.started_at)
    most = Counter[str]()
    for (profile, _), times in by_run.items():
        most[profile] = max(most[profile], len(times))
    found: dict[str, list[Row]] = {}
    for (profile, run), times in sorted(by_run.items(), key=lambda item: item[0][1]):
        is_whole = 2 * len(times) >= most[profile]
        found.setdefault(profile, []).append({"run": run, "at": min(times).isoformat(), "is_whole": is_whole})
    return found


def state(series: Series, index: int) -> str:
    """The state of a run in words of the page: alarms for the better are improvements."""
    judged = series.points[index].judged
    word = WORDS[series.metric].get(judged.direction, "")
    return "improvement" if judged.state == "alarm" and word in ("faster", "less memory") else judged.state


def _changed(series: Series, index: int) -> str | None:
    """The software that is new since the run before."""
    if index == 0:
        return None
    before, now = series.points[index - 1].place, series.points[index].place
    new = [
        f"{name.removesuffix('_version')} {before[name]} → {now[name]}"
        for name in VERSIONS
        if before[name] != now[name] and before[name] and now[name]
    ]
    return ", ".join(new) or None


def rank(series: Series) -> int:
    """The place of a series among others: alarms first, then suspicions and noisy ones."""
    judged = series.last.judged.state
    return FIRST.index(judged) if judged in FIRST else len(FIRST) + (series.metric != TIME)
