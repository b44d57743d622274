"""The results' schema: columns, enumerations, the identity of rows, and versions."""

from harness.schema import identity, versions
from harness.schema.columns import (
    ARROW,
    BARE,
    FLAG,
    INSTANT,
    INTEGER,
    REAL,
    REQUIRED,
    SAMPLES,
    SECTIONS,
    TEXT,
    Column,
    Row,
    Sample,
    batch,
    check,
    mistyped,
    sample,
    table,
    version_of,
)
from harness.schema.enumerations import CHOSEN_PASSES, FINE, PASSES, Pass, Phase, Role, Status
from harness.schema.versions import HISTORY, VERSION

__all__ = [
    "ARROW", "BARE", "CHOSEN_PASSES", "FINE", "FLAG", "HISTORY", "INSTANT", "INTEGER", "PASSES", "REAL",
    "REQUIRED", "SAMPLES", "SECTIONS", "TEXT", "VERSION", "Column", "Pass", "Phase", "Role", "Row", "Sample", "Status",
    "batch", "check", "identity", "mistyped", "sample", "table", "version_of", "versions",
]  # fmt: skip
