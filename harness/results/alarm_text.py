"""Findings and values of series in words."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.alarms import REQUEST, Finding, Gap
from harness.judge.history import AGREEMENT, MASKS, TIME, Series
from harness.results.formatting import count, dimension_text, number, seconds
from harness.schema import identity
from harness.stats import levels
from harness.stats.watch import Band


def finding_text(finding: Finding) -> str:
    """A finding in words: 'slower: 1.21 s instead of 1.05 s (+15.2 %; usual up to 1.11 s)'."""
    metric = finding.series.metric
    now, before = value_text(metric, finding.value), value_text(metric, finding.before)
    band = finding.band
    if band is None:
        return f"{finding.word}: {now}, before {before}"
    is_above = finding.series.last.judged.direction > 0
    side = f"up to {value_text(metric, band.high)}" if is_above else f"down to {value_text(metric, band.low)}"
    name = "" if metric == TIME else f" ({metric_name(finding.series)})"
    change = f"{100 * (finding.value / band.middle - 1):+.1f} %".replace("-", "−")
    return f"{finding.word}{name}: {now} instead of {value_text(metric, band.middle)} ({change}; usual {side})"


def value_text(metric: str, value: float) -> str:
    """A value of a series with its unit."""
    if metric == TIME:
        return seconds(value)
    if metric == MASKS:
        return count(int(value), "cell")
    return levels.AGREEMENTS[int(value)] if metric == AGREEMENT else f"{number(value / 1e6)} MB"


def usual_text(metric: str, band: Band) -> str:
    """The band of a series: '1.02 s to 1.13 s'."""
    return f"{value_text(metric, band.low)} to {value_text(metric, band.high)}"


def gap_texts(gaps: Sequence[Gap]) -> list[tuple[str, str, str | None]]:
    """The cases that were not measured, the reasons, and the last run of each: 'desk/cpu/448 (standard, lossless)'."""
    names = identity.distinguishing([gap.place for gap in gaps], ("node", "device", "crop", "protocol"), REQUEST)[3:]
    return [
        (f"{gap.selector} ({', '.join(dimension_text(gap.place, name) for name in names)})", gap.why, gap.last_run)
        for gap in gaps
    ]


def metric_name(series: Series) -> str:
    return series.metric.removesuffix("_bytes").replace("_", " ")
