"""Cellbench measures how fast Cellpose is on this hardware, and the speed-up from a GPU."""

__all__ = ["__version__"]
__version__: str  # by __getattr__


def __getattr__(name: str) -> str:
    """Find the version when it is requested; importing harness itself costs nothing."""
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cellbench")
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return "0+unknown"
