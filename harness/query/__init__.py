"""SQL over the store: DuckDB views on Parquet, locked so that a query can only read the samples."""

from __future__ import annotations

from harness.query.session import Answer, Session, which_run
from harness.query.views import CASE, LENGTH, MACROS, SAME_WORK, VIEWS

__all__ = ["CASE", "LENGTH", "MACROS", "SAME_WORK", "VIEWS", "Answer", "Session", "which_run"]
