"""Questions that people ask again and again, by name: `cellbench query fastest-device`."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import CellbenchError
from harness.query.views import VIEWS


@dataclass(frozen=True)
class Named:
    """A question with a name: what it answers, its SQL, and the parameters that have a default."""

    question: str
    sql: str
    defaults: tuple[tuple[str, str | None], ...] = ()


RUN = (("run", None),)
# The run that is asked for, or the latest one that was measured here.
OF_RUN = "run_id = coalesce($run::VARCHAR, (SELECT max(run_id) FROM samples WHERE source = 'measured'))"

QUERIES = {
    "fastest-device": Named(
        "Which device is the fastest at each image size, over all nodes?",
        """SELECT crop, protocol, image, weights, source,
       rank() OVER work AS place, node, device, device_name, round(median_s, 4) AS median_s,
       round(median_s / min(median_s) OVER work, 2) AS times_the_fastest, n, n_flagged
FROM latest WHERE variant = 'stock' OR variant IS NULL
WINDOW work AS (PARTITION BY source, protocol, image_sha256, weights_sha256, weights, crop, n_pixels ORDER BY median_s)
ORDER BY source DESC, protocol DESC, image, weights, n_pixels, place""",
    ),
    "gpu-break-even": Named(
        "From which image size on is the accelerator faster than the CPU of its node?",
        """WITH steps AS (
    SELECT *, lag(length_px) OVER w AS below_px, lag(speedup) OVER w AS below
    FROM speedups WHERE """
        + OF_RUN
        + """
    WINDOW w AS (PARTITION BY run_id, node, device, protocol, variant ORDER BY n_pixels)),
crossed AS (  -- between two sizes, the ratio is taken to be a power of the length
    SELECT *, CASE WHEN below < 1 AND speedup >= 1
                   THEN below_px * (length_px / below_px) ** (-ln(below) / (ln(speedup) - ln(below))) END AS crossing_px
    FROM steps)
SELECT node, device, device_name, protocol, variant, round(max(crossing_px)) AS break_even_px,
       CASE WHEN min(speedup) >= 1 THEN 'faster at every size that was measured'
            WHEN max(speedup) < 1 THEN 'slower at every size that was measured'
            WHEN max(crossing_px) IS NULL THEN 'slower at larger sizes'
            ELSE 'faster above break_even_px' END AS answer,
       round(arg_min(speedup, n_pixels), 2) AS speedup_smallest,
       round(arg_max(speedup, n_pixels), 2) AS speedup_largest,
       min(length_px) AS smallest_px, max(length_px) AS largest_px
FROM crossed GROUP BY ALL ORDER BY node, device, protocol""",
        RUN,
    ),
    "slowest-stage": Named(
        "Where does the time of a call go: the three most expensive stages of each device and size?",
        """SELECT node, device, crop, protocol, rank() OVER w AS place, stage,
       round(sum(median_s), 4) AS stage_s, round(sum(share), 3) AS share
FROM stages WHERE """
        + OF_RUN
        + """ GROUP BY node, device, crop, protocol, n_pixels, case_id, stage
WINDOW w AS (PARTITION BY node, device, crop, protocol, case_id ORDER BY sum(median_s) DESC)
QUALIFY place <= 3 ORDER BY node, device, protocol, n_pixels, place""",
        RUN,
    ),
    "version-effect": Named(
        "What did a new version of torch or cellpose change? Above 1: slower than with the versions before.",
        """WITH eras AS (
    SELECT series_key, node, device, crop, protocol, variant, n_pixels, torch_version, cellpose_version,
           min(started_at) AS since, count(DISTINCT run_id) AS n_runs, median(median_s) AS median_s
    FROM medians GROUP BY ALL)
SELECT node, device, crop, protocol, variant, torch_version, cellpose_version, since, n_runs,
       round(median_s, 4) AS median_s, round(median_s / lag(median_s) OVER w, 3) AS ratio_to_before
FROM eras WINDOW w AS (PARTITION BY series_key ORDER BY since)
ORDER BY node, device, protocol, variant, n_pixels, since""",
    ),
    "noisiest-cases": Named(
        "Which cases repeat worst, and what else went on meanwhile?",
        """SELECT node, device, crop, protocol, n, round(median_s, 4) AS median_s,
       round(100 * (q3_s - q1_s) / median_s, 1) AS iqr_percent,
       round(100 * (max_s - min_s) / median_s, 1) AS range_percent, n_flagged, flags, stop_reason
FROM medians WHERE """
        + OF_RUN
        + " AND n > 1 ORDER BY iqr_percent DESC, node, device, crop LIMIT 20",
        RUN,
    ),
    "start-up": Named(
        "What does a fresh process cost before its first image: import, device, model, first call?",
        """SELECT node, device, phase, count(*) AS n, round(median(elapsed_s), 3) AS median_s,
       round(max(elapsed_s), 3) AS max_s
FROM samples WHERE role = 'cold' AND status = 'ok' AND """
        + OF_RUN
        + " GROUP BY ALL ORDER BY node, device, min(started_at)",
        RUN,
    ),
    "flag-effect": Named(
        "Were the flagged repetitions slower than the others of their case?",
        """WITH each AS (
    SELECT node, device, flags, elapsed_s / median(elapsed_s) OVER (PARTITION BY run_id, case_id) AS ratio
    FROM timed WHERE """
        + OF_RUN
        + """)
SELECT node, device, CASE WHEN flags = '' THEN 'none' ELSE flags END AS flags, count(*) AS n,
       round(median(ratio), 3) AS median_ratio, round(max(ratio), 3) AS max_ratio
FROM each GROUP BY ALL ORDER BY node, device, n DESC""",
        RUN,
    ),
    "mask-differences": Named(
        "Do all devices of all nodes find the same cells in the same image with the same weights?",
        """SELECT crop, image, weights, count(DISTINCT node || device) AS n_devices,
       count(DISTINCT mask_sha256) AS n_different_masks, min(n_cells) AS least_cells, max(n_cells) AS most_cells,
       round(max(diameter_px) - min(diameter_px), 3) AS diameter_range_px,
       string_agg(DISTINCT node || ' ' || device || ': ' || n_cells, '; ') AS cells
FROM timed GROUP BY source, image, image_sha256, weights, weights_sha256, crop, n_pixels, diameter_asked_px
ORDER BY n_different_masks DESC, image, weights, n_pixels""",
    ),
    "failure-causes": Named(
        "What went wrong, where, how often, and when last?",
        """SELECT status, error_type, node, device, count(*) AS n, string_agg(DISTINCT crop, ' ') AS crops,
       max(started_at) AS last_at, arg_max(error_message, started_at) AS last_message
FROM failures GROUP BY ALL ORDER BY n DESC, last_at DESC""",
    ),
    "missing-cases": Named(
        "What did a run not measure that another of its devices did?",
        "SELECT node, device, crop, protocol, variant, covered, n_failed, error_message FROM coverage WHERE "
        + OF_RUN
        + " AND covered <> 'measured' ORDER BY node, device, protocol, height_px * width_px",
        RUN,
    ),
    "throughput": Named(
        "How many megapixels a second and images an hour does each device do?",
        """SELECT node, device, device_name, variant, crop, round(n_pixels / median_s / 1e6, 3) AS megapixels_per_s,
       round(3600 / median_s) AS images_per_hour, image, weights, source
FROM latest WHERE protocol = 'standard' ORDER BY node, device, variant, n_pixels""",
    ),
    "memory-need": Named(
        "How much memory does an image of a given size take?",
        """SELECT node, device, crop, round(peak_rss_bytes / 1e9, 2) AS peak_rss_gb, rss_method,
       round(cuda_reserved_bytes / 1e9, 2) AS cuda_reserved_gb, round(mps_driver_bytes / 1e9, 2) AS mps_driver_gb,
       round(greatest(cuda_reserved_bytes, mps_driver_bytes, peak_rss_bytes) / n_pixels) AS bytes_per_pixel
FROM memory WHERE """
        + OF_RUN
        + " ORDER BY node, device, n_pixels",
        RUN,
    ),
    "slower-than-before": Named(
        "Where is the newest run of a series slower than the median of the runs before it?",
        """WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY series_key ORDER BY started_at DESC) AS back FROM medians)
SELECT node, device, crop, protocol, variant, max(run_id) FILTER (back = 1) AS newest_run,
       round(max(median_s) FILTER (back = 1), 4) AS newest_s, round(median(median_s) FILTER (back > 1), 4) AS before_s,
       count(*) - 1 AS n_runs_before,
       round(max(median_s) FILTER (back = 1) / median(median_s) FILTER (back > 1), 3) AS ratio
FROM numbered GROUP BY series_key, node, device, crop, protocol, variant, n_pixels
HAVING n_runs_before > 0 AND ratio > $at_least::DOUBLE ORDER BY ratio DESC""",
        (("at_least", "1"),),
    ),
}


def find(text: str) -> Named:
    """The named query, the view, or the SQL that a text means: one word is a name, everything else is SQL."""
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
