"""The samples of a figure or a report, as a condition that fits every view."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.errors import CellbenchError
from harness.query import Session, sql, which_run
from harness.schema import Role

EVER = "1970-01-01"  # a date before all runs


@dataclass(frozen=True)
class Scope:
    """Runs, newest first, and the condition on run_id and case_id that picks their cases.

    failures: the condition on run_id alone, since a failed case may have no median. newest: whether only the newest
    case of each series is shown. name: for file names.
    """

    title: str
    name: str
    runs: tuple[str, ...]
    cases: str
    newest: bool = False

    def cases_of(self, role: str) -> str:
        """The condition for cases by this role: where the newest are selected, a pass may be older than the times."""
        return _newest(self.runs, role) if self.newest else self.cases

    @property
    def in_runs(self) -> str:
        """The condition for facts of a run, not of a case."""
        return f"run_id IN ({sql.texts(self.runs)})"


def resolve(session: Session, run: str | None = None, since: str | None = None, series: str | None = None) -> Scope:
    """One run (by default the latest), the newest case of each series since a date, or one series' runs.

    since: a date, or a date and time, of ISO 8601; UTC by default. series: the beginning of a series_key.
    CellbenchError where nothing is found.
    """
    if run and since:
        raise CellbenchError("--run and --since exclude each other", f"--run {run} --since {since}", "give one of them")
    if series is not None:
        return _of_series(session, run, since, series)
    if since is None:
        found = which_run(session, run)
        return Scope(f"Run {found}", found, (found,), f"run_id = {sql.text(found)}")
    runs = _runs(session, since)
    title = f"The newest of each series since {since}, out of {len(runs)} run{'s' * (len(runs) != 1)}"
    return Scope(title, f"since-{_slug(since)}", runs, _newest(runs, Role.TIMED), newest=True)


def _newest(runs: Iterable[str], role: str) -> str:
    return (
        "(run_id, case_id) IN (SELECT max(run_id), arg_max(case_id, run_id) FROM samples "
        f"WHERE role = {sql.text(role)} AND {sql.OK} AND run_id IN ({sql.texts(runs)}) GROUP BY series_key)"
    )


def _of_series(session: Session, run: str | None, since: str | None, series: str) -> Scope:
    known = _runs(session, since) if since else None
    rows = session.table(
        "SELECT DISTINCT run_id, series_key FROM samples "
        f"WHERE starts_with(series_key, $series) AND role = '{Role.TIMED}' ORDER BY run_id DESC",
        series=series,
    ).to_pylist()
    keys = sorted({row["series_key"] for row in rows})
    if not keys or not series:
        raise CellbenchError(
            f"there is no series {series}", "--series", 'see them: cellbench query "SELECT * FROM medians" --csv'
        )
    runs = dict.fromkeys(row["run_id"] for row in rows)
    chosen = tuple(each for each in runs if (run is None or each == run) and (known is None or each in known))
    if not chosen:
        raise CellbenchError(f"no such run has the series {series}", "--series", f"it is in {', '.join(runs)}")
    cases = (
        "(run_id, case_id) IN (SELECT run_id, case_id FROM samples "
        f"WHERE starts_with(series_key, {sql.text(series)}) AND run_id IN ({sql.texts(chosen)}))"
    )
    return Scope(f"Series {', '.join(keys)}", f"series-{_slug(series)}", chosen, cases)


def _runs(session: Session, since: str) -> tuple[str, ...]:
    """The runs that began on or after a moment, newest first."""
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as error:
        raise CellbenchError(f"{since} is not a valid date", "--since", "write it as 2026-01-31") from error
    begin = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    begun = session.table("SELECT run_id FROM runs WHERE started_at >= $begin ORDER BY run_id DESC", begin=begin)
    found = tuple(begun["run_id"].to_pylist())
    if not found:
        raise CellbenchError(f"no run began on or after {since}", "--since", "see them: cellbench list")
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", text)
