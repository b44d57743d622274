"""SQL over the store: DuckDB views on Parquet, locked so that a query can only read the samples."""

from __future__ import annotations

import threading

import duckdb
import pyarrow as pa

from harness import published, schema
from harness.errors import CellbenchError
from harness.measure.timing import T_975
from harness.node import facts
from harness.store import Store

# What two cases must share before one's time may be divided by the other's.
SAME_WORK = (
    "run_id", "node", "source", "workload", "protocol", "variant", "batch_size", "weights", "weights_sha256",
    "image", "image_sha256", "crop", "height_px", "width_px",
)  # fmt: skip

CASE = "run_id, node, backend, device, device_name, crop, height_px, width_px, protocol, case_id"
_SQL_TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
# Repetitions of one process are not independent of each other, so where there are several processes the interval of
# the mean is that of their means: Student's t for one degree of freedom less than there are processes.
T_BY_COUNT = list(T_975)
DRIFT = 0.05  # between the control case's medians before and after a block's cases, of which the machine is told
LENGTH = "sqrt(height_px * width_px) AS length_px, height_px * width_px AS n_pixels"

VIEWS = {
    "blocks": (
        "one row per fresh process: the control case before and after its cases",
        f"""SELECT *, last_s / first_s - 1 AS drift, abs(last_s / first_s - 1) > {DRIFT} AS drifted
            FROM (SELECT run_id, node, device, block, min(started_at) AS started_at,
                         max(idle_wait_s) AS idle_wait_s,
                         median(elapsed_s) FILTER (role = 'control' AND position < 0) AS first_s,
                         median(elapsed_s) FILTER (role = 'control' AND position >= 0) AS last_s
                  FROM samples WHERE status = 'ok' GROUP BY run_id, node, device, block)""",
    ),
    "timed": (
        "successful timed repetitions; flags with the block's drift",
        f"""SELECT s.* REPLACE (trim(coalesce(flags, '') || CASE WHEN b.drifted THEN ' drift' ELSE '' END) AS flags),
                   {LENGTH}
            FROM samples AS s LEFT JOIN blocks AS b USING (run_id, node, device, block)
            WHERE role = 'timed' AND phase = 'call' AND status = 'ok'""",
    ),
    "medians": (
        "one row per case: spread of its timed repetitions",
        f"""WITH processes AS (
                SELECT run_id, case_id, block, avg(elapsed_s) AS mean_s,
                       max(precision) FILTER (stop_reason IS NOT NULL) AS precision
                FROM timed GROUP BY ALL),
            known AS (
                SELECT run_id, case_id, count(*) AS n_blocks,
                       CASE WHEN count(*) = 1 THEN max(precision)
                            ELSE {T_BY_COUNT}[least(count(*), {len(T_975)} + 1) - 1]
                                 * stddev_samp(mean_s) / sqrt(count(*)) / avg(mean_s) END AS precision
                FROM processes GROUP BY ALL)
            SELECT run_id, profile, node, backend, device, device_name, crop, height_px, width_px, length_px, n_pixels,
                  protocol, variant, batch_size, weights, weights_sha256, image, image_sha256, image_is_synthetic,
                  source, workload, torch_version, cellpose_version, torch_threads, case_id, series_key,
                  min(started_at) AS started_at,
                  count(*) AS n, median(elapsed_s) AS median_s,
                  quantile_cont(elapsed_s, 0.25) AS q1_s, quantile_cont(elapsed_s, 0.75) AS q3_s,
                  avg(elapsed_s) AS mean_s, stddev_samp(elapsed_s) AS sd_s,
                  min(elapsed_s) AS min_s, max(elapsed_s) AS max_s,
                  min(n_cells) AS n_cells, median(diameter_px) AS diameter_px,
                  count(DISTINCT mask_sha256) AS n_distinct_masks,
                  any_value(known.n_blocks) AS n_blocks, any_value(known.precision) AS precision,
                  string_agg(DISTINCT stop_reason, ' ' ORDER BY stop_reason) AS stop_reason,
                  count(*) FILTER (flags <> '') AS n_flagged,
                  coalesce(array_to_string(list_sort(list_distinct(flatten(list(string_split(flags, ' '))
                      FILTER (flags <> '')))), ' '), '') AS flags
            FROM timed JOIN known USING (run_id, case_id) GROUP BY ALL""",
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
        "SELECT * FROM samples WHERE status NOT IN ('ok', 'skipped')",
    ),
    "runs": (
        "one row per run: when, where, how much",
        """SELECT run_id, min(started_at) AS started_at, any_value(profile) AS profile,
                  count(DISTINCT node) AS n_nodes,
                  count(DISTINCT case_id) FILTER (role = 'timed') AS n_cases,
                  count(*) FILTER (role = 'timed' AND status = 'ok') AS n_timed,
                  count(*) FILTER (status NOT IN ('ok', 'skipped')) AS n_failed,
                  string_agg(DISTINCT device, ', ' ORDER BY device) AS devices,
                  string_agg(DISTINCT weights, ', ' ORDER BY weights) AS weights,
                  string_agg(DISTINCT image, ', ' ORDER BY image) FILTER (image <> 'control') AS images
           FROM samples GROUP BY run_id""",
    ),
    "stages": (
        "one row per case and part of a call: median over the stage pass, and its share of their sum",
        f"""WITH whole AS (
                SELECT run_id, case_id, median(elapsed_s) AS total_s, count(*) AS n
                FROM samples WHERE role = 'stages' AND phase = 'call' AND status = 'ok' GROUP BY ALL),
            parts AS (
                SELECT {CASE}, {LENGTH}, stage_pass, stage, repetition, sum(elapsed_s) AS elapsed_s,
                       sum(n_tiles) AS n_tiles, sum(work_gflop) AS work_gflop, sum(work_gb) AS work_gb
                FROM samples WHERE role = 'stages' AND phase = 'stage' AND status = 'ok' GROUP BY ALL)
            SELECT {CASE}, length_px, n_pixels, stage_pass, stage, median(elapsed_s) AS median_s,
                   any_value(whole.n) AS n, max(n_tiles) AS n_tiles, max(work_gflop) AS work_gflop,
                   max(work_gb) AS work_gb, any_value(total_s) AS total_s,
                   median(elapsed_s) / sum(median(elapsed_s)) OVER (PARTITION BY run_id, case_id) AS share,
                   any_value(m.median_s) AS timed_median_s
            FROM parts JOIN whole USING (run_id, case_id)
                 LEFT JOIN (SELECT run_id, case_id, median_s FROM medians) AS m USING (run_id, case_id)
            GROUP BY {CASE}, length_px, n_pixels, stage_pass, stage""",
    ),
    "ceilings": (
        "the best rates measured on each device, beside its stages",
        """SELECT run_id, node, device,
                  max(work_gflop / elapsed_s) FILTER (phase <> 'copy') AS matmul_gflop_s,
                  max(work_gb / elapsed_s) FILTER (phase = 'copy') AS copy_gb_s
           FROM samples WHERE role = 'ceiling' AND status = 'ok' GROUP BY ALL""",
    ),
    "memory": (
        "peak memory per case; one column per method",
        f"""SELECT {CASE}, {LENGTH}, peak_rss_bytes, rss_method, cuda_allocated_bytes, cuda_reserved_bytes,
                   mps_current_bytes, mps_driver_bytes
            FROM samples WHERE role = 'memory' AND status = 'ok'""",
    ),
    "energy": (
        "energy per call and case, above idle",
        f"""SELECT {CASE}, {LENGTH}, energy_j / n_calls AS energy_per_call_j, idle_power_w, n_calls,
                   elapsed_s AS window_s, energy_class, energy_method
            FROM samples WHERE role = 'energy' AND status = 'ok'""",
    ),
    "agreement": (
        "each case's masks beside those of stock cellpose on the same node's CPU",
        f"""SELECT {CASE}, {LENGTH}, diameter_asked_px, agreement, ap50, ap90, mean_iou, n_cells, reference_n_cells,
                   n_cells - reference_n_cells AS delta_cells, diameter_px, reference_diameter_px,
                   diameter_px - reference_diameter_px AS delta_diameter_px, elapsed_s
            FROM samples WHERE role = 'masks' AND status = 'ok'""",
    ),
    "environments": (
        "facts about each node and device, one row per fresh process",
        "SELECT run_id, node, device, block, started_at, "
        + ", ".join(f"CAST(environment ->> '$.{f.name}' AS {_SQL_TYPES[f.type]}) AS {f.name}" for f in facts.FACTS)
        + " FROM samples WHERE environment IS NOT NULL",
    ),
    "published": (
        "the article's figures: mean seconds per machine, backend and crop (protocol article)",
        "SELECT * FROM published_means",
    ),
}


class Session:
    """A locked connection to one store."""

    def __init__(self, store: Store, time_limit_s: float = 60.0) -> None:
        self._time_limit_s = time_limit_s
        self._connection = con = duckdb.connect(":memory:")
        con.execute("SET temp_directory = ''")
        con.register("stored_samples", store.dataset())
        con.register("published_means", published.means())
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
