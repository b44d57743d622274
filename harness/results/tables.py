"""The data of figures and reports: rows of the views for one scope, with the SQL to repeat each query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from harness.judge import annotations, history
from harness.judge.history import Series
from harness.query import Session, reference_timings
from harness.query.sql import FAILED, MEASURED, OK, WORST, text, texts
from harness.query.views import CASE
from harness.results import reference_set
from harness.results import tuning_results as tuning
from harness.results.formatting import Row, device_label, series_namer
from harness.results.scope import EVER, Scope, resolve
from harness.results.tuning_results import RACE, TuningResult
from harness.schema import Phase, Role, Status, identity
from harness.stats.levels import AGREEMENTS

KIND = identity.without(identity.WORK, identity.SIZE)  # equal for two cases of one size with the same work
N_DRAWN = 40  # repetitions of a case that a figure draws, and one a process; of more, every k-th
_ORDER = "ORDER BY node, backend <> 'cpu', device, protocol, variant, n_pixels"
_BY_SIZE = "ORDER BY node, backend <> 'cpu', device, n_pixels"
_CASES = "WHERE {cases}"
_SIZED = "AND n_pixels > 0"  # rows without a size have no place in a figure
_REQUEST = ", ".join((*identity.PLACE, *identity.REQUEST, "image"))


class Query(NamedTuple):
    """SQL with placeholders for the conditions of a scope, and the role without which it has no rows, if any."""

    sql: str
    role: str | None = None


QUERIES = {
    "medians": Query(f"SELECT * FROM medians {_CASES} {_SIZED} {_ORDER}"),
    "speedups": Query(f"SELECT * FROM speedups {_CASES} {_SIZED} {_ORDER}"),
    # The durations of each process, for intervals; also of CPUs whose newest times are in another run.
    "processes": Query(
        f"""SELECT run_id, case_id, block, list(elapsed_s) AS elapsed_s FROM timed
        {_CASES} OR (run_id, case_id) IN (SELECT run_id, cpu_case_id FROM speedups {_CASES})
        GROUP BY ALL ORDER BY ALL"""
    ),
    # Warm-ups and repetitions in the order in which they were made; of many, every k-th.
    "repetitions": Query(f"""WITH made AS (
        SELECT run_id, case_id, role, block, repetition, started_at, elapsed_s, flags FROM timed {_CASES}
        UNION ALL
        SELECT run_id, case_id, role, block, repetition, started_at, elapsed_s, flags FROM samples
        {_CASES} AND role = '{Role.WARMUP}' AND phase = '{Phase.CALL}' AND {MEASURED})
        SELECT * FROM made JOIN (SELECT run_id, case_id, role, count(*) AS n FROM made GROUP BY ALL)
             USING (run_id, case_id, role)
        WHERE repetition % CAST(ceil(n / {N_DRAWN}) AS BIGINT) = 0 ORDER BY run_id, case_id, started_at"""),
    "flags": Query(
        "SELECT flag, count(*) AS n FROM (SELECT unnest(string_split(flags, ' ')) AS flag FROM timed "
        f"{_CASES} AND flags <> '') GROUP BY flag ORDER BY n DESC, flag"
    ),
    # A failure that repeats is one row.
    "failures": Query(f"""SELECT {_REQUEST}, role, phase, status, error_type, error_message, count(*) AS n
        FROM failures WHERE {{in_runs}} GROUP BY ALL ORDER BY min(started_at)"""),
    # Only cases that were timed as well: those rows contain the weights and the image.
    "stages": Query(
        f"SELECT * FROM stages {_CASES} {_SIZED} AND timed_median_s IS NOT NULL "
        "ORDER BY node, backend <> 'cpu', device, protocol, n_pixels",
        Role.STAGES,
    ),
    "ceilings": Query("SELECT * FROM ceilings WHERE {in_runs} ORDER BY node, device", Role.CEILING),
    "memory": Query(f"SELECT * FROM memory {_CASES} {_SIZED} {_BY_SIZE}", Role.MEMORY),
    "energy": Query(f"SELECT * FROM energy {_CASES} {_SIZED} {_BY_SIZE}", Role.ENERGY),
    "agreement": Query(f"SELECT * FROM agreement {_CASES} {_BY_SIZE}", Role.MASKS),
    # One label image a case, by its hash; several hashes are one case whose masks are not the same every time.
    "masks": Query(
        "SELECT run_id, case_id, min(mask_sha256) AS mask, count(DISTINCT mask_sha256) AS n_masks "
        f"FROM timed {_CASES} GROUP BY run_id, case_id, node, backend, device "
        "ORDER BY node, backend <> 'cpu', device"
    ),
    "skipped": Query(f"""SELECT role, node, device, error_message, count(*) AS n FROM samples
        WHERE status = '{Status.SKIPPED}' AND {{in_runs}} GROUP BY ALL ORDER BY ALL"""),
    # The timing that each device was planned for, and how it ended.
    "coverage": Query(f"""SELECT {_REQUEST}, max(device_name) AS device_name,
               count(*) FILTER (role = '{Role.TIMED}' AND {OK}) AS n_ok,
               count(*) FILTER (role = '{Role.TIMED}' AND {OK} AND flags <> '') AS n_flagged,
               count(*) FILTER ({FAILED}) AS n_failed, count(*) FILTER (status = '{Status.SKIPPED}') AS n_skipped,
               string_agg(DISTINCT status, ', ' ORDER BY status) FILTER (NOT {OK}) AS statuses
        FROM samples
        WHERE role IN ('{Role.COLD}', '{Role.WARMUP}', '{Role.TIMED}') AND crop <> 'control' AND {{in_runs}}
        GROUP BY {_REQUEST}
        ORDER BY node, backend <> 'cpu', device, protocol, model, variant, height_px * width_px"""),
    # One row a variant and race, which is a block: with stock's time of the same rounds, and its worst masks in any
    # race of the search. Masks without cells prove nothing.
    "races": Query(
        f"""WITH calls AS (
            SELECT {CASE}, block, repetition, elapsed_s
            FROM samples WHERE role = '{Role.TUNE}' AND {MEASURED} AND {{in_runs}}),
        masks AS (
            SELECT run_id, node, device, variant, {WORST} AS masks FROM samples
            WHERE role = '{Role.MASKS}' AND {OK} AND {{in_runs}} AND (n_cells = 0 AND reference_n_cells = 0) IS NOT TRUE
            GROUP BY ALL)
        SELECT t.* EXCLUDE (repetition, elapsed_s), median(t.elapsed_s) AS median_s, count(*) AS n,
               list(t.elapsed_s ORDER BY t.repetition) AS turns_s, list(s.elapsed_s ORDER BY t.repetition) AS stock_s,
               any_value(masks.masks) AS masks
        FROM calls AS t
             JOIN calls AS s ON s.variant = 'stock' AND t.run_id = s.run_id AND t.block = s.block
                  AND t.repetition = s.repetition AND {identity.same("t", "s", RACE)}
             LEFT JOIN masks ON (masks.run_id, masks.node, masks.device, masks.variant)
                                = (t.run_id, t.node, t.device, t.variant)
        GROUP BY ALL ORDER BY t.run_id, t.node, t.device, t.block, median_s DESC""",
        Role.TUNE,
    ),
    # The time of a fresh process before its first call; the median over the processes of a device.
    "start_ups": Query(
        f"""SELECT run_id, node, device, engine, model, median(start_s) AS start_s
        FROM (SELECT run_id, node, device, engine, model, block, sum(elapsed_s) AS start_s FROM samples
              WHERE role = '{Role.COLD}' AND phase <> '{Phase.CALL}' AND {OK} AND {{in_runs}} GROUP BY ALL
              HAVING count(elapsed_s) = count(*))
        WHERE isfinite(start_s)
        GROUP BY ALL ORDER BY ALL""",
        Role.COLD,
    ),
    "throughput": Query(
        "SELECT * FROM throughput WHERE {in_runs} ORDER BY run_id, node, device, images_per_minute", Role.THROUGHPUT
    ),
}
# Each run's time of the scope's series, up to its last run; loaded with their judgements.
HISTORY = Query(
    history.sql_of_times("series_key IN (SELECT series_key FROM timed WHERE {cases}) AND run_id <= {until}")
)
# The series of the scope that an earlier run has measured, too.
_REPEATED = f"""SELECT series_key FROM samples
    WHERE role = '{Role.TIMED}' AND {OK} AND run_id <= $until
          AND series_key IN (SELECT series_key FROM samples WHERE role = '{Role.TIMED}' AND {OK} AND {{cases}})
    GROUP BY series_key HAVING count(DISTINCT run_id) > 1 ORDER BY series_key"""


@dataclass(frozen=True, eq=False)
class Tables:
    """Rows of the queries of the same names, and the published series, or None to leave those out.

    history: the times of the scope's series that were measured in several runs, up to the scope's last.
    reference: the medians of the reference set that did the same work.
    Compared by identity, so that computed values can be cached.
    """

    medians: pa.Table
    speedups: pa.Table
    processes: pa.Table
    repetitions: pa.Table
    flags: pa.Table
    failures: pa.Table
    stages: pa.Table
    ceilings: pa.Table
    memory: pa.Table
    energy: pa.Table
    agreement: pa.Table
    masks: pa.Table
    skipped: pa.Table
    coverage: pa.Table
    races: pa.Table
    throughput: pa.Table
    start_ups: pa.Table
    history: tuple[Series, ...] = ()
    published: pa.Table | None = None
    reference: tuple[Row, ...] = ()

    @cached_property
    def cases(self) -> list[Row]:
        """The medians as rows; the figures ask for them often."""
        return self.medians.to_pylist()

    @cached_property
    def comparable(self) -> list[Row]:
        """The cases that may be ranked with each other: the most frequent kind of work, at any size."""
        kinds = [identity.values(row, KIND) for row in self.cases]
        most = max(kinds, key=Counter(kinds).__getitem__, default=None)
        return [row for row, kind in zip(self.cases, kinds, strict=True) if kind == most]

    @cached_property
    def speedup_rows(self) -> list[Row]:
        """The speed-ups as rows."""
        return self.speedups.to_pylist()

    @cached_property
    def tuning_results(self) -> list[TuningResult]:
        """The races of variants, each with its speed-up over stock."""
        return tuning.from_rows(self.races.to_pylist())

    @cached_property
    def calls(self) -> list[Row]:
        """The repetitions as rows; started_at in µs, since Python's dates would take longer than all other columns."""
        place = self.repetitions.schema.get_field_index("started_at")
        started = self.repetitions["started_at"].cast(pa.int64())
        return self.repetitions.set_column(place, "started_at", started).to_pylist()

    @cached_property
    def name(self) -> Callable[[Row], str]:
        """The name of a row's series, the same in every figure and table; for rows that hold run_id and case_id."""
        name = series_namer(self.cases)
        # A pass may belong to another run than the newest times of its case; then only the case identifies the name.
        names = {key: name(row) for row in self.cases for key in (row["case_id"], (row["run_id"], row["case_id"]))}

        def name_of(row: Row) -> str:
            run_id, case_id = row["run_id"], row["case_id"]
            return names.get((run_id, case_id)) or names.get(case_id) or f"{row['node']} · {device_label(row)}"

        return name_of

    @cached_property
    def agreement_of(self) -> Callable[[Row], Row | None]:
        """A function from a case to its masks' agreement with stock on the CPU, of another run where its own lacks it.

        Of several comparisons the one that agrees least.
        """
        compared: dict[tuple[str | None, str], Row] = {}
        for row in sorted(self.agreement.to_pylist(), key=_agreement, reverse=True):
            if row["as_timed"]:
                compared[None, row["case_id"]] = compared[row["run_id"], row["case_id"]] = row
        return lambda case: compared.get((case["run_id"], case["case_id"])) or compared.get((None, case["case_id"]))

    @cached_property
    def series(self) -> list[str]:
        """The names of one's own series, in their order."""
        return list(dict.fromkeys(map(self.name, self.cases)))

    @property
    def n_failed(self) -> int:
        """Repetitions that failed."""
        return sum(self.failures["n"].to_pylist())


def _agreement(row: Row) -> int:
    """The place of its word among all; words unknown to this version come first, and no word last."""
    known = dict(zip((None, *AGREEMENTS), (len(AGREEMENTS), *range(len(AGREEMENTS))), strict=True))
    return known.get(row["agreement"], -1)


def load(session: Session, scope: Scope, with_published: bool = True) -> Tables:
    """Load everything that figures and reports show of a scope. with_published: and what others measured."""
    # The queries read the same samples, and several of them the same medians.
    with session.holding("samples", scope.in_runs), session.holding("medians", scope.in_runs):
        roles = set(session.table(f"SELECT DISTINCT role FROM samples WHERE {scope.in_runs}")["role"].to_pylist())
        rows = {
            name: _finite(session.table(sql(name, scope) + ("" if query.role in {None, *roles} else " LIMIT 0")))
            for name, query in QUERIES.items()
        }
    found = Tables(**rows, history=_history(session, scope))
    if not with_published:
        return found
    return replace(found, published=reference_timings.means(), reference=reference_set.medians(session, found.cases))


def load_reference(own: Session | None = None) -> Tables | None:
    """The newest cases of each series of the reference set; None where none can be shown next to one's own."""
    found = reference_set.session(own)
    return _newest(found) if found else None


@cache
def _newest(session: Session) -> Tables:
    return load(session, resolve(session, since=EVER), with_published=False)


def _finite(table: pa.Table) -> pa.Table:
    """A table whose numbers are numbers or null: NaN is not valid in JSON."""
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            table = table.set_column(i, field, pc.if_else(pc.is_finite(table[i]), table[i], None))  # pyright: ignore[reportAttributeAccessIssue]  # pyarrow makes them at import
    return table


def sql(name: str, scope: Scope) -> str:
    """The query of this name as it can be run again."""
    query = HISTORY if name == "history" else QUERIES[name]
    return query.sql.format(
        cases=scope.cases_of(query.role or Role.TIMED), in_runs=scope.in_runs, until=text(max(scope.runs))
    )


def _history(session: Session, scope: Scope) -> tuple[Series, ...]:
    until = max(scope.runs)
    keys = session.table(_REPEATED.format(cases=scope.cases), until=until)["series_key"].to_pylist()
    if not keys:
        return ()
    notes = annotations.read(Path(session.store.root)) if session.store.is_local else []
    wanted = f"series_key IN ({texts(keys)}) AND run_id <= {text(until)}"
    return tuple(history.times(session, notes, until, wanted))
