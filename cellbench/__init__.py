"""What scripts of one's own use of Cellbench: from cellbench import accelerate."""

from harness.engines.registry import accelerate

__all__ = ["accelerate"]
