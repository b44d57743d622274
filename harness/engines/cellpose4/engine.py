"""Cellpose 4: the facts about it that need no import."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines import environments
from harness.engines.base import ModelFiles, ModelInfo, Scalar, Work
from harness.engines.cellpose.engine import BATCH_SIZE, CellposeEngine
from harness.engines.cellpose4 import catalogue, model, surrogate, variants, weights
from harness.engines.cellpose4.variants import settings
from harness.errors import CellbenchError
from harness.machine import nvidia
from harness.machine.checks import OK, WARN, Check

NOTE = (
    "The network is Cellpose-SAM's and takes as long. Its output is replaced by flows drawn from the image, so masks, "
    "cell counts and the time that depends on them are not the model's, and equal masks prove nothing for the network."
)
FIRST_WITH_V2 = (4, 2)


class Cellpose4(CellposeEngine):
    """The engine of Cellpose-SAM."""

    name = "cellpose4"
    requirement = "cellpose>=4.0.9,<4.3"
    models = (ModelInfo("cpsam_v2", "Cellpose-SAM (cpsam_v2)", NOTE), ModelInfo("cpsam", "Cellpose-SAM (cpsam)", NOTE))
    stages = catalogue.CATALOGUE
    dtypes = ("bfloat16", "float32", "float16")
    columns: Mapping[str, Scalar] = {"batch_size": BATCH_SIZE}
    all_parts = settings.ALL
    searched = settings.SEARCHED
    guess_gflop_s = catalogue.GUESS_GFLOP_S
    constructor = 'CellposeModel(pretrained_model="{}")'

    def __init__(self) -> None:
        self._file, self._is_seeded = Path(), False

    def resolve(self, model: str, choice: str = "auto", trust: str | None = None) -> ModelFiles:
        """Find, check and if necessary fetch a model's file."""
        found = weights.resolve(model, choice)
        warnings = [found.warning, *_shortages()]
        return replace(found, warning=" ".join(filter(None, warnings)) or None)

    def work(
        self, model: str, height_px: int, width_px: int, diameter_px: float | None = None, is_given: bool = False
    ) -> Work:
        """Tiles and operations of one call."""
        return catalogue.work(height_px, width_px, diameter_px)

    def check(self, model: str) -> Check:
        """Find which weights a run would use, without fetching them."""
        file = weights.folder() / model
        if flaw := weights.flaw_of(file):
            evidence = f"{file} {flaw}: a run fetches it (1.2 GB) if it can, or else uses the network from a seed"
            return Check("weights", WARN, evidence, f"copy it into {file.parent}")
        if short := _shortages():
            return Check("weights", WARN, f"{file}. {' '.join(short)}", "see docs/cellpose-sam.md, Memory")
        return Check("weights", OK, f"{file}, of which no hash is on record")

    def apply(self, model: Any, variant: str) -> variants.Applied | None:
        """Apply a variant to a CellposeModel with Cellpose-SAM's network."""
        is_ours = hasattr(getattr(getattr(model, "net", None), "encoder", None), "blocks")
        return variants.apply(model, variant) if is_ours else None

    def prepare(self, model: str, folder: str, source: str) -> None:
        """Find the file on this machine, or make it in a separate process, so that the import can be timed here."""
        if source == "standin":
            self._file, self._is_seeded = surrogate.file(), True
            if not self._file.is_file():
                command = environments.command(sys.executable, surrogate.__name__)
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                    raise CellbenchError(
                        f"the stand-in network could not be made: {last}", str(self._file), "see above"
                    )
        else:
            self._file, self._is_seeded = weights.file_of(model, source), False

    def start(self) -> None:
        """Import torch and cellpose, without its warning of a model that is not installed."""
        logging.getLogger("cellpose").setLevel(logging.ERROR)
        super().start()

    def load(self, name: str, device: str, dtype: str) -> model.Cellpose4Model:
        """Construct the stock model as a user would, from exactly the file that was found."""
        version = self.version() or "0"
        if name == "cpsam_v2" and tuple(map(int, version.split(".")[:2])) < FIRST_WITH_V2:
            raise CellbenchError(f"cellpose {version} has no {name}", "--models", "use cpsam, or install 4.2")
        kind = model.SurrogateModel if self._is_seeded else model.Cellpose4Model
        return kind(str(self._file), device, dtype)


def _shortages() -> list[str]:
    """Warnings where this machine has too little memory, as sentences."""
    import psutil

    gpus = [nvidia.open_gpu(uuid) for uuid in nvidia.uuids()]
    sizes = [gpu.facts()["gpu_memory_bytes"] for gpu in gpus if gpu]
    return catalogue.shortages(psutil.virtual_memory().available, [size for size in sizes if size])


ENGINE = Cellpose4()
