"""Made-up stores of many runs, written at once: what comparison, alarms and their pages are tested with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from harness import schema
from harness.store import Store
from tests.conftest import make_sample

FIRST_NIGHT = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)


def run_id(night: int, again: int = 0) -> str:
    """The run of a night, counted from 0; again: a re-run so many minutes later."""
    at = FIRST_NIGHT + timedelta(days=night, minutes=again)
    return f"{at:%Y%m%dT%H%M%SZ}-{night:06x}"


def timed(
    run: str, medians_s: Sequence[float], environment: dict[str, Any] | None = None, **columns: Any
) -> list[schema.Sample]:
    """The timed repetitions of one case in one run: a block for each median."""
    at = datetime.strptime(run[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    rows = []
    for block, median_s in enumerate(medians_s):
        row = {"run_id": run, "block": block, "started_at": at, "source": "measured", **columns}
        rows += [make_sample(**row, repetition=i, elapsed_s=median_s * (1 + (i - 1) / 1000)) for i in range(3)]
        if environment:
            known = {"role": "cold", "phase": "model_load", "crop": None, "environment": json.dumps(environment)}
            rows.append(make_sample(**row | known))
    return rows


def memory(run: str, peak_rss_bytes: int, **columns: Any) -> schema.Sample:
    """The memory pass of one case."""
    answer = {"role": "memory", "peak_rss_bytes": peak_rss_bytes, "rss_method": "VmHWM"}
    return make_sample(run_id=run, **answer | columns)


def store(folder: Path, samples: Iterable[schema.Sample]) -> Store:
    """A store of these samples in one file."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    pq.write_table(schema.table(samples), folder / "samples" / "all.parquet")
    return Store.at(folder)
