"""Frequent questions by name: `cellbench query fastest-device`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import CellbenchError
from harness.query.sql import OK
from harness.query.views import VIEWS
from harness.schema import Role, identity

# The columns that distinguish rows: of cases, of all sizes, of series, of requests, of a process's start.
CASE = (*identity.PLACE, *identity.SIZE, *identity.without(identity.CASE, identity.PLACE, identity.SIZE), "image")
LINE = identity.without(CASE, identity.SIZE)
SERIES = identity.without(CASE, identity.VERSIONS)
REQUEST = (*identity.PLACE, *identity.REQUEST, "image")
START = ("phase", *identity.without(LINE, "image", "image_sha256", "protocol", "variant", "result_variant"))


@dataclass(frozen=True)
class Named:
    """A question with a name: its answer in words, its SQL, and the parameters that have a default.

    dimensions: its first columns, which distinguish its rows; most of them are equal in all rows of a store.
    """

    question: str
    sql: str
    defaults: tuple[tuple[str, str | None], ...] = ()
    dimensions: tuple[str, ...] = ()


RUN = (("run", None),)
# The requested run, or the latest one that was measured here.
OF_RUN = "run_id = coalesce($run::VARCHAR, (SELECT max(run_id) FROM samples WHERE source = 'measured'))"


def _listed(columns: Iterable[str]) -> str:
    return textwrap.fill(identity.listed(columns, str), 116, subsequent_indent="       ")


QUERIES = {
    "fastest-device": Named(
        "How long does each device take at each image size, or at the sizes nearest to px? Medians, no ranks.",
        f"""SELECT {_listed(CASE)},
       round(median_s, 4) AS median_s, round(median_s / min(median_s) OVER work, 2) AS times_the_least,
       n_blocks AS n_processes, n, n_flagged
FROM latest WHERE (variant = 'stock' OR variant IS NULL)
      AND ($px::DOUBLE IS NULL OR abs(ln(length_px / $px::DOUBLE))
           = (SELECT min(abs(ln(length_px / $px::DOUBLE))) FROM latest WHERE variant = 'stock' OR variant IS NULL))
WINDOW work AS (PARTITION BY {identity.listed(identity.WORK)})
ORDER BY source DESC, protocol DESC, image, engine, model, weights, n_pixels, median_s""",
        (("px", None),),
        CASE,
    ),
    "gpu-break-even": Named(
        "At and above which measured image size is the accelerator's median below that of the CPU of its node?",
        f"""SELECT {_listed(LINE)},
       max(length_px) FILTER (speedup < 1) AS slower_up_to_px,
       min(length_px) FILTER (length_px > coalesce(slowest_px, 0)) AS faster_from_px,
       round(arg_min(speedup, n_pixels), 2) AS speedup_smallest,
       round(arg_max(speedup, n_pixels), 2) AS speedup_largest,
       min(length_px) AS smallest_px, max(length_px) AS largest_px, min(least(n_blocks, cpu_n_blocks)) AS n_processes
FROM (SELECT *, max(length_px) FILTER (speedup < 1) OVER line AS slowest_px FROM speedups WHERE {OF_RUN}
      WINDOW line AS (PARTITION BY run_id, {_listed(LINE)}))
GROUP BY ALL ORDER BY node, device, protocol, model, variant""",
        RUN,
        LINE,
    ),
    "slowest-stage": Named(
        "Where does the time of a call go: the three most expensive stages of each device and size?",
        f"""WITH parts AS (
    SELECT case_id, stage, {_listed(CASE)},
           any_value(n_pixels) AS n_pixels, sum(median_s) AS stage_s, sum(share) AS share
    FROM stages WHERE {OF_RUN} GROUP BY ALL)
SELECT {_listed(CASE)},
       rank() OVER (PARTITION BY case_id ORDER BY stage_s DESC) AS place, stage, round(stage_s, 4) AS stage_s,
       round(share, 3) AS share
FROM parts QUALIFY place <= 3 ORDER BY node, device, protocol, model, variant, n_pixels, case_id, place""",
        RUN,
        CASE,
    ),
    "version-effect": Named(
        "What did a new version of torch or of the engine change? Above 1: slower than with the versions before.",
        f"""WITH eras AS (
    SELECT series_key, {_listed(CASE)},
           any_value(n_pixels) AS n_pixels, min(started_at) AS since, count(DISTINCT run_id) AS n_runs,
           median(median_s) AS median_s
    FROM medians GROUP BY ALL)
SELECT {_listed(CASE)},
       since, n_runs, round(median_s, 4) AS median_s,
       round(median_s / lag(median_s) OVER (PARTITION BY series_key ORDER BY since), 3) AS ratio_to_before
FROM eras ORDER BY node, device, protocol, model, variant, n_pixels, since""",
        dimensions=CASE,
    ),
    "noisiest-cases": Named(
        "Which cases vary most between repetitions, and which interference was detected?",
        f"""SELECT {_listed(CASE)},
       n, round(median_s, 4) AS median_s, round(100 * (q3_s - q1_s) / median_s, 1) AS iqr_percent,
       round(100 * (max_s - min_s) / median_s, 1) AS range_percent, n_flagged, flags, stop_reason
FROM medians WHERE {OF_RUN} AND n > 1 ORDER BY iqr_percent DESC, node, device, crop, case_id LIMIT 20""",
        RUN,
        CASE,
    ),
    "start-up": Named(
        "How long does a fresh process take before its first image: import, device, model, first call?",
        f"""SELECT {_listed(START)},
       count(*) AS n, round(median(elapsed_s), 3) AS median_s, round(max(elapsed_s), 3) AS max_s
FROM samples WHERE role = '{Role.COLD}' AND {OK} AND {OF_RUN}
GROUP BY ALL ORDER BY node, device, engine, model, min(started_at)""",
        RUN,
        START,
    ),
    "flag-effect": Named(
        "Were the flagged repetitions slower than the others of their case?",
        f"""WITH each AS (
    SELECT node, device, flags, elapsed_s / median(elapsed_s) OVER (PARTITION BY run_id, case_id) AS ratio
    FROM timed WHERE {OF_RUN})
SELECT node, device, CASE WHEN flags = '' THEN 'none' ELSE flags END AS flags, count(*) AS n,
       round(median(ratio), 3) AS median_ratio, round(max(ratio), 3) AS max_ratio
FROM each GROUP BY ALL ORDER BY node, device, n DESC""",
        RUN,
    ),
    "mask-differences": Named(
        "Do all devices of all nodes find the same cells where they do the same work?",
        f"""SELECT {_listed((*identity.WORK, "image"))},
       count(DISTINCT node || device) AS n_devices, count(DISTINCT mask_sha256) AS n_different_masks,
       min(n_cells) AS least_cells, max(n_cells) AS most_cells,
       round(max(diameter_px) - min(diameter_px), 3) AS diameter_range_px,
       string_agg(DISTINCT concat_ws(' ', node, device, nullif(variant, 'stock')) || ': ' || n_cells, '; ') AS cells
FROM timed GROUP BY ALL ORDER BY n_different_masks DESC, image, engine, model, weights, max(n_pixels)""",
        dimensions=(*identity.WORK, "image"),
    ),
    "failure-causes": Named(
        "Which failures occurred, where, how often, and when last?",
        """SELECT status, error_type, node, device, engine, model, count(*) AS n,
       string_agg(DISTINCT crop, ' ') AS crops, string_agg(DISTINCT variant, ' ') AS variants,
       max(started_at) AS last_at,
       arg_max(error_message, started_at) AS last_message
FROM failures GROUP BY ALL ORDER BY n DESC, last_at DESC""",
    ),
    "missing-cases": Named(
        "Which cases did one device of a run not measure that another device of the run did?",
        f"""SELECT {_listed(REQUEST)}, covered, n_failed, error_message
FROM coverage WHERE {OF_RUN} AND covered <> 'measured'
ORDER BY node, device, protocol, model, variant, height_px * width_px""",
        RUN,
        REQUEST,
    ),
    "throughput": Named(
        "How many megapixels per second and images per hour does each device segment?",
        f"""SELECT {_listed(CASE)},
       round(n_pixels / median_s / 1e6, 3) AS megapixels_per_s, round(3600 / median_s) AS images_per_hour
FROM latest WHERE protocol = 'standard' ORDER BY node, device, model, variant, n_pixels""",
        dimensions=CASE,
    ),
    "memory-need": Named(
        "How much memory does an image of a given size take: peak, and increase with each further pixel?",
        f"""WITH peaks AS (
    SELECT run_id, case_id, {_listed(CASE)}, n_pixels,
           unnest([{{'method': 'resident, ' || rss_method, 'bytes': peak_rss_bytes}},
                   {{'method': 'CUDA, reserved by torch', 'bytes': cuda_reserved_bytes}},
                   {{'method': 'Metal, by the driver', 'bytes': mps_driver_bytes}}], recursive := true)
    FROM memory WHERE {OF_RUN})
SELECT {_listed(CASE)},
       method, round(bytes / 1e9, 2) AS peak_gb, count(*) OVER line AS n_sizes,
       CASE WHEN n_sizes > 1 THEN round(regr_slope(bytes, n_pixels) OVER line) END AS bytes_per_pixel,
       CASE WHEN n_sizes > 1 THEN round(regr_intercept(bytes, n_pixels) OVER line / 1e9, 2) END AS fixed_gb
FROM peaks WHERE bytes IS NOT NULL
WINDOW line AS (PARTITION BY run_id, method, {_listed(LINE)})
ORDER BY node, device, model, variant, method, n_pixels""",
        RUN,
        CASE,
    ),
    "slower-than-before": Named(
        "In which series is the newest run slower than the median of the runs before it by 5 % or more?",
        f"""WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY series_key ORDER BY started_at DESC) AS back FROM medians)
SELECT {", ".join(f"arg_min({name}, back) AS {name}" for name in CASE)},
       max(run_id) FILTER (back = 1) AS newest_run, round(max(median_s) FILTER (back = 1), 4) AS newest_s,
       round(median(median_s) FILTER (back > 1), 4) AS before_s, count(*) - 1 AS n_runs_before,
       round(max(median_s) FILTER (back = 1) / median(median_s) FILTER (back > 1), 3) AS ratio
FROM numbered GROUP BY series_key HAVING n_runs_before > 0 AND ratio > $at_least::DOUBLE ORDER BY ratio DESC""",
        (("at_least", "1.05"),),
        CASE,
    ),
}


def find(text: str) -> Named:
    """Find the named query, the view, or the SQL of a text: one word is a name, everything else is SQL."""
    word = text.strip()
    if word in QUERIES:
        return QUERIES[word]
    if word == "samples" or word in VIEWS:
        return Named(word, f"SELECT * FROM {word}")
    if word and all(letter.isalnum() or letter in "-_" for letter in word):
        raise CellbenchError(
            f"there is no query or view {word!r}", None,
            f"queries: {', '.join(QUERIES)}; views: samples, {', '.join(VIEWS)}; or write SQL: SELECT …",
        )  # fmt: skip
    return Named("", text)
