"""Replace functions of cellpose's modules for one model's calls only, and restore them.

A replaced attribute tests, at each call, whether the call belongs to an accelerated model; every other model of the
process gets the original. The stage pass wraps the present attribute, so its hooks continue to work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

Replacement = Callable[..., Any]  # called with the original first

_within: ContextVar[object | None] = ContextVar("accelerated model", default=None)
_replaced: dict[tuple[int, str], dict[object, Replacement]] = {}


@contextmanager
def within(owner: object) -> Iterator[None]:
    """Calls made in here are the accelerated model's own."""
    token = _within.set(owner)
    try:
        yield
    finally:
        _within.reset(token)


def replace(owner: object, module: Any, name: str, replacement: Replacement) -> Callable[[], None]:
    """Put a replacement in place for the owner's calls; returns the function that removes it."""
    key = (id(module), name)
    if key not in _replaced:
        _replaced[key] = {}
        setattr(module, name, _asking(getattr(module, name), _replaced[key]))
    _replaced[key][owner] = replacement

    def undo() -> None:
        _replaced[key].pop(owner, None)
        if not _replaced[key]:
            del _replaced[key]
            setattr(module, name, getattr(module, name).__wrapped__)

    return undo


def _asking(original: Callable[..., Any], replacements: dict[object, Replacement]) -> Callable[..., Any]:
    @wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        replacement = replacements.get(_within.get())
        return replacement(original, *args, **kwargs) if replacement else original(*args, **kwargs)

    return called
