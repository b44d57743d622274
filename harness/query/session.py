"""A locked connection: one statement that reads, limits of time and memory, answers in batches."""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from harness import schema
from harness.errors import CellbenchError
from harness.machine import facts
from harness.query import older, reference_timings
from harness.query.sql import text as quoted
from harness.query.views import COMPUTED, MACROS, VIEWS
from harness.store import Opened, Store, parquet, past_runs, reference, scan

BATCH = 65_536  # rows
READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
MEMORY_BYTES = 2 * 10**9  # for DuckDB's own work; 10 million samples need a quarter of it
HELD_ROWS = 100_000  # about 100 MB
INTERRUPT_S = 0.1  # between two attempts to end a query
ANSWER_BYTES = 10**9  # limit of an answer that is kept as a whole
# Words of statements that describe the data.
CATALOGUE = {"show", "tables", "information_schema", "sqlite_master"}
# Each view and macro by its name: how its definition begins, and its SQL.
DEFINITIONS = {name: (f"CREATE VIEW {name} AS", sql) for name, (_, sql) in VIEWS.items()} | {
    signature.split("(")[0]: (f"CREATE MACRO {signature} AS TABLE", sql) for signature, (_, sql) in MACROS.items()
}


@dataclass(frozen=True)
class Answer:
    """The answer of a query: its columns, and its rows in batches, each computed when it is requested."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Session:
    """A locked connection to one store."""

    def __init__(
        self,
        store: Store,
        time_limit_s: float = 60.0,
        memory_limit_bytes: int = MEMORY_BYTES,
        files: Sequence[Opened] | None = None,
        source: str | None = None,
    ) -> None:
        """source: what the column of that name holds, instead of what is stored."""
        self.store, self._time_limit_s, self._memory_limit_bytes = store, time_limit_s, memory_limit_bytes
        self._source = source
        self._connect(store.opened() if files is None else files)

    @classmethod
    def of_run(cls, store: Store, run_id: str | None) -> tuple[Session, str]:
        """A session for queries about one run, by default the latest, and its run_id; it may lack all other runs."""
        files = store.opened()
        try:
            chosen = _chosen(store, scan.runs(files), run_id)
            session = cls(store, files=scan.holding(files, chosen))
            if not session._damaged:
                return session, chosen
        except (pa.ArrowException, OSError):
            pass  # reading everything leaves out damaged files, and another run may be the latest then
        session = cls(store)
        return session, which_run(session, run_id)

    def _connect(self, files: Sequence[Opened]) -> None:
        self._files = [file.path for file in files]
        self._damaged = False
        self._connection = con = duckdb.connect(":memory:")
        weakref.finalize(self, con.close)  # before the interpreter ends: its threads hold Python objects
        con.execute(f"SET temp_directory = ''; SET memory_limit = '{self._memory_limit_bytes // 1000} kB'")
        # Views read the samples several times; where they are few they are read once into memory instead.
        is_held = sum(file.n_rows for file in files) <= HELD_ROWS
        if is_held:
            whole, samples = parquet.read(self.store.root, files)
            self._damaged = len(whole) < len(files)
        else:
            samples = scan.streamed(files)
        con.register("stored_samples", samples)
        con.register("published_means", reference_timings.means())
        self._samples = "SELECT * FROM stored_samples"
        self._has_older = self._has_unread = older.are_in(files)
        if self._has_older:
            con.register("older", older.table([]))
            self._samples = older.SAMPLES
            if is_held:
                self._read_older()
                con.register("read_samples", con.sql(older.SAMPLES).to_arrow_table())
                self._samples = "SELECT * FROM read_samples"
        if self._source:
            self._samples = f"SELECT * REPLACE ({quoted(self._source)} AS source) FROM ({self._samples})"
        con.execute(f"CREATE VIEW samples AS {self._samples}")
        self._defined: set[str] = set()
        self._commented = False
        # Protection against mistakes, not against attacks: a registered dataset stays readable, nothing else.
        con.execute("SET enable_external_access = false; SET lock_configuration = true")

    def _read_older(self) -> None:
        """Convert the keys of older versions' rows, once."""
        if self._has_unread:
            found = self._connection.sql(older.DISTINCT).to_arrow_table()
            self._connection.register("older", older.table(found.to_pylist()))
            self._has_unread = False

    def series_now(self, key: str | None) -> list[str]:
        """The series of this name: itself, or the series that an older version's rows under this name belong to."""
        if not self._has_older:
            return [key or ""]
        self._read_older()
        found = self._connection.sql(
            "SELECT DISTINCT series_key FROM older WHERE old_series_key = $key", params={"key": key}
        )
        return [name for (name,) in found.fetchall()] or [key or ""]

    def _define(self, sql: str) -> None:
        """Create the views and macros that a text names, and those that these use: creating all of them is slow."""
        words = set(re.findall(r"\w+", sql.lower()))
        if words & CATALOGUE or any(word.startswith(("duckdb_", "pg_")) for word in words):
            words |= DEFINITIONS.keys()
        for name in DEFINITIONS.keys() & words:
            if name in self._defined:
                continue
            self._defined.add(name)
            begin, body = DEFINITIONS[name]
            self._define(body)
            self._connection.execute(f"{begin} {body}")
        if words & {"duckdb_columns", "duckdb_views", "comment"} and not self._commented:
            self._comment()

    def _comment(self) -> None:
        """Add the meanings of views and columns; only where the catalogue is read, since it takes a second."""
        self._commented = True
        known = meanings()
        columns = self._connection.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal")
        comments = [f"COMMENT ON VIEW {name} IS {quoted(meaning)}" for name, (meaning, _) in VIEWS.items()]
        for view, column in columns.fetchall():
            if column in known and view not in ("stored_samples", "published_means"):
                comments.append(f'COMMENT ON COLUMN {view}."{column}" IS {quoted(known[column])}')
        self._connection.execute("; ".join(comments))

    def table(self, sql: str, **parameters: object) -> pa.Table:
        """Run one SELECT and return its rows; parameters are written $name in the SQL."""
        with self.stream(sql, parameters) as answer:
            batches, size = [], 0
            for batch in answer.batches:
                size += batch.nbytes
                if size > ANSWER_BYTES:
                    raise CellbenchError(
                        f"the answer is larger than {ANSWER_BYTES / 1e9:g} GB", sql, "narrow it, or write it to a file"
                    )
                batches.append(batch)
            return pa.Table.from_batches(batches, answer.schema)

    @contextmanager
    def holding(self, view: str, condition: str) -> Iterator[None]:
        """Restrict a view to the rows that fulfil a condition while the context lasts, and compute them once.

        The samples are restricted only where they are few; else it would be slower, and all of them stay.
        """
        if view == "samples" and self._is_much(condition):
            yield
            return
        self._connection.register(f"held_{view}", self.table(f"SELECT * FROM {view} WHERE {condition}"))
        self._connection.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM held_{view}")
        try:
            yield
        finally:
            self._define(view)  # it is gone where the store was opened again meanwhile
            body = DEFINITIONS[view][1] if view in DEFINITIONS else self._samples
            self._connection.execute(f"CREATE OR REPLACE VIEW {view} AS {body}")
            self._connection.unregister(f"held_{view}")

    def _is_much(self, condition: str) -> bool:
        counted = self.table(f"SELECT count(*) FILTER ({condition}) AS mine, count(*) AS n FROM samples").to_pylist()[0]
        return counted["mine"] > HELD_ROWS or counted["n"] <= HELD_ROWS  # of few samples, all are in memory already

    @contextmanager
    def stream(self, sql: str, parameters: Mapping[str, object] | None = None) -> Iterator[Answer]:
        """Run one SELECT; its rows are computed as they are taken, until the time limit."""
        statement, given = self._allowed(sql, parameters or {})
        end_s = time.monotonic() + self._time_limit_s
        # Python reacts to neither a clock nor Ctrl-C while DuckDB works in its thread, so that is another thread.
        with ThreadPoolExecutor(1) as worker:

            def work(step: Callable[[], Any]) -> Any:
                return self._result(worker.submit(step), sql, end_s)

            reader = work(lambda: self._begin(statement, given))
            with closing(reader):  # a caller that takes only the first rows leaves the query running
                yield Answer(reader.schema, iter(lambda: work(lambda: next(reader, None)), None))

    def _result(self, step: Future, sql: str, end_s: float) -> Any:
        """The result of a step of a query; the step is ended at the time limit or on Ctrl-C."""
        try:
            with self._explaining(sql):
                wait([step], max(0.0, end_s - time.monotonic()))
                if step.done():
                    return step.result()
            raise CellbenchError(
                f"the query took longer than {self._time_limit_s:g} s", sql, "narrow it, or give --time-limit"
            )
        finally:
            while not step.done():  # an interrupt that comes just before a query begins is lost
                self._connection.interrupt()
                wait([step], INTERRUPT_S)

    def _begin(self, statement: duckdb.Statement, given: Mapping[str, object]) -> pa.RecordBatchReader:
        """Start the query; where files were compacted since they were listed, list them again and start once more."""
        try:
            self._read_older()
            return self._connection.sql(statement, params=given or None).to_arrow_reader(BATCH)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            files = self.store.opened()
            if [file.path for file in files] == self._files:
                raise
            self._connect(files)
            self._define(statement.query)
            self._read_older()
            return self._connection.sql(statement.query, params=given or None).to_arrow_reader(BATCH)

    @contextmanager
    def _explaining(self, sql: str) -> Iterator[None]:
        """Explain in plain words why a query failed."""
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in str(error):
                limit = f"{self._memory_limit_bytes / 1e9:g} GB"
                raise CellbenchError(
                    f"the query needs more memory than {limit}", sql, "narrow it, or give --memory-limit"
                ) from error
            views = ", ".join(["samples", *VIEWS])
            if isinstance(error, duckdb.PermissionException):
                fix = f"a query reads the results and nothing else; views: {views}"
            else:
                fix = f'see the columns: cellbench query "DESCRIBE samples"; views: {views}'
            raise CellbenchError(str(error).strip(), sql, fix) from error

    def _allowed(self, sql: str, parameters: Mapping[str, object]) -> tuple[duckdb.Statement, dict[str, object]]:
        """The one statement, if it only reads, and its parameters, if all are given."""
        with self._explaining(sql):
            statements = self._connection.extract_statements(sql)
            self._define(sql)
        if len(statements) != 1 or statements[0].type not in READING:
            raise CellbenchError("only one SELECT is allowed", sql, "results are never changed by a query")
        wanted = statements[0].named_parameters
        if wanted != parameters.keys():
            missing = ", ".join(f"--param {name}=…" for name in sorted(wanted - parameters.keys()))
            surplus = ", ".join(sorted(parameters.keys() - wanted))
            what = f"parameters are missing: {missing}" if missing else f"the query has no parameter {surplus}"
            raise CellbenchError(what, sql, "a parameter is written $name in the SQL and given as --param name=value")
        return statements[0], dict(parameters)


def meanings() -> dict[str, str]:
    """The meaning of each column of the samples and of the views, with its unit."""
    known = {fact.name: (fact.meaning, fact.unit) for fact in facts.FACTS}
    known |= COMPUTED | {column.name: (column.meaning, column.unit) for column in schema.SAMPLES}
    return {name: f"{meaning} [{unit}]" if unit else meaning for name, (meaning, unit) in known.items()}


def which_run(session: Session, run_id: str | None) -> str:
    """The requested run, or the latest one; an error names the available runs."""
    return _chosen(session.store, session.table("SELECT DISTINCT run_id FROM samples")["run_id"].to_pylist(), run_id)


def _chosen(store: Store, runs: Iterable[str], run_id: str | None) -> str:
    known = sorted(runs, reverse=True)
    if not known:
        raise reference.no_results(store.root, "cellbench run")
    if run_id is None:
        return past_runs(known)[-1]
    if run_id not in known:
        raise CellbenchError(f"there is no run {run_id}", "--run", "the newest are " + ", ".join(known[:5]))
    return run_id
