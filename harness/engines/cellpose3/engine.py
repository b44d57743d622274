"""Cellpose 3: the facts about it that need no import."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.engines.base import ModelFiles, ModelInfo, Scalar, Work
from harness.engines.cellpose.engine import BATCH_SIZE, CellposeEngine
from harness.engines.cellpose3 import catalogue, model, variants, weights
from harness.engines.cellpose3.variants import settings
from harness.machine.checks import Check


class Cellpose3(CellposeEngine):
    """The engine of cyto3, cyto2 and nuclei."""

    name = "cellpose3"
    requirement = "cellpose>=3.1.1,<4"
    models = (
        ModelInfo(
            "cyto3",
            "Cellpose cyto3",
            "The network has the architecture of cyto3, so a pass through it takes as long. The cells that it finds, "
            "and the time that depends on them, can differ.",
        ),
        ModelInfo("cyto2", "Cellpose cyto2"),
        ModelInfo("nuclei", "Cellpose nuclei"),
    )
    stages = catalogue.CATALOGUE
    dtypes = ("float32",)
    columns: Mapping[str, Scalar] = {"batch_size": BATCH_SIZE, "diameter_asked_px": model.DIAMETER_PX}
    all_parts = settings.ALL
    searched = settings.SEARCHED
    guess_gflop_s = catalogue.GUESS_GFLOP_S
    constructor = 'Cellpose(model_type="{}")'

    def resolve(self, model: str, choice: str, trust: Sequence[str] = ()) -> ModelFiles:
        """Find, check and if necessary fetch a model's files."""
        found = weights.resolve(choice, model, trust=trust)
        folder = Path(found.folder)
        columns = {
            "weights": found.kind, "weights_sha256": found.net_sha256, "size_model_sha256": found.size_sha256,
        }  # fmt: skip
        return ModelFiles(model, found.kind, tuple(folder / name for name in found.names), columns, found.warning)

    def work(
        self, model: str, height_px: int, width_px: int, diameter_px: float | None = None, is_given: bool = False
    ) -> Work:
        """Tiles and operations of one call."""
        return catalogue.work(model, height_px, width_px, diameter_px, is_given)

    def check(self, model: str) -> Check:
        """Find which files a run would use for a model, without fetching them."""
        return weights.check(model)

    def apply(self, model: Any, variant: str) -> variants.Applied | None:
        """Apply a variant to a models.Cellpose."""
        is_ours = hasattr(model, "cp") and hasattr(model, "sz")
        return variants.apply(model, variant) if is_ours else None

    def prepare(self, model: str, folder: str, source: str) -> None:
        """Set the variable that names cellpose's folder of models."""
        os.environ["CELLPOSE_LOCAL_MODELS_PATH"] = folder

    def load(self, model_name: str, device: str, dtype: str) -> model.Cellpose3Model:
        """Construct the stock model as a user would, on exactly this device."""
        return model.Cellpose3Model(model_name, device)


ENGINE = Cellpose3()
