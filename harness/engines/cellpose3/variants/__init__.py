"""Ways to execute stock cellpose faster: named, composable, each taken away without a trace."""

from harness.engines.cellpose3.variants.applying import Applied, accelerate, apply
from harness.engines.cellpose3.variants.settings import (
    GROUPS,
    LOSSLESS,
    VARIANTS,
    Settings,
    Variant,
    agree,
    settings,
    split,
)

__all__ = [
    "GROUPS", "LOSSLESS", "VARIANTS", "Applied", "Settings", "Variant", "accelerate", "agree", "apply", "settings",
    "split",
]  # fmt: skip
