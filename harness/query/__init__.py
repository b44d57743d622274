"""SQL over the store: DuckDB views on Parquet, locked so that a query can only read the samples."""

from harness.query.session import Answer, Session, which_run
from harness.query.views import MACROS, VIEWS, beside

__all__ = ["MACROS", "VIEWS", "Answer", "Session", "beside", "which_run"]
