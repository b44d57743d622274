"""A made-up fleet: many nodes, three devices each, every crop; its names are not to be trusted. All simulated."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness import schema, store
from tests.conftest import RUN_ID, make_sample

CROPS = {str(side): (side, side) for side in range(224, 2017, 224)} | {"full": (2160, 2560)}
NAMES = ("node", "läb-pc", "</script><b>", "a'b\"c", "{{ 7 * 7 }}", "x & y <img src=x>", "| pipe | `tick` @all")
# Seconds beside and per megapixel, about as the published machines.
DEVICES: dict[str, dict[str, Any]] = {
    "cpu": {"backend": "cpu", "device_name": "Intel(R) Core(TM) i7-8086K CPU @ 4.00GHz", "law": (0.4, 10.9)},
    "cuda:0": {"backend": "cuda", "device_name": "NVIDIA GeForce RTX 4070", "law": (0.25, 0.92)},
    "mps": {"backend": "mps", "device_name": "Apple M1", "law": (0.6, 3.4)},
}


def samples(index: int, repeats: int = 5, crops: dict[str, tuple[int, int]] = CROPS) -> list[schema.Sample]:
    """One node in one run: one warm-up and the repetitions of every case; every eleventh node fails on its GPU."""
    begin = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    node = f"{NAMES[index % len(NAMES)]}-{index}"
    found = []
    for device, facts in DEVICES.items():
        fixed_s, per_mpx_s = (value * (1 + index / 50) for value in facts["law"])
        about = {"node": node, "device": device, "device_used": device, "backend": facts["backend"]}
        about |= {"device_name": facts["device_name"], "cpu_model": "Some CPU"}
        answer = {"cpu_model": "Some CPU", "torch_version": f"2.{12 + index % 2}.0", "smt": index % 3 == 0}
        load = {"role": "cold", "phase": "model_load", "environment": json.dumps(answer), "crop": "control"}
        found.append(make_sample(**about, **load))
        for position, (crop, (height_px, width_px)) in enumerate(crops.items()):
            mean_s = fixed_s + per_mpx_s * height_px * width_px / 1e6
            case = {**about, "crop": crop, "height_px": height_px, "width_px": width_px, "position": position}
            if index % 11 == 10 and device == "cuda:0":
                error = {"status": "oom_device", "error_type": "OutOfMemoryError", "error_message": "no <b>room</b>"}
                found.append(make_sample(**case, **error, elapsed_s=None))
                continue
            for i in range(-1, repeats):
                made = {"role": "warmup", "repetition": 0} if i < 0 else {"repetition": i}
                made["flags"] = "load" if (index + position + i) % 17 == 0 and i >= 0 else ""
                made["elapsed_s"] = mean_s * (1.2 if i < 0 else 1 + (i - repeats // 2) / (12 * repeats))
                sample = make_sample(**case, **made, mask_sha256=f"{crop}{facts['backend'] == 'mps'}")
                sample["started_at"] = begin + timedelta(seconds=60 * position + 5 * (i + 1))
                found.append(sample)
    return found


def make_fleet(folder: Path, n_nodes: int, **options: Any) -> store.Store:
    """A store that holds such a run, a file a node; written at once: a journal would wait for the disk each time."""
    import pyarrow.parquet as pq

    made = store.Store.make(folder)
    month = folder / "samples" / "month=2026-01"
    month.mkdir(parents=True, exist_ok=True)
    for index in range(n_nodes):
        rows = schema.table(samples(index, **options))
        pq.write_table(rows, month / f"{RUN_ID}-{index:04}.parquet", compression="zstd")
    return made
