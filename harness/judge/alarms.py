"""The present alarms, suspicions, noisy series and gaps, with the changes at that time; and accepting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from harness.errors import CellbenchError
from harness.judge import annotations, compare, history
from harness.judge.annotations import Annotation
from harness.judge.history import AGREEMENT, BYTES, MASKS, TIME, Series
from harness.query import Session
from harness.query.sql import FAILED, OK
from harness.schema import Role, Row, identity
from harness.stats.watch import ALARM, NOISY, SUSPECT, Band
from harness.store import past_runs, reference

Name = tuple[Any, ...]

# The words for a value above (1) or below (-1) the baseline.
WORDS = {
    TIME: {1: "slower", -1: "faster"},
    MASKS: {1: "masks changed", -1: "masks changed"},
    AGREEMENT: {1: "masks agree better", -1: "masks agree less"},
} | {name: {1: "more memory", -1: "less memory"} for name in BYTES}
IMPROVEMENTS = ("faster", "less memory", "masks agree better")
RECENT = 5  # runs of a profile that show what it measures
RERUN_WITHIN = timedelta(hours=24)  # a run of fewer cases of the same profile, so soon after, is a re-run of those

# The request of a plan; an image's pixels and not its name, which may change.
REQUEST = (*identity.PLACE, *identity.REQUEST)
_CASES = f"""
    SELECT run_id, {", ".join(REQUEST)}, max(image) AS image, max(profile) AS profile, min(started_at) AS started_at,
           bool_or({OK}) AS ok, max(status) FILTER ({FAILED}) AS status
    FROM samples WHERE role = '{Role.TIMED}' AND run_id <= $until
    GROUP BY run_id, {", ".join(REQUEST)} ORDER BY run_id"""


@dataclass(frozen=True)
class Finding:
    """A series that is in alarm or under suspicion at its last run.

    word: slower, faster, more memory, less memory, masks changed, …. began: its first run; confirmed: the run that
    made it an alarm, None while it is a suspicion. before: the value of the last run before (s, bytes, cells, rank).
    band: the prediction interval, None for masks. differences: (node, fact, before, after).
    """

    series: Series
    word: str
    began: str
    confirmed: str | None
    value: float
    before: float
    band: Band | None
    differences: list[tuple[str, str, str, str]]

    @property
    def is_improvement(self) -> bool:
        return self.word in IMPROVEMENTS

    @property
    def usual(self) -> float | None:
        """The middle of the prediction interval."""
        return self.band.middle if self.band else None


@dataclass(frozen=True)
class Gap:
    """A case that its profile measured lately and this run did not; why: absent, or the status it failed with.

    place: the requested case.
    """

    place: Row
    last_run: str | None
    why: str

    @property
    def selector(self) -> str:
        """The case as `cellbench run --only` takes it: node/device/crop."""
        return history.selector(self.place)


@dataclass(frozen=True)
class Watch:
    """The state of all watched series, at one run."""

    run_id: str
    series: tuple[Series, ...]
    alarms: tuple[Finding, ...]
    suspects: tuple[Finding, ...]
    noisy: tuple[Series, ...]
    gaps: tuple[Gap, ...]

    def count(self) -> Counter[str]:
        """The number of series in each state."""
        return Counter(each.last.judged.state for each in self.series)


def look(session: Session, notes: Sequence[Annotation], run_id: str | None = None) -> Watch:
    """Judge every series up to a run (by default the latest)."""
    runs = session.table("SELECT DISTINCT run_id FROM samples ORDER BY run_id")["run_id"].to_pylist()
    if not runs:
        raise reference.no_results(session.store.root, "cellbench run")
    if run_id not in (None, *runs):
        raise CellbenchError(f"there is no run {run_id}", "--run", "the newest are " + ", ".join(runs[-5:]))
    until = run_id or past_runs(runs)[-1]
    series = history.read(session, notes, until)
    findings = {state: [] for state in (ALARM, SUSPECT)}
    for each in series:
        if each.last.judged.state in findings:
            findings[each.last.judged.state].append(_finding(session, each))
    noisy = tuple(each for each in series if each.last.judged.state == NOISY)
    gaps = _gaps(session.table(_CASES, until=until).to_pylist(), skip_rerun=run_id is None)
    return Watch(until, tuple(series), tuple(findings[ALARM]), tuple(findings[SUSPECT]), noisy, tuple(gaps))


def accept(watched: Watch, names: Sequence[str], why: str) -> list[Annotation]:
    """Annotations that accept these alarms, or `all` of them: each new baseline starts at the alarm's first run.

    names: of alarms, suspicions or noisy series, or beginnings of them. CellbenchError where one is unknown.
    """
    listed = [each.series for each in (*watched.alarms, *watched.suspects)] + list(watched.noisy)
    known = {series.id: series for series in listed}
    chosen: dict[str, Series] = {}
    for word in names:
        if word == "all":
            matching = [each.series.id for each in watched.alarms]
        else:
            matching = [name for name in known if word and name.startswith(word)]
        if not matching or (word != "all" and len(matching) > 1):
            what = f"{word} begins several names" if matching else f"there is no alarm {word}"
            raise CellbenchError(what, None, f"open are: {', '.join(known) or 'none'}; see cellbench alarms")
        chosen |= {name: known[name] for name in matching}
    return [
        annotations.new("accepted", _since(series), why=why, alarm=name, series_key=series.key, metric=series.metric)
        for name, series in chosen.items()
    ]


def _since(series: Series) -> str:
    """The run at which a new baseline begins: the first of the alarm; for a noisy series the last."""
    began = series.last.judged.began
    return series.last.run_id if began is None else series.points[began].run_id


def _finding(session: Session, series: Series) -> Finding:
    judged = series.last.judged
    began = judged.began or 0  # the first run of a baseline is never outside it, so an alarm begins at 1 or later
    first, before = series.points[began], series.points[began - 1]
    environments = session.table(
        "SELECT * FROM environments WHERE node IN ($then, $now) AND device = $device AND run_id IN ($a, $b)",
        then=before.place["node"], now=first.place["node"], device=first.place["device"], a=before.run_id,
        b=first.run_id,
    ).to_pylist()  # fmt: skip
    sides = [[row for row in environments if row["run_id"] == point.run_id] for point in (before, first)]
    return Finding(
        series,
        WORDS[series.metric][judged.direction],
        first.run_id,
        next((point.run_id for point in series.points[began:] if point.judged.state == ALARM), None),
        series.last.value,
        before.value,
        judged.band,
        compare.differences(*sides),
    )


def _gaps(cases: list[Row], skip_rerun: bool) -> list[Gap]:
    """The cases that the last run's profile measured lately and that run did not; wholly failed runs count too."""
    runs: dict[str, dict[Name, Row]] = {}
    for row in cases:
        runs.setdefault(row["run_id"], {})[identity.values(row, REQUEST)] = row
    if not runs:
        return []
    profile = _profile(runs[max(runs)])
    names = sorted(run for run in runs if _profile(runs[run]) == profile)
    if skip_rerun and len(names) > 1 and _is_rerun(runs[names[-2]], runs[names[-1]]):
        names = names[:-1]
    now, lately = runs[names[-1]], names[:-1][-RECENT:]
    last = {name: row for run in lately for name, row in runs[run].items() if row["ok"]}
    found = []
    for name in sorted({*last, *now}, key=str):
        if name not in now or not now[name]["ok"]:
            why = (now[name]["status"] or "absent") if name in now else "absent"
            found.append(Gap(now.get(name) or last[name], last[name]["run_id"] if name in last else None, why))
    return found


def _profile(cases: dict[Name, Row]) -> str | None:
    return next(iter(cases.values()))["profile"]


def _is_rerun(before: dict[Name, Row], run: dict[Name, Row]) -> bool:
    begins = [min(row["started_at"] for row in cases.values()) for cases in (before, run)]
    return run.keys() < before.keys() and begins[1] - begins[0] < RERUN_WITHIN
