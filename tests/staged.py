"""Made-up stage passes: rows that a worker would send, from shares of a call."""

from __future__ import annotations

from typing import Any

from harness import schema
from tests.conftest import make_sample

Shares = dict[tuple[str, str], float]

# A processor spends its time in the network, an accelerator waits for the processor.
ON_CPU: Shares = {
    ("style", "network"): 0.60, ("style", "flow_image"): 0.01, ("size", "network"): 0.14, ("mask", "network"): 0.14,
    ("mask", "dynamics"): 0.05, ("mask", "qc"): 0.03, ("mask", "cleanup"): 0.02, ("none", "other"): 0.01,
}  # fmt: skip
ON_GPU: Shares = {
    ("style", "normalize"): 0.20, ("style", "network"): 0.10, ("style", "flow_image"): 0.10, ("size", "network"): 0.03,
    ("size", "dynamics"): 0.05, ("mask", "normalize"): 0.15, ("mask", "network"): 0.05, ("mask", "seeds"): 0.04,
    ("mask", "qc"): 0.08, ("mask", "flow_image"): 0.18, ("none", "other"): 0.02,
}  # fmt: skip
SIZES = {"224": (224, 224), "448": (448, 448), "896": (896, 896), "1344": (1344, 1344), "full": (2160, 2560)}
GFLOP, GB = 31.0, 1.0  # per tile


def stage_samples(
    shares: Shares, seconds: dict[str, float], *, repeats: int = 3, ceilings: bool = True, **columns: Any
) -> list[schema.Sample]:
    """The stage pass of each crop: calls of about seconds[crop], and their parts; then the device's ceilings."""
    rows = []
    for crop, total_s in seconds.items():
        height_px, width_px = SIZES[crop]
        case = {**columns, "crop": crop, "height_px": height_px, "width_px": width_px, "role": "stages"}
        for index in range(repeats):
            elapsed_s = total_s * (1 + (index - repeats // 2) / 50)
            rows.append(make_sample(**case, repetition=index, elapsed_s=elapsed_s))
            for (stage_pass, stage), share in shares.items():
                work = {"n_tiles": 10, "work_gflop": 10 * GFLOP, "work_gb": 10 * GB} if stage == "network" else {}
                part = {"phase": "stage", "stage_pass": stage_pass, "stage": stage, **work}
                rows.append(make_sample(**case, **part, repetition=index, elapsed_s=share * elapsed_s))
    if ceilings:
        rows += ceiling_samples(**columns)
    return rows


def ceiling_samples(**columns: Any) -> list[schema.Sample]:
    """100 GFLOP/s in products, 200 in convolutions, 50 GB/s in copies; and slower repetitions."""
    work = [
        ("matmul", 1.0, {"work_gflop": 100.0}), ("matmul", 2.0, {"work_gflop": 100.0}),
        ("convolution", 0.5, {"work_gflop": 100.0}), ("copy", 0.02, {"work_gb": 1.0}), ("copy", 0.1, {"work_gb": 1.0}),
    ]  # fmt: skip
    return [
        make_sample(**columns, role="ceiling", phase=phase, repetition=i, elapsed_s=elapsed_s, crop="control", **done)
        for i, (phase, elapsed_s, done) in enumerate(work)
    ]
