"""Quantiles of Student's t."""

from __future__ import annotations

from scipy.special import stdtrit


def t_975(df: int) -> float:
    """The 97.5 % quantile of Student's t with df degrees of freedom."""
    return float(stdtrit(df, 0.975))
