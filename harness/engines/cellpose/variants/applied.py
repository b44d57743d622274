"""A variant on one loaded model, and its removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any, Self

from harness.engines.cellpose.variants import hooks
from harness.engines.torch_process import most_numba_threads

Call = Callable[..., Any]


def postprocessing(name: str) -> Call:
    """A function of the module of that name, which is imported at its first call: numba takes a second."""

    def called(*args: Any, **kwargs: Any) -> Any:
        from harness.engines.cellpose.variants import postprocessing

        return getattr(postprocessing, name)(*args, **kwargs)

    return called


class Applied:
    """Parts of a variant on a model. names: their names. notes: the parts that did not run as requested."""

    def __init__(self, model: Any, names: tuple[str, ...], settings: Any) -> None:
        self.names, self._model, self._settings = names, model, settings
        self._undo = ExitStack()
        try:
            if names:
                self._install()
        except BaseException:
            self.remove()
            raise

    @property
    def notes(self) -> Sequence[str]:
        """The parts that did not run as requested, at all or in the last call."""
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Make the model, and cellpose, stock again."""
        self._undo.close()

    def _calls(self) -> Iterable[tuple[Any, Call]]:
        """Objects whose eval() is replaced, and the replacement: original, object, arguments."""
        raise NotImplementedError

    def _replacements(self) -> Iterable[tuple[Any, str, Call]]:
        """The functions of modules that are replaced while a call of this model runs."""
        raise NotImplementedError

    def _install(self) -> None:
        self._threads()
        for owner, call in self._calls():
            owner.eval = self._own(owner, call)
            self._undo.callback(vars(owner).pop, "eval", None)
        for module, name, replacement in self._replacements():
            self._undo.callback(hooks.replace(self, module, name, replacement))

    def _own(self, owner: Any, call: Call) -> Call:
        def called(*args: Any, **kwargs: Any) -> Any:
            with hooks.within(self):
                # By the class, so that hooks on the class (the stage pass) see the call.
                return call(type(owner).eval, owner, *args, **kwargs)

        return called

    def _threads(self) -> None:
        """The requested threads, or torch's for the compiled kernels.

        numba and torch share an OpenMP runtime, where the last one to set a number sets it for both.
        """
        import cv2
        import torch

        torch_before = torch.get_num_threads()  # first: asking numba starts its threads, which sets torch's
        self._undo.callback(torch.set_num_threads, torch_before)
        n = self._settings.threads or torch_before
        others: list[tuple[Callable[[int], Any], int, int]] = [
            (cv2.setNumThreads, cv2.getNumThreads(), self._settings.threads or cv2.getNumThreads())
        ]
        if find_spec("numba"):
            import numba

            others.append((numba.set_num_threads, numba.get_num_threads(), min(n, most_numba_threads())))
        for set_n, before, wanted in others:
            self._undo.callback(partial(set_n, before))
            set_n(wanted)
        torch.set_num_threads(n)
