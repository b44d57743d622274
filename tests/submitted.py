"""Made-up submissions of realistic hardware: the times are simulated, no such machine was measured.

python -m tests.submitted FOLDER [COUNT] writes a collection of them.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness import schema
from harness.engines import registry
from harness.plan import config
from harness.submissions import checks, form

# name, backend, GFLOP/s that cyto3 reaches, the same of cpsam_v2, memory of the device in GB, host
HARDWARE = (
    ("NVIDIA H200", "cuda", 9000, 180_000, 141, "Intel(R) Xeon(R) Platinum 8468"),
    ("NVIDIA H100 80GB HBM3", "cuda", 8500, 170_000, 80, "Intel(R) Xeon(R) Platinum 8480+"),
    ("NVIDIA A100-SXM4-40GB", "cuda", 6500, 80_000, 40, "AMD EPYC 7742 64-Core Processor"),
    ("NVIDIA L4", "cuda", 3000, 25_000, 24, "Intel(R) Xeon(R) CPU @ 2.20GHz"),
    ("Tesla V100-SXM2-16GB", "cuda", 4500, 30_000, 16, "Intel(R) Xeon(R) CPU E5-2698 v4 @ 2.20GHz"),
    ("Tesla T4", "cuda", 1800, 12_000, 16, "Intel(R) Xeon(R) CPU @ 2.00GHz"),
    ("NVIDIA GeForce RTX 4090", "cuda", 8000, 90_000, 24, "AMD Ryzen 9 7950X 16-Core Processor"),
    ("NVIDIA GeForce RTX 4070", "cuda", 4500, 40_000, 12, "AMD Ryzen 7 5800X 8-Core Processor"),
    ("NVIDIA GeForce RTX 3060", "cuda", 2600, 18_000, 12, "Intel(R) Core(TM) i5-12400"),
    ("NVIDIA GeForce GTX 1650", "cuda", 900, 2_000, 4, "Intel(R) Core(TM) i5-9300H CPU @ 2.40GHz"),
    ("AMD Instinct MI300X", "rocm", 6000, 90_000, 192, "AMD EPYC 9654 96-Core Processor"),
    ("Intel(R) Arc(TM) A770 Graphics", "xpu", 2200, 15_000, 16, "Intel(R) Core(TM) i7-13700K"),
    ("Apple M1", "mps", 500, 1_200, 8, "Apple M1"),
    ("Apple M2 Max", "mps", 1800, 5_000, 32, "Apple M2 Max"),
    ("Apple M3 Pro", "mps", 1300, 3_500, 18, "Apple M3 Pro"),
    ("Apple M4 Max", "mps", 2800, 8_000, 64, "Apple M4 Max"),
    ("AMD EPYC 9654 96-Core Processor", "cpu", 900, 1_500, 384, "AMD EPYC 9654 96-Core Processor"),
    ("Intel(R) Core(TM) i7-8086K CPU @ 4.00GHz", "cpu", 180, 250, 32, "Intel(R) Core(TM) i7-8086K CPU @ 4.00GHz"),
    ("Apple M4 Max", "cpu", 300, 500, 64, "Apple M4 Max"),
)  # fmt: skip
MODELS = {"cyto3": ("cellpose3", "3.1.1.3", "float32", 8), "cpsam_v2": ("cellpose4", "4.2.1.1", "bfloat16", 8)}
PROFILE = config.load("article")


def number_of(i: int) -> str:
    """The id of made-up submission i."""
    return hashlib.sha256(f"made up {i}".encode()).hexdigest()[:12]


def rows(
    hardware: int = 0, model: str = "cyto3", variant: str = "stock", weights: str = "published", month: str = "2026-11",
    number: str = "0123456789ab", **columns: Any,
) -> list[schema.Sample]:  # fmt: skip
    """The samples of one submission without noise: the article's crops, and out of memory where they do not fit."""
    name, backend, cyto3_rate, sam_rate, memory_gb, cpu = HARDWARE[hardware]
    engine, version, dtype, batch = MODELS[model]
    device = backend if backend in ("cpu", "mps") else f"{backend}:0"
    common = {
        "schema_version": schema.VERSION, "run_id": form.run_id(month, number), "source": "measured",
        "profile": PROFILE.profile, "started_at": form.begin(month), "status": "ok", "flags": "", "sync": "none",
        "workload": "cellpose", "engine": engine, "engine_version": version, "cellpose_version": version,
        "protocol": "standard", "protocol_version": 1, "variant": variant, "result_variant": "stock", "model": model,
        "weights": weights, "weights_sha256": hashlib.sha256(f"{model} {weights}".encode()).hexdigest(),
        "image": PROFILE.image, "image_sha256": checks.IMAGES[PROFILE.image], "image_is_synthetic": True,
        "batch_size": batch, "dtype": dtype, "diameter_asked_px": 0.0,
        "node": form.slug(name, backend), "backend": backend, "device": device,
        "device_used": device, "device_name": name, "cpu_model": cpu, "instruction_set": None, "n_cores": 8,
        "ram_bytes": form.rounded(max(16, 2 * memory_gb) * 10**9),
        "os": "macOS 15.6" if backend == "mps" else "Ubuntu 24.04",
        "arch": "arm64" if "Apple" in cpu else "x86_64", "torch_threads": 8, "opencv_threads": 8, "numba_threads": 8,
        "harness_version": "0.1.0", "python_version": "3.12.11", "torch_version": "2.9.1", "numpy_version": "2.0.2",
        "numba_version": "0.62.1", "opencv_version": "4.12.0",
    }  # fmt: skip
    found = []
    for crop in PROFILE.crops:
        height_px, width_px = checks.SIDES_PX if crop == "full" else (crop, crop)
        gflop = registry.engine(engine).work(model, height_px, width_px).gflop
        seconds = 0.02 + height_px * width_px * (4e-8 if variant == "stock" else 5e-9)
        seconds += gflop / (cyto3_rate if model == "cyto3" else sam_rate) * (1 if variant == "stock" else 0.8)
        if seconds > (PROFILE.call_seconds_max or seconds):
            continue
        size = {"crop": str(crop), "height_px": height_px, "width_px": width_px}
        is_full = model == "cpsam_v2" and memory_gb < 8 and crop in (2016, "full")
        for block in range(PROFILE.blocks):
            place = {**common, **size, "phase": "call", "block": block, "position": 0}
            if is_full:
                failure = {"status": "oom_device", "elapsed_s": None, "role": "warmup", "repetition": 0}
                found.append(schema.sample(**{**place, **failure, **columns}))
                continue
            cells = {"n_cells": height_px * width_px // 34_560, "diameter_px": 68.0}
            cells["mask_sha256"] = hashlib.sha256(f"{model} {weights} {crop} {backend}".encode()).hexdigest()
            for i in range(PROFILE.repeats):
                timed = {"role": "timed", "repetition": i, "elapsed_s": seconds * (1 + 0.01 * block + 0.004 * i)}
                found.append(schema.sample(**{**place, **cells, **timed, **columns}))
    return found


@cache
def _table(*which: Any) -> pa.Table:
    return schema.table(rows(*which)).select(form.COLUMNS)


def table(i: int, rng: random.Random) -> pa.Table:
    """Made-up submission i: other noise, another level of the machine, and a few machines that throttle."""
    hardware, model = rng.randrange(len(HARDWARE)), rng.choice(list(MODELS))
    variant = rng.choice(("stock", "stock", "lossless"))
    weights = rng.choice(("published", "published", "published", "standin"))
    found = _table(hardware, model, variant, weights)
    month, level = f"2026-{rng.randrange(1, 12):02}", rng.lognormvariate(0, 0.03) * (3 if rng.random() < 0.01 else 1)
    seconds = [s and s * level * rng.lognormvariate(0, 0.01) for s in found["elapsed_s"].to_pylist()]
    for name, values in {
        "elapsed_s": seconds,
        "run_id": [form.run_id(month, number_of(i))] * len(seconds),
        "started_at": [form.begin(month)] * len(seconds),
    }.items():
        found = found.set_column(form.SCHEMA.get_field_index(name), form.SCHEMA.field(name), [values])
    return found


def write(folder: Path, samples: pa.Table, number: str) -> Path:
    """Write the two files of a submission; returns the path of the Parquet file."""
    first = samples.slice(0, 1).to_pylist()[0]
    place = folder / first["node"]
    place.mkdir(parents=True, exist_ok=True)
    content = form.encode(samples)
    month = f"{first['started_at']:%Y-%m}"
    path = place / f"{form.stem(month, number)}.parquet"
    path.write_bytes(content)
    manifest = form.manifest(samples.to_pylist(), number, hashlib.sha256(content).hexdigest())
    path.with_suffix(".json").write_text(form.text(manifest))
    return path


def collection(folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    """Write a folder of made-up submissions with the hardware that is known; yields the Parquet files."""
    known = [
        (form.slug(name, backend), name) for name, backend, *_ in HARDWARE if name != "Intel(R) Arc(TM) A770 Graphics"
    ]
    text = "".join(
        f"[{slug}]\nname = {json.dumps(name)}\nnames = [{json.dumps(name)}]\n" for slug, name in dict(known).items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "aliases.toml").write_text("# Made up.\n" + text)
    flag = f'[[flag]]\nid = "{number_of(1)}"\nreason = "made up: the machine throttled"\ndate = 2026-11-28\n'
    (folder / "flags.toml").write_text(f'first_party = {{ {number_of(0)} = "" }}\n\n{flag}')
    for i in range(count):
        yield write(folder, table(i, random.Random(f"{seed}/{i}")), number_of(i))


if __name__ == "__main__":
    for _ in collection(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 5000):
        pass
