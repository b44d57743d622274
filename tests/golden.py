"""Makes tests/data/v<VERSION>.parquet, the little store that every later version must be able to read.

python -m tests.golden     once, when a version is released; a golden file is never changed afterwards
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from harness import schema
from tests.conftest import make_sample

FOLDER = Path(__file__).parent / "data"


def rows() -> list[schema.Sample]:
    """A timed repetition, a stage and a failure: something in each group of columns."""
    environment = json.dumps({"cpu_model": "Some CPU", "ram_bytes": 2**34, "smt": True})
    where = {"machine_id": "0123456789abcdef", "instruction_set": "avx512+bf16", "cpu_quota_cores": 1.5}
    return [
        make_sample(**where, variant="batch=16+diameter=25", result_variant="diameter=25", batch_size=16),
        make_sample(environment=environment, role="cold", phase="model_load"),
        make_sample(precision=0.01, cpu_mhz=3000.0, flags="load"),
        make_sample(role="stages", phase="stage", stage_pass="mask", stage="network", elapsed_s=0.5, n_tiles=4),
        make_sample(role="masks", ap50=0.98, agreement="equivalent"),
        make_sample(status="oom_device", elapsed_s=None, error_type="OutOfMemoryError", error_message="ü"),
    ]


def write(version: int = schema.VERSION) -> None:
    """Write the golden file of a version and, as JSON, what must be read from it."""
    table = schema.table(rows()).select([c.name for c in schema.SAMPLES if c.since <= version])
    table = table.replace_schema_metadata({"cellbench.schema_version": str(version)})
    table = table.set_column(0, "schema_version", [[version] * table.num_rows])
    pq.write_table(table, FOLDER / f"v{version}.parquet", compression="zstd")
    remember(version)


def remember(version: int) -> None:
    """Write down what a golden file holds, nulls left out."""
    held = pq.read_table(FOLDER / f"v{version}.parquet").to_pylist()
    output = [{name: plain(value) for name, value in row.items() if value is not None} for row in held]
    (FOLDER / f"v{version}.json").write_text(json.dumps(output, indent=1, ensure_ascii=False) + "\n")


def plain(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


if __name__ == "__main__":
    write()
