"""Quantiles of Student's t."""

from __future__ import annotations

PROCESSES_MIN = 3  # of an interval: two do not show the spread of processes
SHARE_OF_MEAN = 0.985  # means of processes with occasional slow repetitions are skewed (docs/statistics.md)
# The quantiles at that share for 1 to 30 degrees of freedom. Queries need them at once, and scipy takes long to import.
QUANTILES_OF_MEAN = (
    21.20495, 5.64278, 3.89605, 3.29763, 3.00287, 2.82893, 2.71457, 2.63381, 2.57380, 2.52748,
    2.49066, 2.46070, 2.43585, 2.41490, 2.39701, 2.38155, 2.36805, 2.35618, 2.34565, 2.33624,
    2.32779, 2.32016, 2.31323, 2.30691, 2.30113, 2.29581, 2.29091, 2.28638, 2.28217, 2.27826,
)  # fmt: skip


def quantile(df: int, share: float = 0.975) -> float:
    """The quantile of Student's t with df degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))
