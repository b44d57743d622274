"""Cellpose's own command line and GUI, with accelerate()'s default on the models that they load.

The command `cellbench cellpose` starts main() in a fresh process: python start.py VERSION MODULE [ARGUMENT…].
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import Any

from harness.engines import registry
from harness.errors import CellbenchError

TRAINING = {"--train", "--train_size"}


def main(*arguments: str) -> None:
    """Run python -m cellpose with these arguments; its exit code is that of this process."""
    if find_spec("cellpose") is None:
        fix = "pip install cellpose, or install it next to this environment: cellbench engines install cellpose4"
        _show(CellbenchError("cellpose is not installed in this environment", sys.executable, fix))
        sys.exit(2)
    from cellpose import models

    if TRAINING & set(arguments):
        _show("cellbench: stock Cellpose runs: this is training")
    else:
        accelerated = _Accelerated()
        for kind in (getattr(models, name) for name in ("Cellpose", "CellposeModel") if hasattr(models, name)):
            kind.__init__ = accelerated.constructor(kind.__init__)
    sys.argv = ["cellpose", *arguments]
    runpy.run_module("cellpose", run_name="__main__", alter_sys=True)


class _Accelerated:
    """The model that was loaded last, with the variant on it.

    Only one has it at a time: the GUI of Cellpose loads a new model for each image, and a variant keeps its model.
    """

    def __init__(self) -> None:
        self._depth, self._applied = 0, None

    def constructor(self, original: Callable[..., None]) -> Callable[..., None]:
        """The constructor of a class of models that then applies the variant."""

        @wraps(original)
        def construct(model: Any, *args: Any, **kwargs: Any) -> None:
            self._depth += 1  # a Cellpose constructs a CellposeModel of its own
            try:
                original(model, *args, **kwargs)
            finally:
                self._depth -= 1
            if not self._depth:
                self._apply(model)

        return construct

    def _apply(self, model: Any) -> None:
        if self._applied is not None:
            self._applied.remove()
            self._applied = None
        try:
            self._applied = registry.apply(model)
        except CellbenchError as error:
            _show(f"cellbench: stock Cellpose runs: {error.what}")
        else:
            _show(
                f"cellbench: {registry.DEFAULT_VARIANT} applied ({'+'.join(self._applied.names)}); masks stay the same"
            )


def _show(message: object) -> None:
    print(message, file=sys.stderr, flush=True)
