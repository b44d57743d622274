"""Cellbench: how fast is Cellpose on this hardware, and what does a GPU buy?"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cellbench")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "accelerate"]


def __getattr__(name: str) -> object:
    """accelerate() is found when it is asked for; importing harness itself costs nothing."""
    if name == "accelerate":
        return import_module("harness.variants").accelerate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
