"""Quantiles of Student's t."""

from __future__ import annotations

from scipy.special import stdtrit

PROCESSES_MIN = 3  # that an interval takes: two hardly tell what processes spread by


def quantile(df: int, share: float = 0.975) -> float:
    """The quantile of Student's t with df degrees of freedom."""
    return float(stdtrit(df, share))
