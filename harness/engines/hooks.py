"""Replace attributes of an engine's modules while a context lasts, to time their calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any

Context = Callable[..., AbstractContextManager[None]]


@contextmanager
def patch(hooks: Sequence[tuple[Any, str, Context]]) -> Iterator[None]:
    """Put each call of an owner's attribute into a context; afterwards everything is as before, also after an error."""
    originals: list[tuple[Any, str, Any]] = []
    try:
        for owner, name, context in hooks:
            original = getattr(owner, name)
            originals.append((owner, name, original))
            setattr(owner, name, _inside(context, original))
        yield
    finally:
        for owner, name, original in reversed(originals):
            setattr(owner, name, original)


def _inside(context: Context, original: Any) -> Any:
    """The original, called with the same arguments inside the context made from them."""

    @wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        with context(*args, **kwargs):
            return original(*args, **kwargs)

    return called
