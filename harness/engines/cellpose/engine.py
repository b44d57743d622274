"""The shared part of the engines of Cellpose 3 and 4 before a model is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from harness.engines.base import Part, Scalar, Variant
from harness.engines.cellpose.variants.parts import Parts
from harness.engines.torch_process import TorchProcess
from harness.machine.probe import distribution_version

BATCH_SIZE = 8  # eval()'s own default; passed on so that the stored figure is the used one


class CellposeEngine(TorchProcess):
    """An engine whose variants consist of settings.

    all_parts: all parts of its variants. constructor: the line that loads a model in a user's script; {} is its name.
    """

    passes = frozenset({"stages", "ceiling", "memory", "energy", "masks"})
    patience_s = 900.0
    all_parts: Parts[Any]
    constructor: str

    def version(self) -> str | None:
        """The version of cellpose in this environment."""
        return distribution_version("cellpose")

    @cache  # noqa: B019  (there is one engine in a process)
    def variant(self, text: str, backend: str | None = None) -> Variant:
        """The canonical form of a variant."""
        return self.all_parts.canonical(text, backend)

    def in_force(self, variant: Variant) -> Mapping[str, Scalar]:
        """Batch size, diameter, number format and threads, where the variant sets them."""
        return self.all_parts.columns(variant.names)

    def parts(self, variant: Variant) -> Sequence[Part]:
        """Describe each part of a variant."""
        return [self.all_parts.described(name) for name in self.all_parts.split(variant.names)]

    def recipe(self, variant: Variant, model: str) -> Sequence[str]:
        """The lines for a user's own script."""
        return (
            "from cellpose import models", "from cellbench import accelerate", "",
            f"model = models.{self.constructor.format(model)}", f'accelerate(model, "{variant}")',
        )  # fmt: skip

    def start(self) -> None:
        """Import torch and cellpose, which compiles numba kernels; seconds, once per process."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from cellpose import models  # noqa: F401
