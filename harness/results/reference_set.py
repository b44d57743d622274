"""The reference set as tables, for comparison with one's own results: the column source of its rows is `reference`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.query import Session
from harness.results import scope, tables
from harness.results.tables import Tables
from harness.store import Store, reference


def load(session: Session | None = None) -> Tables | None:
    """The newest cases of each series of the set; None where there is no set, or where the session reads it itself."""
    if not reference.exists() or (session and session.store.root == reference.FOLDER):
        return None
    return _load(reference.FOLDER)


@cache
def _load(folder: Path) -> Tables:
    session = Session(Store(folder), source=reference.SOURCE)
    return tables.load(session, scope.resolve(session, since=scope.EVER), with_published=False)
