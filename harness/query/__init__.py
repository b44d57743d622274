"""SQL over the store: DuckDB views on Parquet, locked so that a query can only read the samples."""

from __future__ import annotations

from harness.query.session import Answer, Session, which_run
from harness.query.views import CASE, LENGTH, MACROS, VIEWS, same_work

__all__ = ["CASE", "LENGTH", "MACROS", "VIEWS", "Answer", "Session", "same_work", "which_run"]
