"""Every series of a store over time: the value and the judgement of each run, with the accepted changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

from harness.judge.annotations import Annotation
from harness.query import Session
from harness.query.sql import OK, texts
from harness.schema import Role, Row, identity
from harness.stats import levels, watch
from harness.stats.watch import NOISY, Judgement, Masks

TIME, MASKS, AGREEMENT = "time", "masks", "agreement"
BYTES = ("peak_rss_bytes", "cuda_allocated_bytes", "cuda_reserved_bytes", "mps_current_bytes", "mps_driver_bytes")
DAY_S = 86400
METRICS = (TIME, MASKS, AGREEMENT, *BYTES)
# The columns that may explain a change; each new value is a mark on the history.
VERSIONS = (*identity.VERSIONS, "numpy_version", "numba_version", "python_version", "harness_version", "os")

_PLACE = dict.fromkeys((*identity.CASE, *VERSIONS, "image", "profile"))
_PLACES = f"""
    SELECT series_key, run_id, min(started_at) AS started_at, {", ".join(f"max({name}) AS {name}" for name in _PLACE)}
    FROM timed WHERE run_id <= $until AND {{wanted}} GROUP BY series_key, run_id"""
# A run's value is the median of its blocks' medians: repetitions of one process are not independent of each other.
_TIMES = """
    SELECT series_key, run_id, 'time' AS metric, NULL AS method, median(median_s) AS value
    FROM (SELECT series_key, run_id, case_id, block, median(elapsed_s) AS median_s
          FROM timed WHERE {wanted} GROUP BY ALL)
    GROUP BY ALL"""
# Methods of measuring memory never share an axis, nor a series.
_MEMORY = " UNION ALL ".join(
    f"""SELECT series_key, run_id, '{name}' AS metric, {"rss_method" if "rss" in name else "NULL"} AS method,
               CAST(max({name}) AS DOUBLE) AS value
        FROM samples WHERE role = '{Role.MEMORY}' AND {OK} AND {name} > 0 GROUP BY ALL"""
    for name in BYTES
)
_MASKS = """
    SELECT series_key, run_id, list(DISTINCT mask_sha256) AS hashes, min(n_cells) AS fewest, max(n_cells) AS most
    FROM timed WHERE mask_sha256 IS NOT NULL GROUP BY ALL HAVING max(n_cells) IS NOT NULL"""
_AGREEMENT = f"""
    SELECT series_key, run_id, list(agreement) AS words FROM agreement
    WHERE as_timed AND agreement IN ({texts(levels.AGREEMENTS)}) GROUP BY ALL"""


@dataclass(frozen=True)
class Point:
    """One run of a series: its time, value (s, bytes, cells; the rank of a word) and judgement.

    place: the labels and versions of that run.
    """

    run_id: str
    started_at: datetime
    value: float
    judged: Judgement
    place: Row


@dataclass(frozen=True)
class Series:
    """One number of one case over time, oldest run first.

    accepted: annotations that started a baseline, by run.
    """

    key: str
    metric: str
    method: str | None
    points: tuple[Point, ...]
    accepted: dict[str, Annotation]

    @property
    def last(self) -> Point:
        return self.points[-1]

    @property
    def selector(self) -> str:
        """The case in the form of `cellbench run --only`: node/device/crop."""
        return selector(self.last.place)

    @property
    def id(self) -> str:
        """The name for `cellbench accept`: of the suspicion or alarm that is open now, or of a noisy baseline."""
        began = self.last.judged.began
        since = NOISY if began is None else self.points[began].run_id
        return hashlib.sha256(f"{self.key} {self.metric} {self.method} {since}".encode()).hexdigest()[:8]


def selector(place: Row) -> str:
    """A case in the form of `cellbench run --only`: node/device/crop."""
    return "/".join(str(place[name]) for name in ("node", "device", "crop"))


def read(session: Session, notes: Sequence[Annotation], until: str) -> list[Series]:
    """All series with their runs up to `until`, by node, device, size and protocol; times first."""
    return _judged(session, notes, until, _values(session), "true")


def times(session: Session, notes: Sequence[Annotation], until: str, wanted: str) -> list[Series]:
    """The times only, of the series that fulfil a condition in SQL."""
    return _judged(session, notes, until, session.table(sql_of_times(wanted)).to_pylist(), wanted)


def sql_of_times(wanted: str) -> str:
    """The query that gives each run's time of the series that fulfil a condition in SQL."""
    return _TIMES.format(wanted=wanted)


def _judged(session: Session, notes: Sequence[Annotation], until: str, found: list[Row], wanted: str) -> list[Series]:
    places = session.table(_PLACES.format(wanted=wanted), until=until).to_pylist()
    by_run = {(row["series_key"], row["run_id"]): row for row in places}
    accepted: dict[tuple[str | None, str | None], dict[str, Annotation]] = {}
    for each in notes:
        if each.kind == "accepted":
            for key in session.series_now(each.series_key):
                accepted.setdefault((key, each.metric), {})[each.run_id] = each
    known = [row for row in found if (row["series_key"], row["run_id"]) in by_run]
    values = identity.grouped(
        sorted(known, key=itemgetter("run_id")), lambda row: (row["series_key"], row["metric"], row["method"])
    )
    return sorted(
        (_series(*name, rows, by_run, accepted.get(name[:2], {})) for name, rows in values.items()), key=_order
    )


def _series(
    key: str, metric: str, method: str | None, rows: list[Row], by_run: dict[tuple[str, str], Row],
    accepted: dict[str, Annotation],
) -> Series:  # fmt: skip
    values = [row["value"] for row in rows]
    begins = [by_run[key, row["run_id"]]["started_at"].timestamp() / DAY_S for row in rows]
    judged = _judge(metric, values, {i for i, row in enumerate(rows) if row["run_id"] in accepted}, begins)
    points = []
    for row, verdict in zip(rows, judged, strict=True):
        place = by_run[key, row["run_id"]]
        points.append(Point(row["run_id"], place["started_at"], _number(metric, row["value"]), verdict, place))
    return Series(key, metric, method, tuple(points), accepted)


def _values(session: Session) -> list[Row]:
    """A row per series, metric and run; masks and agreement in the form of their rules."""
    numbers = session.table(f"{sql_of_times('true')} UNION ALL {_MEMORY}").to_pylist()
    masks = [
        row | {"metric": MASKS, "method": None, "value": Masks(frozenset(row["hashes"]), row["fewest"], row["most"])}
        for row in session.table(_MASKS).to_pylist()
    ]
    words = [
        row | {"metric": AGREEMENT, "method": None, "value": min(row["words"], key=levels.AGREEMENTS.index)}
        for row in session.table(_AGREEMENT).to_pylist()
    ]
    return numbers + masks + words


def _judge(metric: str, values: list[Any], resets: set[int], begins: list[float]) -> list[Judgement]:
    if metric == MASKS:
        return watch.masks(values, resets)
    if metric == AGREEMENT:
        return watch.agreements(values, resets)
    return watch.numbers(values, resets, begins=begins)


def _number(metric: str, value: Any) -> float:
    if metric == MASKS:
        return float(value.most)
    return float(levels.AGREEMENTS.index(value)) if metric == AGREEMENT else float(value)


def _order(series: Series) -> tuple[Any, ...]:
    place = series.last.place
    n_pixels = (place["height_px"] or 0) * (place["width_px"] or 0)
    return (
        str(place["node"]), place["backend"] == "cpu", str(place["device"]), n_pixels,
        str(place["protocol"]), METRICS.index(series.metric), series.key, str(series.method),
    )  # fmt: skip
