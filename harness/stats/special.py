"""The special functions of scipy, imported when the first is needed: that takes longer than a table of results does."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from scipy import special

    return getattr(special, name)
