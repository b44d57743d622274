"""What the store costs at scale, with generated samples (workload "simulated"), compared with pandas and polars.

pip install --target others pandas polars
python scripts/benchmarks/store_scale.py --others others                  # 10 million samples, 1,000 small files
python scripts/benchmarks/store_scale.py --others others --rows 1000000   # quicker

They lie in a folder of their own, since pyarrow imports pandas wherever there is one: that would be counted as ours.
"""

# ruff: noqa: E501 - the questions and the printed lines stand as they are run and read
from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness import schema
from harness.store import Journal, Store, parquet

REPOSITORY = Path(__file__).parents[2]
MONTHS, NODES, CROPS = 120, 25, 10
GROUPED = "SELECT series_key, count(*) AS n, median(elapsed_s) AS median_s FROM {} WHERE {} GROUP BY series_key"
TIMED = "role = 'timed' AND status = 'ok'"
MONTH = "started_at >= TIMESTAMPTZ '2025-06-01 00:00:00+00' AND started_at < TIMESTAMPTZ '2025-07-01 00:00:00+00'"
BEGIN, END = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)


def sample(run_id: str, node: str, crop: int) -> schema.Sample:
    """The constant columns of one generated case."""
    row: schema.Sample = {
        "schema_version": schema.VERSION, "run_id": run_id, "source": "measured", "profile": "nightly",
        "started_at": datetime(2025, 6, 1, tzinfo=UTC), "role": "timed", "phase": "call", "block": 0, "position": crop,
        "repetition": 0, "elapsed_s": 1.0, "status": "ok", "flags": "", "sync": "none", "dispatch": "ray",
        "workload": "simulated", "protocol": "standard", "protocol_version": 1, "variant": "stock",
        "result_variant": "stock", "engine": "simulated", "engine_version": "1", "model": "cyto3", "dtype": "float32",
        "weights": "standin", "weights_sha256": "0" * 64, "size_model_sha256": "4" * 64, "image": "sparse",
        "image_sha256": "1" * 64, "image_is_synthetic": True, "crop": str(224 * (crop + 1)),
        "height_px": 224 * (crop + 1), "width_px": 224 * (crop + 1), "batch_size": 8, "diameter_asked_px": 0.0,
        "n_cells": 3 + 10 * crop, "diameter_px": 68.125, "mask_sha256": f"{crop:064d}", "node": node,
        "backend": "cpu", "device": "cpu", "device_used": "cpu", "device_name": "Simulated CPU",
        "cpu_model": "Simulated CPU", "machine_id": f"{zlib.crc32(node.encode()):016x}", "instruction_set": "avx2",
        "n_cores": 8, "ram_bytes": 2**36, "os": "Linux 6.1", "arch": "x86_64",
        "torch_threads": 8, "openmp_threads": "8", "opencv_threads": 8, "numba_threads": 8,
        "harness_version": "0.1.0", "python_version": "3.11.7", "torch_version": "2.13.0+cpu",
        "cellpose_version": "3.1.1.3", "numpy_version": "2.0.2", "numba_version": "0.68.1",
        "opencv_version": "5.0.0.93", "ray_version": "2.60.0",
    }  # fmt: skip
    return schema.sample(**row)


def month_of_samples(month: int, n_rows: int, rng: np.random.Generator) -> pa.Table:
    """One month of a fleet: every node's cases every night, times with full mantissas, live readings as measured."""
    year, number = 2016 + month // 12, month % 12 + 1
    n_cases = NODES * CROPS
    nights = max(1, min(28, n_rows // n_cases))
    repeats = max(1, round(n_rows / n_cases / nights))
    runs = [f"{year}{number:02d}{night + 1:02d}T020000Z-{month:03x}{night:03x}" for night in range(nights)]
    cases = schema.table(
        [sample(run, f"node-{node:02d}", crop) for run in runs for node in range(NODES) for crop in range(CROPS)]
    )
    rows = cases.take(np.repeat(np.arange(cases.num_rows), repeats))
    first_us = int(datetime(year, number, 1, 2, tzinfo=UTC).timestamp() * 1e6)
    night = np.repeat(np.arange(nights), n_cases * repeats)
    within = np.tile(np.arange(n_cases * repeats), nights)
    # In parallel on all nodes, one repetition after the other on each; to the microsecond as clocks have it.
    started_us = first_us + night * 86_400_000_000 + (within % (CROPS * repeats)) * 2_000_000
    changing = {
        "started_at": pa.array(started_us + rng.integers(0, 10**6, rows.num_rows), schema.INSTANT),
        "elapsed_s": pa.array(rng.lognormal(0, 0.02, rows.num_rows) * (1 + within % CROPS)),
        "repetition": pa.array(within % repeats),
        "foreign_cpu_share": pa.array(rng.random(rows.num_rows).round(4) / 10),
        "cpu_mhz": pa.array(rng.integers(2800, 3600, rows.num_rows).astype(float)),
        "cpu_temperature_c": pa.array(rng.integers(40, 80, rows.num_rows).astype(float)),
    }
    for name, values in changing.items():
        rows = rows.set_column(rows.column_names.index(name), schema.ARROW.field(name), values)
    return rows


def generate(root: Path, n_rows: int) -> tuple[int, int]:
    """Ten years in a store, compacted; returns rows and bytes."""
    rng = np.random.default_rng(0)
    store = Store.make(root)
    total = 0
    for month in range(MONTHS):
        rows = month_of_samples(month, n_rows // MONTHS, rng)
        total += rows.num_rows
        # Two halves, each as big a file as a month of small ones would become; compaction then does its work for real.
        folder = root / "samples" / f"month={2016 + month // 12}-{month % 12 + 1:02d}"
        for half in range(2):
            part = rows.slice(half * (rows.num_rows // 2), None if half else rows.num_rows // 2)
            parquet.put(
                parquet.LOCAL,
                folder / f"half-{half}.parquet",
                lambda file, part=part: pa.parquet.write_table(part, file, compression="zstd"),
            )
    store.compact()
    return total, sum(path.stat().st_size for path in root.rglob("*.parquet"))


# One tool and one question in a process of its own: its peak memory is its own.
QUESTIONS = {
    "cellbench": """
from harness.query import Session; from harness.store import Store
def ask(month): return Session(Store.at(ROOT), 600).table(GROUPED.format("samples", TIMED + (" AND " + MONTH if month else ""))).num_rows
""",
    "pandas": """
import pandas as pd
def ask(month):
    kept = [("role", "==", "timed"), ("status", "==", "ok")] + [("started_at", ">=", BEGIN), ("started_at", "<", END)] * month
    d = pd.read_parquet(ROOT + "/samples", columns=["series_key", "elapsed_s"], filters=kept)
    return len(d.groupby("series_key").elapsed_s.agg(["count", "median"]))
""",
    "polars": """
import polars as pl
def ask(month):
    d = pl.scan_parquet(ROOT + "/samples/**/*.parquet").filter((pl.col("role") == "timed") & (pl.col("status") == "ok"))
    if month: d = d.filter((pl.col("started_at") >= BEGIN) & (pl.col("started_at") < END))
    return d.group_by("series_key").agg(pl.len(), pl.median("elapsed_s")).collect().height
""",
}


def ask(tool: str, root: Path, month: bool, rounds: int, others: Path | None) -> dict[str, float]:
    """Seconds of the question alone (imports are done before), and the peak memory of its process."""
    code = (
        "import json, resource, sys, time\nfrom datetime import UTC, datetime\n"
        f"ROOT, GROUPED, TIMED, MONTH = {str(root)!r}, {GROUPED!r}, {TIMED!r}, {MONTH!r}\n"
        f"BEGIN, END = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)\n{QUESTIONS[tool]}\n"
        f"times = []\nfor _ in range({rounds}):\n    begin = time.perf_counter()\n    n = ask({month})\n"
        "    times.append(time.perf_counter() - begin)\n"
        # On Linux getrusage would return the peak of the process that made the data, if that was higher: it is inherited.
        "if sys.platform == 'linux':\n    lines = open('/proc/self/status').read().splitlines()\n"
        "    peak = next(1024 * int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "else:\n    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(json.dumps({'first_s': times[0], 'best_s': min(times), 'groups': n, 'peak_mb': peak / 1e6}))"
    )
    env = os.environ | ({"PYTHONPATH": f"{REPOSITORY}:{others.resolve()}"} if others and tool != "cellbench" else {})
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=REPOSITORY, env=env)
    return json.loads(done.stdout)


def appending(folder: Path, n: int) -> list[float]:
    """Milliseconds of each journal append, the wait for the disk included."""
    journal = Journal(folder / "x.arrows")
    row, times_ms = sample("20250601T020000Z-000000", "node", 0), []
    for _ in range(n):
        begin = time.perf_counter()
        journal.append([row])
        times_ms.append(1000 * (time.perf_counter() - begin))
    journal.close()
    return times_ms


def shown_s(root: Path, rounds: int) -> float:
    """Median seconds of the whole process `cellbench show`."""
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        words = [sys.executable, "-m", "harness", "show", "--out", str(root)]
        subprocess.run(words, check=True, capture_output=True, cwd=REPOSITORY)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def small_files(root: Path, n_files: int) -> Store:
    """A store of n_files runs, each in its own file."""
    store = Store.make(root)
    for index in range(n_files):
        run = f"2025{index // 28 % 12 + 1:02d}{index % 28 + 1:02d}T020000Z-{index:06x}"
        rows = [
            sample(run, "node", crop) | {"repetition": i, "elapsed_s": 1.0 + i / 7}
            for crop in range(2)
            for i in range(5)
        ]
        store.add(schema.table(rows))
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--appends", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", type=Path, help="folder of pandas and polars, to be compared with")
    args = parser.parse_args()
    tools = list(QUESTIONS) if args.others else ["cellbench"]
    if importlib.util.find_spec("pandas"):
        print("pandas is installed in this environment: importing it is part of every number", file=sys.stderr)
    scratch = Path(tempfile.mkdtemp(prefix="cellbench-scale-"))
    try:
        times_ms = sorted(appending(scratch, args.appends))
        print(
            f"append, with fsync: median {statistics.median(times_ms):.2f} ms, p99 {times_ms[int(0.99 * len(times_ms))]:.2f} ms (n = {len(times_ms)})"
        )
        store = small_files(scratch / "small", args.files)
        before_s = shown_s(scratch / "small", args.rounds)
        begin = time.perf_counter()
        store.compact()
        compacted_s = time.perf_counter() - begin
        print(
            f"show, {args.files} files: {before_s:.2f} s; compacting them: {compacted_s:.1f} s; afterwards: {shown_s(scratch / 'small', args.rounds):.2f} s"
        )
        begin = time.perf_counter()
        n_rows, n_bytes = generate(scratch / "large", args.rows)
        print(
            f"{n_rows:,} generated samples in {time.perf_counter() - begin:.0f} s: {n_bytes / n_rows:.1f} bytes a row on disk\n"
        )
        print("| group-median over | tool | first, s | best, s | groups | peak memory, MB |")
        print("|---|---|---:|---:|---:|---:|")
        for name, month in (("one month", True), ("everything", False)):
            for tool in tools:
                answer = ask(tool, scratch / "large", month, args.rounds, args.others)
                print(
                    f"| {name} | {tool} | {answer['first_s']:.2f} | {answer['best_s']:.2f} | {answer['groups']} | {answer['peak_mb']:.0f} |"
                )
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
