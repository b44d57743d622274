"""SQL over one Parquet file that others can download: they run the same text in its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from harness.query.sql import text
from harness.schema import Row


@contextmanager
def asking(path: Path) -> Iterator[Callable[[str], list[Row]]]:
    """A function from SQL to rows; the SQL names the file as it is named in its folder: FROM 'all.parquet'."""
    with closing(duckdb.connect(":memory:")) as connection:
        connection.execute(f'CREATE VIEW "{path.name}" AS FROM read_parquet({text(str(path))})')
        yield lambda sql: connection.sql(sql).to_arrow_table().to_pylist()
