"""The special functions of scipy, imported at first use: the import takes longer than a table of results."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from scipy import special

    return getattr(special, name)
