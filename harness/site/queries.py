"""The SQL of the site. Each text is run as it is shown, and runs in DuckDB in the folder of all.parquet."""

from __future__ import annotations

from collections.abc import Mapping

from harness.query.sql import FAILED, MEASURED, text
from harness.schema import Phase, Role, Status
from harness.stats.student import PROCESSES_MIN, QUANTILES_OF_MEAN

FILE = "all.parquet"
LIMIT_S, LIMIT_GB = 1, 8  # of the questions
# Equal for times in one table; then how the work was executed, and on what.
SIZE = ("height_px", "width_px")
WORK = ("weights", "image", *SIZE)
CASE = ", ".join(("slug", "backend", "model", "variant", "dtype", *WORK))
_NAME = "min(hardware) AS hardware"  # a submission of unknown hardware has the name that its device reports
# Submissions that were flagged do not count. The control case and other protocols are other work.
_COUNTED = "tier <> 'flagged' AND protocol = 'standard' AND crop <> 'control'"


def _words(column: str) -> str:
    return f"string_agg(DISTINCT {column}, ', ' ORDER BY {column})"


def _medians(condition: str = "true") -> str:
    """The median of each submitter and case, in s; null where every call failed."""
    return f"""\
WITH medians AS (
  SELECT {CASE}, submitter, {_NAME},
         median(elapsed_s) FILTER (role = '{Role.TIMED}' AND phase = '{Phase.CALL}' AND {MEASURED}) AS seconds,
         {_words("status")} FILTER ({FAILED}) AS failure
  FROM '{FILE}'
  WHERE role IN ('{Role.WARMUP}', '{Role.TIMED}') AND {_COUNTED}
    AND {condition}
  GROUP BY ALL
  HAVING seconds IS NOT NULL OR failure IS NOT NULL)"""


WORKS = f"""{_medians()}
SELECT {", ".join(WORK)}, count(DISTINCT (slug, backend)) AS n_hardware
FROM medians GROUP BY ALL ORDER BY weights, image, height_px, width_px"""


def of_work(work: Mapping[str, str | int]) -> str:
    """The condition for the rows of one work."""
    return " AND ".join(f"{name} = {text(value) if isinstance(value, str) else value}" for name, value in work.items())


def of_slug(slug: str) -> str:
    """The condition for the rows of one kind of hardware."""
    return f"slug = {text(slug)}"


def times(condition: str) -> str:
    """One row per hardware and case: the median of the submitters' medians, their range, and failures.

    mean_ln, sd_ln: of the logarithms of the submitters' medians. t: Student's quantile. The last two are null below
    three submitters.
    """
    several = f"CASE WHEN count(seconds) >= {PROCESSES_MIN} THEN"
    return f"""{_medians(condition)}
SELECT {CASE}, {_NAME}, median(seconds) AS median_s, min(seconds) AS low_s, max(seconds) AS high_s, count(seconds) AS n,
       count(failure) AS n_failed, {_words("failure")} AS failure,
       avg(ln(seconds)) AS mean_ln, {several} stddev_samp(ln(seconds)) END AS sd_ln,
       {several} {list(QUANTILES_OF_MEAN)}[least(count(seconds) - 1, {len(QUANTILES_OF_MEAN)})]::DOUBLE END AS t
FROM medians GROUP BY ALL
ORDER BY weights, image, height_px, width_px, median_s NULLS LAST, hardware, model, variant, dtype"""


def _limits(sizes: str) -> tuple[str, str]:
    """Two queries on sizes, which has a row per hardware and case.

    within: whether it is below the limit, null if not measured. Hardware that lacks a size has no row there. low, high:
    the range of the submitters.
    """
    size = "{'height_px': height_px, 'width_px': width_px, 'low': low, 'high': high, 'failure': failure}"
    pixels = "height_px * width_px"
    return (
        f"""{sizes},
kinds AS (
  SELECT *, count(DISTINCT (slug, backend)) OVER (PARTITION BY model, variant, dtype, image, weights) AS n_kinds
  FROM sizes)
SELECT model, variant, dtype, {", ".join(WORK)}, count(*) FILTER (within) AS n_yes,
       count(*) FILTER (NOT within) AS n_no, any_value(n_kinds) - count(within) AS n_unknown,
       count(failure) AS n_failed
FROM kinds GROUP BY ALL ORDER BY height_px, width_px, model, variant, dtype, image, weights""",
        f"""{sizes}
SELECT slug, backend, {_NAME}, model, variant, dtype, weights, image, max(n) AS n,
       arg_max({size},
               {pixels}) FILTER (within) AS yes,
       arg_min({size},
               {pixels}) FILTER (NOT within) AS no
FROM sizes GROUP BY ALL
ORDER BY max(height_px) FILTER (within) DESC NULLS LAST, max(n) = 0, hardware, model, variant, dtype, image, weights""",
    )


UNDER_LIMIT = _limits(
    f"""{_medians()},
sizes AS (
  SELECT {CASE}, {_NAME}, min(seconds) AS low, max(seconds) AS high, count(*) AS n, {_words("failure")} AS failure,
         count(failure) = 0 AND max(seconds) < {LIMIT_S} AS within
  FROM medians GROUP BY ALL)"""
)
# Peak memory of the device, or of the process on a CPU.
UNDER_MEMORY = _limits(
    f"""\
WITH peaks AS (
  SELECT {CASE}, submitter, {_NAME},
         max(coalesce(cuda_reserved_bytes, mps_driver_bytes,
                      CASE WHEN backend = 'cpu' THEN peak_rss_bytes END))
           FILTER (role = '{Role.MEMORY}' AND status = '{Status.OK}') AS peak,
         {_words("status")} FILTER (status LIKE 'oom%') AS failure
  FROM '{FILE}'
  WHERE role IN ('{Role.WARMUP}', '{Role.TIMED}', '{Role.MEMORY}') AND {_COUNTED}
  GROUP BY ALL),
sizes AS (
  SELECT {CASE}, {_NAME}, min(peak) AS low, max(peak) AS high,
         count(*) FILTER (peak IS NOT NULL OR failure IS NOT NULL) AS n, {_words("failure")} AS failure,
         CASE WHEN count(failure) > 0 THEN false ELSE max(peak) <= {LIMIT_GB}e9 END AS within
  FROM peaks GROUP BY ALL)"""
)
_RATIOS = f"""{_medians("variant = 'stock'")},
cases AS (
  SELECT {CASE}, {_NAME}, median(seconds) AS seconds, min(seconds) AS low, max(seconds) AS high,
         count(seconds) AS n, {_words("failure")} AS failure
  FROM medians GROUP BY ALL),
ratios AS (
  SELECT slug, backend, sam.hardware, sam.model, sam.dtype, {", ".join(WORK)},
         sam.seconds AS sam_s, cyto.seconds AS cyto_s,
         sam.seconds / cyto.seconds AS ratio, sam.low / cyto.high AS low, sam.high / cyto.low AS high, sam.n AS sam_n,
         cyto.n AS cyto_n, sam.failure AS sam_failure, cyto.failure AS cyto_failure
  FROM cases AS sam JOIN cases AS cyto USING (slug, backend, {", ".join(WORK)})
  WHERE sam.model LIKE 'cpsam%' AND cyto.model = 'cyto3')"""
SAM_SUMMARY = f"""{_RATIOS}
SELECT model, dtype, {", ".join(WORK)}, median(ratio) AS ratio, min(ratio) AS low, max(ratio) AS high,
       count(ratio) AS n_hardware, count(coalesce(sam_failure, cyto_failure)) AS n_failed
FROM ratios GROUP BY ALL ORDER BY height_px, width_px, model, dtype, image, weights"""
SAM_OR_CYTO3 = f"""{_RATIOS}
SELECT * FROM ratios ORDER BY hardware, backend, height_px, width_px, model, dtype, image, weights"""
