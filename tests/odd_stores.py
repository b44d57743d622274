"""Stores that nobody plans: few rows, no common crops, unknown names, lacking values; and what no page may show.

Shared by the property tests (tests/test_odd_stores.py, tests/test_claims.py) and scripts/benchmarks/claims.py. Half of
the stores are mixtures; the others measure one kind of work in order, so that ratios, ranks, laws and histories arise.
"""

from __future__ import annotations

import json
import math
import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from harness import schema
from harness.schema import identity
from tests.conftest import raw_sample

RUNS = tuple(f"202601{day:02}T000000Z-{day:06}" for day in range(1, 9))
SIZES = {
    "64": (64, 64),
    "224": (224, 224),
    "300": (300, 200),
    "448": (448, 448),
    "full": (2160, 2560),
    "1344": (1344, 1344),
}
BACKENDS = ("cpu", "cuda", "mps", "rocm", "xpu", "npu", None)
NAMES = ("Some CPU", "NVIDIA H200", "Intel(R) Xeon(R) CPU @ 2.00GHz", "", None)
PASSES = ("style", "size", "mask", "none", "decoder", None)
STAGES = ("network", "dynamics", "qc", "other", "tile", "encoder", "post_processing", None)
STATUSES = ("ok", "ok", "ok", "ok", "oom_device", "skipped", "node_lost", "melted")
VARIANTS = ("stock", "stock", "lossless", "bf16+plain", None)
WORDS = ("identical", "equivalent", "close", "different", "alike", None)
OPTIONAL = [column for column in schema.SAMPLES if column.name not in (*schema.REQUIRED, "environment", "flags")]
# What the rows of a case have in common, since its name is made of it; the others may be lacking in any row.
COMMON = [column for column in OPTIONAL if column.name in (*identity.CASE, "image", "image_is_synthetic")]
OWN = [column for column in OPTIONAL if column not in COMMON]
# What a value turns into, wherever a row may lack it; a number may be no number, too.
LACKING: dict[pa.DataType, tuple[Any, ...]] = {
    schema.REAL: (None, math.nan, math.inf, 0.0), schema.INTEGER: (None, 0), schema.TEXT: (None, ""),
    schema.FLAG: (None,), schema.INSTANT: (None,),
}  # fmt: skip
# Values of Python and JavaScript that no reader is to see; sentences that begin with None are none.
LEAKED = re.compile(r"\b(NaN|nan|undefined|null|[Ii]nfinity|inf|None(?! (?:is|of) ))\b|\[object")


def samples(rng: random.Random) -> list[schema.Sample]:
    """Rows of one store, at least one of them timed."""
    return rng.choice((_mixture, _orderly))(rng)


def _orderly(rng: random.Random) -> list[schema.Sample]:
    """One kind of work on a CPU and accelerators of a machine or two, in several processes and maybe several runs."""
    host = {"node": "desk", "machine_id": rng.choice((None, "m" * 32))}
    places = [
        host | {"backend": "cpu", "device": "cpu", "device_name": "Some CPU"},
        host | {"backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA H200"},
        host | {"backend": "cuda", "device": "cuda:1", "device_name": rng.choice(("NVIDIA H200", "NVIDIA L4"))},
        {"node": rng.choice(("desk", "lab")), "machine_id": "n" * 32, "backend": "cpu", "device": "cpu",
         "device_name": "Some CPU"},
    ]  # fmt: skip
    places = rng.sample(places, rng.choice((1, 2, 2, 3, 4)))
    crops = rng.sample([*SIZES], rng.choice((1, 2, 4, 5, 6)))
    work = {
        "workload": rng.choice(("simulated", "cellpose", "cellpose")), "engine": "cellpose3", "model": "cyto3",
        "weights": rng.choice(("standin", "published", "custom")), "image_is_synthetic": rng.random() < 0.5,
        "source": rng.choice(("measured", "measured", "article.csv")),
    }  # fmt: skip
    n_processes, repeats, noise = rng.choice((1, 1, 2, 3, 3, 5)), rng.choice((1, 2, 3, 6)), rng.choice((0, 0.01, 0.1))
    speeds = [1.0 if place["backend"] == "cpu" else rng.choice((0.5, 1.0, 5.0, 12.0)) for place in places]
    kinds = [
        {"torch_version": "2.14.0"},
        {"variant": "bf16", "dtype": "bfloat16"},
        {"image_sha256": "9" * 64},
    ]
    kinds += [{"model": "cpsam", "engine": "cellpose4"}, {"diameter_asked_px": 30.0}, {"variant": "lossless"}]
    strange = rng.choice((0.0, 0.0, 0.3))
    flags, n_cells = rng.choice(("", "", "load", None)), rng.choice((0, 5, 5, None))
    rows = []
    for run_id in rng.sample(RUNS, rng.choice((1, 1, 2, 3, 8))):
        at = datetime.strptime(run_id[:8], "%Y%m%d").replace(tzinfo=UTC)
        for place, speed in zip(places, speeds, strict=True):
            change = rng.choice(kinds) if rng.random() < strange else {}
            for block in range(n_processes):
                luck = speed * math.exp(rng.gauss(0, noise))
                for crop in crops:
                    height_px, width_px = SIZES[crop]
                    about = {
                        **work, **place, **change, "run_id": run_id, "crop": crop, "height_px": height_px,
                        "width_px": width_px, "block": block, "n_cells": n_cells, "flags": flags,
                        "mask_sha256": rng.choice("aaaab") * 64, "started_at": at + timedelta(minutes=block),
                    }  # fmt: skip
                    usual_s = (0.1 + 2e-6 * height_px * width_px) / luck
                    for i in range(repeats):
                        time_s = usual_s * math.exp(rng.gauss(0, noise / 2))
                        why = rng.choice(("precision", "time_cap", "fixed_n")) if i == repeats - 1 else None
                        rows.append(raw_sample(**about, repetition=i, elapsed_s=time_s, stop_reason=why))
            if rng.random() < 0.3:
                for make in (_stages, _search, _passes):
                    rows += make(rng, work | place | change | {"run_id": run_id, "n_cells": n_cells}, repeats)
    return rows


def _search(rng: random.Random, about: dict[str, Any], repeats: int) -> list[schema.Sample]:
    """A search for speed: a race of three, then the winner against stock in five processes."""
    gain, noise = rng.choice((1.0, 1.05, 1.5)), rng.choice((0.0, 0.01, 0.05))
    races = [(0, ("stock", "lossless", "bf16")), *((block, ("stock", "lossless")) for block in range(1, 6))]
    rows = [
        raw_sample(**(about | {"variant": variant}), role="tune", repetition=i, block=block,
                   elapsed_s=math.exp(rng.gauss(0, noise)) / (gain if variant == "lossless" else 1))
        for block, variants in races for i in range(3) for variant in variants
    ]  # fmt: skip
    words = rng.sample(("identical", "identical", "equivalent", "close"), 2)
    return rows + [
        raw_sample(**(about | {"variant": "lossless"}), role="masks", agreement=word, block=rng.choice((0, 1, 5)))
        for word in words
    ]


def _mixture(rng: random.Random) -> list[schema.Sample]:
    places = [_place(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    damage = rng.choice((0.0, 0.0, 0.01, 0.1))
    runs, repeats = rng.choices(RUNS, k=rng.choice((1, 1, 2, 3))), rng.choice((1, 2, 3, 6))
    all_flagged, without_cells = rng.random() < 0.2, rng.random() < 0.2
    rows = []
    for run_id in runs:
        for place in places:
            for crop in rng.sample([*SIZES], rng.choice((1, 1, 2, 4, 5))):
                height_px, width_px = SIZES[crop]
                about = place | {
                    "run_id": run_id, "crop": crop, "height_px": height_px, "width_px": width_px,
                    "variant": rng.choice(VARIANTS), "model": rng.choice(("cyto3", "cpsam")),
                    "engine": rng.choice(("cellpose3", "cellpose4", "simulated")),
                    "dtype": rng.choice(("float32", "", None)),
                    "source": rng.choice(("measured", "measured", "other.csv")),
                    "image_sha256": rng.choice(("1" * 64, "2" * 64, None)), "mask_sha256": rng.choice(("2" * 64, None)),
                    "weights": rng.choice(("standin", "published", "other")), "image": rng.choice(("sparse", "a.tif")),
                    "workload": rng.choice(("simulated", "cellpose")),
                    "n_cells": 0 if without_cells else rng.randrange(900), "block": rng.randrange(3),
                    "flags": "load drift" if all_flagged else rng.choice(("", "load", None)),
                }  # fmt: skip
                about |= _lost(rng, COMMON, damage)
                for role in rng.sample([*ROLES], rng.randrange(1, len(ROLES) + 1)):
                    rows += ROLES[role](rng, about, repeats)
                if rng.random() < 0.8:
                    rows += _calls("timed")(rng, about, repeats)
    rows = [row | _lost(rng, OWN, damage) for row in rows]
    return [*rows, raw_sample(run_id=runs[0], **places[0])]


def _place(rng: random.Random) -> dict[str, Any]:
    backend = rng.choice(BACKENDS)
    machine = {
        "machine_id": rng.choice((None, None, "m" * 32, "n" * 32)),
        "node": rng.choice(("desk", "desk", "b" * 60)),
    }
    return {**machine, "backend": backend, "device_name": rng.choice(NAMES),
            "device": backend if backend in ("cpu", "mps") else f"{backend or 'chip'}:{rng.randrange(2)}"}  # fmt: skip


def _lost(rng: random.Random, columns: list[schema.Column], chance: float) -> dict[str, Any]:
    return {column.name: rng.choice(LACKING[column.type]) for column in columns if rng.random() < chance}


def _time_s(rng: random.Random) -> float:
    return 10 ** rng.uniform(-4, 3)


def _calls(role: str, **columns: Any) -> Any:
    def rows(rng: random.Random, about: dict[str, Any], repeats: int) -> list[schema.Sample]:
        usual_s = _time_s(rng)
        made = []
        for i in range(repeats):
            status = rng.choice(STATUSES)
            elapsed_s = usual_s * rng.uniform(0.5, 2) if status == "ok" else None
            given = {"role": role, "repetition": i, "status": status, "elapsed_s": elapsed_s, **columns}
            made.append(raw_sample(**(about | given)))
        return made

    return rows


def _stages(rng: random.Random, about: dict[str, Any], repeats: int) -> list[schema.Sample]:
    rows, stages = [], {(rng.choice(PASSES), rng.choice(STAGES)): rng.random() for _ in range(rng.randrange(1, 9))}
    for i in range(repeats):
        rows.append(raw_sample(**about, role="stages", repetition=i, elapsed_s=sum(stages.values())))
        rows += [
            raw_sample(**about, role="stages", phase="stage", repetition=i, stage_pass=stage_pass, stage=stage,
                        elapsed_s=time_s, n_tiles=4, work_gflop=100.0, work_gb=1.0)
            for (stage_pass, stage), time_s in stages.items()
        ]  # fmt: skip
    return rows


def _races(rng: random.Random, about: dict[str, Any], repeats: int) -> list[schema.Sample]:
    rounds = rng.randrange(1, 6)
    rows = [
        raw_sample(**(about | {"variant": variant}), role="tune", repetition=i, elapsed_s=_time_s(rng))
        for variant in ("stock", "lossless", "bf16")
        for i in range(rounds if variant == "stock" else rng.randrange(1, rounds + 1))
    ]
    masks = raw_sample(**(about | {"variant": "lossless"}), role="masks", agreement=rng.choice(WORDS))
    return [*rows, masks]


def _passes(rng: random.Random, about: dict[str, Any], repeats: int) -> list[schema.Sample]:
    ceiling = about | {"role": "ceiling", "dtype": rng.choice((about.get("dtype", "float32"), "bfloat16"))}
    ceilings = [
        raw_sample(**ceiling, phase=phase, repetition=i, elapsed_s=_time_s(rng), work_gflop=gflop, work_gb=gb)
        for phase, gflop, gb in (("matmul", 10.0, None), ("convolution", 10.0, None), ("copy", None, 0.5))
        for i in range(rng.randrange(3))
    ]
    return [
        *ceilings,
        raw_sample(**about, role="memory", peak_rss_bytes=2**30, rss_method=rng.choice(("VmHWM", "sampled", None)),
                    cuda_allocated_bytes=rng.choice((None, 2**31)), mps_driver_bytes=rng.choice((None, 2**31))),
        raw_sample(**about, role="energy", energy_j=rng.choice((3.0, 0.0, -1.0, None)),
                    energy_gross_j=rng.choice((9.0, None)), n_calls=rng.choice((3, 0)),
                    idle_power_w=9.0, energy_class="sensor", energy_method=rng.choice(("nvml", "rapl", None))),
        raw_sample(**about, role="masks", agreement=rng.choice(WORDS), ap50=0.9, ap90=0.8, mean_iou=0.9),
    ]  # fmt: skip


ROLES = {
    "warmup": _calls("warmup"), "cold": _calls("cold", phase="import"), "control": _calls("control", image="control"),
    "throughput": _calls("throughput", n_images=12, n_processes=2, n_in_flight=1), "dreaming": _calls("dreaming"),
    "stages": _stages, "tune": _races, "passes": _passes,
}  # fmt: skip


# ------------------------------------------------------------------ what no page may show


def leaked(text: str) -> list[str]:
    """Values that leaked into a text, each with what stands around it."""
    return [text[max(match.start() - 60, 0) : match.end() + 30] for match in LEAKED.finditer(text)]


def visible(html: str) -> str:
    """The words of a page: without scripts, styles and SQL."""
    return re.sub(r"<(script|style|pre).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)


def empty_layers(spec: dict[str, Any]) -> list[str]:
    """The layers without a row to draw, of which Vega warns."""
    found = []
    for layer in spec["layer"]:
        rows = layer.get("data", spec.get("data"))["values"]
        for step in layer.get("transform", ()):
            if "window" in step:  # of the next size of a series
                rows = [
                    row | {"to": min((o["length"] for o in rows if _is_next(row, o)), default=None)} for row in rows
                ]
            needed = re.findall(r"isValid\(datum\.(\w+)\)|datum\.(\w+) != null", step.get("filter", ""))
            rows = [row for row in rows if all(row.get(one or other) is not None for one, other in needed)]
        found += [] if rows else [layer["mark"]["type"]]
    return found


def _is_next(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return row["series"] == other["series"] and row["length"] < other["length"]


def is_json(spec: dict[str, Any]) -> bool:
    """Whether a browser can read it: JSON knows no NaN."""
    try:
        json.dumps(spec, allow_nan=False)
    except ValueError:
        return False
    return True
