"""SQL over the store: DuckDB views on Parquet, locked so that a query can only read the samples."""

from __future__ import annotations

import threading

import duckdb
import pyarrow as pa

from harness import schema
from harness.errors import CellbenchError
from harness.store import Store

# What two cases must share before one's time may be divided by the other's.
SAME_WORK = (
    "run_id", "node", "source", "workload", "protocol", "variant", "batch_size", "weights", "weights_sha256",
    "image", "image_sha256", "crop", "height_px", "width_px",
)  # fmt: skip

VIEWS = {
    "timed": (
        "successful timed repetitions",
        """SELECT *, sqrt(height_px * width_px) AS length_px, height_px * width_px AS n_pixels
           FROM samples WHERE role = 'timed' AND phase = 'call' AND status = 'ok'""",
    ),
    "medians": (
        "one row per case: spread of its timed repetitions",
        """SELECT run_id, profile, node, backend, device, device_name, crop, height_px, width_px, length_px, n_pixels,
                  protocol, variant, batch_size, weights, weights_sha256, image, image_sha256, image_is_synthetic,
                  source, workload, torch_version, cellpose_version, torch_threads, case_id, series_key,
                  min(started_at) AS started_at,
                  count(*) AS n, median(elapsed_s) AS median_s,
                  quantile_cont(elapsed_s, 0.25) AS q1_s, quantile_cont(elapsed_s, 0.75) AS q3_s,
                  avg(elapsed_s) AS mean_s, stddev_samp(elapsed_s) AS sd_s,
                  min(elapsed_s) AS min_s, max(elapsed_s) AS max_s,
                  min(n_cells) AS n_cells, median(diameter_px) AS diameter_px,
                  count(DISTINCT mask_sha256) AS n_distinct_masks
           FROM timed GROUP BY ALL""",
    ),
    "speedups": (
        "each accelerator's medians beside the CPU's of the same node, run and workload",
        """SELECT gpu.*, cpu.median_s AS cpu_median_s, cpu.n AS cpu_n, cpu.n_cells AS cpu_n_cells,
                  cpu.device_name AS cpu_name, cpu.median_s / gpu.median_s AS speedup,
                  100 * gpu.median_s / cpu.median_s AS percent_of_cpu
           FROM medians AS gpu JOIN medians AS cpu ON """
        + " AND ".join(f"gpu.{c} IS NOT DISTINCT FROM cpu.{c}" for c in SAME_WORK)
        + """
           WHERE cpu.backend = 'cpu' AND gpu.backend <> 'cpu'""",
    ),
    "failures": (
        "repetitions that did not end well",
        "SELECT * FROM samples WHERE status <> 'ok'",
    ),
    "runs": (
        "one row per run: when, where, how much",
        """SELECT run_id, min(started_at) AS started_at, any_value(profile) AS profile,
                  count(DISTINCT node) AS n_nodes,
                  count(DISTINCT case_id) FILTER (role <> 'cold' OR status <> 'ok') AS n_cases,
                  count(*) FILTER (role = 'timed' AND status = 'ok') AS n_timed,
                  count(*) FILTER (status <> 'ok') AS n_failed,
                  string_agg(DISTINCT device, ', ' ORDER BY device) AS devices,
                  string_agg(DISTINCT weights, ', ' ORDER BY weights) AS weights,
                  string_agg(DISTINCT image, ', ' ORDER BY image) AS images
           FROM samples GROUP BY run_id""",
    ),
}


class Session:
    """A locked connection to one store."""

    def __init__(self, store: Store, time_limit_s: float = 60.0) -> None:
        self._time_limit_s = time_limit_s
        self._connection = con = duckdb.connect(":memory:")
        con.execute("SET temp_directory = ''")
        con.register("stored_samples", store.dataset())
        con.execute("CREATE VIEW samples AS SELECT * FROM stored_samples")
        for column in schema.SAMPLES:
            meaning = f"{column.meaning} [{column.unit}]" if column.unit else column.meaning
            con.execute(f"COMMENT ON COLUMN samples.{column.name} IS {_quoted(meaning)}")
        for name, (meaning, sql) in VIEWS.items():
            con.execute(f"CREATE VIEW {name} AS {sql}")
            con.execute(f"COMMENT ON VIEW {name} IS {_quoted(meaning)}")
        # A seat belt, not a sandbox: a registered dataset stays readable, everything else is out of reach.
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")

    def table(self, sql: str, **parameters: object) -> pa.Table:
        """Run one SELECT and return its rows; parameters are written $name in the SQL."""
        timer = threading.Timer(self._time_limit_s, self._connection.interrupt)
        try:
            self._allow(sql)
            timer.start()
            return self._connection.sql(sql, params=parameters or None).to_arrow_table()
        except duckdb.InterruptException as error:
            raise CellbenchError(f"the query took longer than {self._time_limit_s:g} s", sql, "narrow it") from error
        except duckdb.Error as error:
            raise CellbenchError(
                str(error).strip(),
                sql,
                'see the columns: cellbench query "DESCRIBE samples"; views: ' + ", ".join(["samples", *VIEWS]),
            ) from error
        finally:
            timer.cancel()

    def _allow(self, sql: str) -> None:
        statements = self._connection.extract_statements(sql)
        kinds = {statement.type for statement in statements}
        if len(statements) != 1 or not kinds <= {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}:
            raise CellbenchError("only one SELECT is allowed", sql, "results are never changed by a query")


def which_run(session: Session, run_id: str | None) -> str:
    """The run that is asked for, or the latest one; an error names the runs there are."""
    known = session.table("SELECT run_id FROM runs ORDER BY run_id DESC")["run_id"].to_pylist()
    if not known:
        raise CellbenchError("there are no results here yet", None, "make some: cellbench run")
    if run_id is None:
        return known[0]
    if run_id not in known:
        raise CellbenchError(f"there is no run {run_id}", "--run", "the newest are " + ", ".join(known[:5]))
    return run_id


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
