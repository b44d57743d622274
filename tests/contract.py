"""What an engine's half in the measuring process does, tried once: python -m tests.contract ENGINE MODEL FOLDER SOURCE.

It prints what it saw as a line of JSON, which tests/test_engines.py holds against the seam.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import Any

from harness.engines import registry
from harness.engines.base import Engine, LoadedModel
from harness.images import synthetic
from harness.machine import facts
from harness.measure.passes import stages

SIDES_PX = (232, 256)  # not square, so that axes cannot be mixed up
GIVEN_PX = 40.0
THREADS = 2
# Cheap variants of each engine, whose numbers are seen in columns; one that is a choice of another result.
VARIANTS = {
    "cellpose3": ("batch=2+threads=1", "lossless+diameter=40", "plain+reuse-image"),
    "cellpose4": ("batch=2+threads=1", "lossless+diameter=40"),
    "simulated": ("batch=2", "fast+diameter=40"),
}
ERRORS = (RuntimeError("something"), ValueError("x"), MemoryError(), AssertionError(), OSError(5, "input/output error"))


def tried(engine: Engine, model_name: str, folder: str = "", source: str = "") -> dict[str, Any]:
    """Everything once, on the CPU."""
    engine.prepare(model_name, folder, source)
    engine.start()
    threads = dict(engine.set_threads(THREADS))
    model = engine.load(model_name, "cpu", engine.dtypes[0])
    pixels = synthetic.sparse(height_px=SIDES_PX[0], width_px=SIDES_PX[1], n_cells=6).image
    before = pixels.copy()
    model.prepare(pixels)
    with model.witnessed():
        plain = model.segment(pixels)
    given = model.segment(pixels, GIVEN_PX)
    found, total_s, parts = stages.measure(lambda: model.segment(pixels), model, engine.stages, lambda: None)
    return {
        "devices": [each.id for each in engine.devices()],
        "threads": threads,
        "columns": dict(model.columns),
        "proof": model.proof(),
        "shape": plain.masks.shape,
        "kind": plain.masks.dtype.kind,
        "n_cells": plain.n_cells,
        "n_labels": len({*plain.masks.ravel().tolist()} - {0}),
        "diameters_px": [plain.diameter_px, given.diameter_px],
        "hashes": [plain.sha256, model.segment(pixels).sha256, found.sha256],
        "pixels_stay": bool((pixels == before).all()),
        "total_s": total_s,
        "parts": [asdict(part) for part in parts],
        "environment": dict(engine.environment("cpu")),
        "statuses": [engine.status(error) for error in ERRORS],
        "variants": {text: _applied(engine, model, pixels, text) for text in VARIANTS.get(engine.name, ())},
    }


def _applied(engine: Engine, model: LoadedModel, pixels: Any, text: str) -> dict[str, Any]:
    """A variant in force and gone again, the second time by an error."""
    variant = engine.variant(text, "cpu")
    stock = _state(engine)
    with model.applied(variant) as effective:
        found = model.segment(pixels)
        inside = {
            "columns": dict(effective.columns), "notes": list(effective.notes()), "diameter_px": found.diameter_px,
            "threads": engine.environment("cpu").get("torch_threads"),
        }  # fmt: skip
    is_restored = [_state(engine) == stock]
    try:
        with model.applied(variant):
            raise ZeroDivisionError
    except ZeroDivisionError:
        is_restored.append(_state(engine) == stock)
    return {**inside, "is_restored": is_restored, "sha256": model.segment(pixels).sha256}


def _state(engine: Engine) -> dict[str, Any]:
    """What a variant may not leave behind: settings of the libraries, functions of the engine's modules."""
    stable = {fact.name for fact in facts.FACTS if fact.stable}
    known = {name: value for name, value in engine.environment("cpu").items() if name in stable}
    package = re.match(r"\w*", engine.requirement)[0] or "no package"
    functions = {
        f"{module}.{name}": id(value)
        for module in sorted(sys.modules)
        if module.partition(".")[0] == package
        for name, value in vars(sys.modules[module]).items()
        if callable(value)
    }
    return known | functions


if __name__ == "__main__":
    print(json.dumps(tried(registry.engine(sys.argv[1]), *sys.argv[2:])))
