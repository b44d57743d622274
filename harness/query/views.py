"""The public views and macros: SQL on the samples, each with its meaning."""

from __future__ import annotations

from collections.abc import Iterable

from harness.machine import facts
from harness.query.sql import FAILED, LENGTH, MEASURED, OK, texts
from harness.schema import CHOSEN_PASSES, Phase, Role, Status, identity
from harness.stats.student import PROCESSES_MIN, QUANTILES_OF_MEAN

_SQL_TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
# Repetitions of one process are not independent of each other, so the interval of the mean is that of the processes'
# means: Student's t for one degree of freedom less than there are processes.
T_BY_COUNT = list(QUANTILES_OF_MEAN)  # beyond, the last is right to 0.5 %
DRIFT = 0.05  # limit between the control case's medians before and after a block's cases

# The columns of a case as views have them, and their value in a group of its rows.
CASE = ", ".join(("run_id", "case_id", "series_key", *identity.CASE, "image"))
_OF_CASE = ", ".join(f"any_value({name}) AS {name}" for name in ("series_key", *identity.CASE, "image"))
_BLOCK = "run_id, node, device, engine, model, block"
_PASS = f"phase = '{Phase.CALL}' AND {MEASURED}"
# The columns that a GPU and the CPU of its machine share: all of the case except the device.
NOT_DEVICE = identity.without(identity.CASE, identity.DEVICE)


def beside(a: str, b: str) -> str:
    """The condition under which the time of one device may be divided by that of another."""
    return f"{a}.run_id = {b}.run_id AND {identity.same(a, b, NOT_DEVICE)}"


_PLACE, _REQUEST = ", ".join(identity.PLACE), ", ".join((*identity.REQUEST, "image"))


def _alike(table: str) -> str:
    """The condition that a row is of a place p and of work w."""
    return f"{identity.same(table, 'p', identity.PLACE)} AND {identity.same(table, 'w', identity.REQUEST)}"


def _either(columns: Iterable[str]) -> str:
    """Columns that only one of the tables a and b may have."""
    return ", ".join(f"coalesce(a.{name}, b.{name}) AS {name}" for name in columns)


VIEWS = {
    "blocks": (
        "one row per fresh process: the control case before and after its cases",
        f"""SELECT *, last_s / first_s - 1 AS drift, abs(last_s / first_s - 1) > {DRIFT} AS drifted
            FROM (SELECT {_BLOCK}, min(started_at) AS started_at, max(idle_wait_s) AS idle_wait_s,
                         median(elapsed_s) FILTER (role = '{Role.CONTROL}' AND position < 0) AS first_s,
                         median(elapsed_s) FILTER (role = '{Role.CONTROL}' AND position >= 0) AS last_s
                  FROM samples WHERE {OK} GROUP BY {_BLOCK})""",
    ),
    "timed": (
        "successful timed repetitions; flags with the block's drift",
        f"""SELECT s.* REPLACE (trim(coalesce(flags, '') || CASE WHEN b.drifted THEN ' drift' ELSE '' END) AS flags),
                   {LENGTH}
            FROM samples AS s LEFT JOIN (
                SELECT {_BLOCK}, true AS drifted FROM samples WHERE role = '{Role.CONTROL}' AND {OK} GROUP BY {_BLOCK}
                HAVING abs(median(elapsed_s) FILTER (position >= 0) / median(elapsed_s) FILTER (position < 0) - 1)
                       > {DRIFT}) AS b USING ({_BLOCK})
            WHERE role = '{Role.TIMED}' AND {_PASS}""",
    ),
    "medians": (
        "one row per case: spread of its timed repetitions",
        f"""WITH processes AS (
                SELECT run_id, case_id, block, avg(elapsed_s) AS mean_s FROM timed GROUP BY ALL),
            known AS (
                SELECT run_id, case_id, count(*) AS n_blocks,
                       CASE WHEN count(*) >= {PROCESSES_MIN}
                            THEN {T_BY_COUNT}[least(count(*), {len(T_BY_COUNT)} + 1) - 1]
                                 * stddev_samp(mean_s) / sqrt(count(*)) / avg(mean_s) END AS precision
                FROM processes GROUP BY ALL),
            found AS (
                SELECT run_id, case_id, {_OF_CASE}, any_value(profile) AS profile,
                       any_value(image_is_synthetic) AS image_is_synthetic, any_value(length_px) AS length_px,
                       any_value(n_pixels) AS n_pixels, min(started_at) AS started_at,
                       count(*) AS n, median(elapsed_s) AS median_s,
                       quantile_cont(elapsed_s, 0.25) AS q1_s, quantile_cont(elapsed_s, 0.75) AS q3_s,
                       avg(elapsed_s) AS mean_s, stddev_samp(elapsed_s) AS sd_s,
                       min(elapsed_s) AS min_s, max(elapsed_s) AS max_s,
                       min(n_cells) AS n_cells, median(diameter_px) AS diameter_px,
                       count(DISTINCT mask_sha256) AS n_distinct_masks,
                       string_agg(DISTINCT stop_reason, ' ' ORDER BY stop_reason) AS stop_reason,
                       count(*) FILTER (flags <> '') AS n_flagged,
                       coalesce(array_to_string(list_sort(list_distinct(flatten(list(string_split(flags, ' '))
                           FILTER (flags <> '')))), ' '), '') AS flags
                FROM timed GROUP BY run_id, case_id)
            SELECT * FROM found JOIN known USING (run_id, case_id)""",
    ),
    "speedups": (
        "medians of each accelerator and of the CPU of the same run and machine, for cases that are otherwise equal",
        f"""SELECT gpu.*, cpu.median_s AS cpu_median_s, cpu.n AS cpu_n, cpu.n_blocks AS cpu_n_blocks,
                   cpu.n_cells AS cpu_n_cells, cpu.device_name AS cpu_name, cpu.case_id AS cpu_case_id,
                   cpu.median_s / gpu.median_s AS speedup, 100 * gpu.median_s / cpu.median_s AS percent_of_cpu
            FROM medians AS gpu JOIN medians AS cpu ON {beside("gpu", "cpu")}
            WHERE cpu.backend = 'cpu' AND gpu.backend <> 'cpu'""",
    ),
    "latest": (
        "each series' medians in its latest run; imported ones too",
        """SELECT * FROM medians
           QUALIFY row_number() OVER (PARTITION BY series_key ORDER BY started_at DESC, run_id DESC) = 1""",
    ),
    "coverage": (
        "one row per run, device and requested case of any device of the run: measured, failed, skipped or missing",
        f"""WITH tried AS (
                SELECT * FROM samples
                WHERE role IN ('{Role.WARMUP}', '{Role.TIMED}') AND crop IS NOT NULL AND crop <> 'control'),
            places AS (SELECT run_id, {_PLACE} FROM tried GROUP BY ALL),
            work AS (SELECT run_id, {_REQUEST} FROM tried GROUP BY ALL),
            found AS (
                SELECT run_id, {_PLACE}, {_REQUEST}, count(*) FILTER (role = '{Role.TIMED}' AND {OK}) AS n_timed,
                       count(*) FILTER ({FAILED}) AS n_failed,
                       count(*) FILTER (status = '{Status.SKIPPED}') AS n_skipped, max(error_message) AS error_message
                FROM tried GROUP BY ALL),
            looked AS (
                SELECT run_id, {_PLACE}, {_REQUEST}, string_agg(DISTINCT role, ' ' ORDER BY role) AS passes
                FROM samples WHERE role IN ({texts(CHOSEN_PASSES)}) AND {OK} GROUP BY ALL)
            SELECT p.*, w.* EXCLUDE (run_id),
                   CASE WHEN n_timed > 0 THEN 'measured' WHEN n_failed > 0 THEN 'failed'
                        WHEN n_skipped > 0 THEN 'skipped' ELSE 'missing' END AS covered,
                   coalesce(n_timed, 0) AS n_timed, coalesce(n_failed, 0) AS n_failed, error_message,
                   coalesce(passes, '') AS passes
            FROM places AS p JOIN work AS w USING (run_id)
                 LEFT JOIN found AS f ON f.run_id = p.run_id AND {_alike("f")}
                 LEFT JOIN looked AS l ON l.run_id = p.run_id AND {_alike("l")}""",
    ),
    "throughput": (
        "images per minute of each variant, number of processes and images in flight",
        f"""SELECT run_id, case_id, {_OF_CASE}, n_processes, n_in_flight, n_images, count(*) AS n,
                   60 * n_images / median(elapsed_s) AS images_per_minute,
                   60 * n_images / max(elapsed_s) AS slowest_per_minute,
                   60 * n_images / min(elapsed_s) AS fastest_per_minute,
                   count(DISTINCT mask_sha256) AS n_distinct_masks, min(mask_sha256) AS mask_sha256
            FROM samples WHERE role = '{Role.THROUGHPUT}' AND {MEASURED}
            GROUP BY run_id, case_id, n_processes, n_in_flight, n_images""",
    ),
    "failures": (
        "repetitions that did not end well",
        f"SELECT * FROM samples WHERE {FAILED}",
    ),
    "runs": (
        "one row per run: when, where, how much",
        f"""SELECT run_id, min(started_at) AS started_at, any_value(profile) AS profile,
                   count(DISTINCT node) AS n_nodes,
                   count(DISTINCT case_id) FILTER (role = '{Role.TIMED}') AS n_cases,
                   count(*) FILTER (role = '{Role.TIMED}' AND {OK}) AS n_timed,
                   count(*) FILTER ({FAILED}) AS n_failed,
                   string_agg(DISTINCT device, ', ' ORDER BY device) AS devices,
                   string_agg(DISTINCT model, ', ' ORDER BY model) AS models,
                   string_agg(DISTINCT weights, ', ' ORDER BY weights) AS weights,
                   string_agg(DISTINCT image, ', ' ORDER BY image) FILTER (image <> 'control') AS images
            FROM samples GROUP BY run_id""",
    ),
    "stages": (
        "one row per case and part of a call: median over the stage pass, and its share of their sum",
        f"""WITH whole AS (
                SELECT run_id, case_id, median(elapsed_s) AS total_s, count(*) AS n
                FROM samples WHERE role = '{Role.STAGES}' AND {_PASS} GROUP BY ALL),
            parts AS (
                SELECT run_id, case_id, {_OF_CASE}, stage_pass, stage, repetition, sum(elapsed_s) AS elapsed_s,
                       sum(n_tiles) AS n_tiles, sum(work_gflop) AS work_gflop, sum(work_gb) AS work_gb
                FROM samples WHERE role = '{Role.STAGES}' AND phase = '{Phase.STAGE}' AND {OK} AND isfinite(elapsed_s)
                GROUP BY run_id, case_id, stage_pass, stage, repetition),
            found AS (
                SELECT run_id, case_id, {_OF_CASE}, stage_pass, stage, median(elapsed_s) AS median_s,
                       max(n_tiles) AS n_tiles, max(work_gflop) AS work_gflop, max(work_gb) AS work_gb
                FROM parts GROUP BY run_id, case_id, stage_pass, stage)
            SELECT {CASE}, {LENGTH}, stage_pass, stage, found.median_s, whole.n, n_tiles, work_gflop, work_gb, total_s,
                   found.median_s / sum(found.median_s) OVER (PARTITION BY run_id, case_id) AS share,
                   m.median_s AS timed_median_s
            FROM found JOIN whole USING (run_id, case_id)
                 LEFT JOIN (SELECT run_id, case_id, median_s FROM medians) AS m USING (run_id, case_id)""",
    ),
    "ceilings": (
        "the best rates measured on each device in each precision, for comparison with its stages",
        f"""SELECT run_id, node, device, dtype,
                   max(work_gflop / elapsed_s) FILTER (phase <> '{Phase.COPY}') AS matmul_gflop_s,
                   max(work_gb / elapsed_s) FILTER (phase = '{Phase.COPY}') AS copy_gb_s
            FROM samples WHERE role = '{Role.CEILING}' AND {OK} GROUP BY ALL""",
    ),
    "memory": (
        "peak memory per case; one column per method",
        f"""SELECT {CASE}, {LENGTH}, peak_rss_bytes, rss_method, cuda_allocated_bytes, cuda_reserved_bytes,
                   mps_current_bytes, mps_driver_bytes
            FROM samples WHERE role = '{Role.MEMORY}' AND {OK}""",
    ),
    "energy": (
        "energy per call and case over all its windows: gross with its range, and above idle",
        f"""SELECT {CASE}, {LENGTH},
                   sum(energy_gross_j) / sum(n_calls) FILTER (energy_gross_j IS NOT NULL) AS gross_per_call_j,
                   min(energy_gross_j / n_calls) AS gross_low_j, max(energy_gross_j / n_calls) AS gross_high_j,
                   sum(energy_j) / sum(n_calls) FILTER (energy_j IS NOT NULL) AS energy_per_call_j,
                   avg(idle_power_w) AS idle_power_w, count(*) AS n_windows, sum(n_calls)::BIGINT AS n_calls,
                   avg(elapsed_s) AS window_s, energy_class, energy_method
            FROM samples WHERE role = '{Role.ENERGY}' AND {OK} GROUP BY ALL""",
    ),
    "agreement": (
        "agreement of the masks of each case with those of stock cellpose on the CPU of the same node",
        f"""SELECT {CASE}, {LENGTH}, repetition = 0 AS as_timed, agreement, ap50, ap90, mean_iou, n_cells,
                   reference_n_cells, n_cells - reference_n_cells AS delta_cells, diameter_px, reference_diameter_px,
                   diameter_px - reference_diameter_px AS delta_diameter_px, truth_ap50, truth_ap75, truth_ap90,
                   truth_f1, truth_n_cells, elapsed_s
            FROM samples WHERE role = '{Role.MASKS}' AND {OK}""",
    ),
    "environments": (
        "facts about each node and device, one row per fresh process",
        "SELECT run_id, node, device, block, started_at, "
        + ", ".join(f"CAST(environment ->> '$.{f.name}' AS {_SQL_TYPES[f.type]}) AS {f.name}" for f in facts.FACTS)
        + " FROM samples WHERE environment IS NOT NULL",
    ),
    "env": ("the same as environments, in short", "SELECT * FROM environments"),
    "published": (
        "the article's figures: mean seconds per machine, backend and crop (protocol article)",
        "SELECT * FROM published_means",
    ),
}

# Table macros: FROM compare('run a', 'run b').
MACROS = {
    "compare(run_a, run_b)": (
        "the medians of two runs by series, without a verdict; a ratio above 1 means that b took longer",
        f"""SELECT {_either(("node", *identity.SERIES, "image"))},
                   a.median_s AS a_median_s, b.median_s AS b_median_s,
                   b.median_s / a.median_s AS ratio, a.n AS a_n, b.n AS b_n, a.n_blocks AS a_n_blocks,
                   b.n_blocks AS b_n_blocks, coalesce(a.n_pixels, b.n_pixels) AS n_pixels,
                   {", ".join(f"{side}.{name} AS {side}_{name}" for name in identity.VERSIONS for side in "ab")}
            FROM (SELECT * FROM medians WHERE run_id = run_a) AS a
                 FULL JOIN (SELECT * FROM medians WHERE run_id = run_b) AS b USING (series_key)
            ORDER BY node, device, model, protocol, variant, n_pixels""",
    ),
    "compare_devices(device_a, device_b)": (
        "medians of two devices for the same run, machine and work; a ratio above 1 means that b took longer",
        f"""SELECT a.run_id, a.device AS a_device, b.device AS b_device,
                   {", ".join(f"a.{name}" for name in (*NOT_DEVICE, "image"))},
                   a.median_s AS a_median_s, b.median_s AS b_median_s, b.median_s / a.median_s AS ratio, a.n_pixels
            FROM (SELECT * FROM medians WHERE device = device_a) AS a
                 JOIN (SELECT * FROM medians WHERE device = device_b) AS b ON {beside("a", "b")}
            ORDER BY a.run_id, a.node, a.model, a.protocol, a.variant, a.n_pixels""",
    ),
    "history(key)": (
        "one series over time, a row per run, with the versions that may explain a change",
        f"""SELECT started_at, run_id, node, device, crop, median_s, q1_s, q3_s, n, n_blocks, n_flagged,
                   {", ".join(identity.VERSIONS)}
            FROM medians WHERE series_key = key ORDER BY started_at""",
    ),
}

# The meanings of columns that views compute; equal names have equal meanings. Name: meaning, unit.
COMPUTED: dict[str, tuple[str, str | None]] = {
    "images_per_minute": ("images per minute: median of the rounds", "1/min"),
    "slowest_per_minute": ("images per minute in the slowest round", "1/min"),
    "fastest_per_minute": ("images per minute in the fastest round", "1/min"),
    "length_px": ("side of a square with as many pixels", "px"),
    "n_pixels": ("pixels that were segmented", None),
    "n": ("repetitions behind the row", None),
    "median_s": ("median duration", "s"),
    "q1_s": ("first quartile of the durations", "s"),
    "q3_s": ("third quartile of the durations", "s"),
    "mean_s": ("mean duration", "s"),
    "sd_s": ("standard deviation of the durations", "s"),
    "min_s": ("shortest duration", "s"),
    "max_s": ("longest duration", "s"),
    "n_distinct_masks": ("different label images among the repetitions; 1 where they always agree", None),
    "n_blocks": ("fresh processes behind the row", None),
    "n_flagged": ("repetitions that carry a flag", None),
    "cpu_median_s": ("median duration on the CPU of the same node and run", "s"),
    "cpu_n": ("repetitions behind cpu_median_s", None),
    "cpu_n_blocks": ("fresh processes behind cpu_median_s", None),
    "cpu_n_cells": ("cells found on the CPU", None),
    "cpu_name": ("model of the processor that is compared with", None),
    "cpu_case_id": ("its case", None),
    "speedup": ("cpu_median_s over median_s", None),
    "percent_of_cpu": ("median_s as a share of cpu_median_s", "%"),
    "covered": ("measured, failed, skipped, or missing: another device of the run did it", None),
    "n_timed": ("successful timed repetitions", None),
    "n_failed": ("rows that did not end well", None),
    "passes": ("passes in addition to times; spaced", None),
    "n_nodes": ("nodes of the run", None),
    "n_cases": ("cases of the run", None),
    "devices": ("devices of the run", None),
    "models": ("models of the run", None),
    "images": ("images of the run", None),
    "total_s": ("median duration of the whole call in the stage pass", "s"),
    "share": ("part of the stages' sum", None),
    "timed_median_s": ("median duration of the same case, without hooks", "s"),
    "matmul_gflop_s": ("best rate of products and convolutions", "GFLOP/s"),
    "copy_gb_s": ("best rate of copying", "GB/s"),
    "gross_per_call_j": ("energy of one call, idle included", "J"),
    "gross_low_j": ("the same in the window where it was least", "J"),
    "gross_high_j": ("the same in the window where it was most", "J"),
    "energy_per_call_j": ("energy of one call above idle", "J"),
    "n_windows": ("windows of calls", None),
    "window_s": ("mean length of the energy windows", "s"),
    "as_timed": ("at the diameter at which it is timed; else at the reference's", None),
    "delta_cells": ("cells found more than in the reference", None),
    "delta_diameter_px": ("diameter above the reference's", "px"),
    "first_s": ("median of the control case before the block's cases", "s"),
    "last_s": ("median of the control case after the block's cases", "s"),
    "drift": ("last_s over first_s, less 1", None),
    "drifted": (f"whether the drift is over {DRIFT:.0%}", None),
    "machine": ("which of the article's machines", None),
}
