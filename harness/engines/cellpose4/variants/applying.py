"""Apply variants to one loaded model, and take them away again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from harness.engines.cellpose.variants import applied
from harness.engines.cellpose.variants.applied import postprocessing
from harness.engines.cellpose4.variants import settings
from harness.engines.cellpose4.variants.settings import Settings
from harness.errors import CellbenchError


def apply(model: Any, variants: str | Iterable[str]) -> Applied:
    """Change how a loaded CellposeModel of Cellpose 4 is executed; undone by remove(), or at the end of a with block.

    variants: names of variants.settings.PARTS, as a list or joined by '+'. CellbenchError where one is unknown, is
    not for the model's device, or where the model carries variants already. Other models are left alone.
    """
    if "eval" in vars(model):
        raise CellbenchError("this model is accelerated already", "model", "call remove() on what apply() returned")
    wanted = settings.ALL.parse(variants, model.net.device.type)
    here = version("cellpose")
    if (wanted.fast_qc or wanted.fast_seeds) and not here.startswith("4.2."):
        what = f"fast-seeds and fast-qc repeat what Cellpose 4.2 does; this is {here}"
        raise CellbenchError(what, "--variant", "leave them, and lossless, out")
    return Applied(model, settings.ALL.split(variants), wanted)


class Applied(applied.Applied):
    """Variants on a CellposeModel."""

    _settings: Settings

    def __init__(self, model: Any, names: tuple[str, ...], wanted: Settings) -> None:
        self._runner: Any = None
        self._tables: dict[Any, tuple[Any, Any]] = {}
        super().__init__(model, names, wanted)

    @property
    def notes(self) -> list[str]:
        """The parts that did not run as requested: no compiler, a failed compilation, no oneDNN."""
        return list(self._runner.notes) if self._runner else []

    def _calls(self) -> list[tuple[Any, Callable[..., Any]]]:
        return [(self._model, self._eval)]

    def _replacements(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        from cellpose import core, dynamics, models, plot, transforms
        from segment_anything.modeling import image_encoder  # pyright: ignore[reportMissingImports]  # in the overlay

        wanted = self._settings
        if wanted.changes_network:
            from harness.engines.cellpose4.variants.network import Runner

            self._runner = Runner(self._model.net, wanted, image_encoder.get_rel_pos)
            self._undo.callback(self._runner.close)
        replacements = (
            (wanted.changes_network, core, "_forward", self._forward),
            (wanted.cached_positions, image_encoder, "get_rel_pos", self._get_rel_pos),
            (wanted.tile_overlap is not None, models, "run_net", self._run_net),
            (wanted.fast_seeds, dynamics, "get_masks_torch", postprocessing("get_masks")),
            (wanted.fast_qc, dynamics, "remove_bad_flow_masks", _remove_bad_flow_masks),
            (wanted.fast_stitch, transforms, "average_tiles", postprocessing("average_tiles")),
            (wanted.no_flow_image, plot, "dx_to_circ", lambda *_: None),
        )
        return [(module, name, replacement) for on, module, name, replacement in replacements if on]

    def _eval(self, original: Callable[..., Any], model: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        self._batch_size = self._settings.batch_size or kwargs.get("batch_size", settings.STOCK_BATCH_SIZE)
        return self._settings.call(original, model, x, *args, **kwargs)

    def _forward(self, original: Callable[..., Any], net: Any, x: Any) -> Any:
        return self._runner(x, self._batch_size) if net is self._model.net else original(net, x)

    def _run_net(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # From 4.2 on eval() does not hand its own argument on.
        return original(*args, **{**kwargs, "tile_overlap": self._settings.tile_overlap})

    def _get_rel_pos(self, original: Callable[..., Any], q_size: int, k_size: int, rel_pos: Any) -> Any:
        key = (id(rel_pos), q_size, k_size, rel_pos.dtype, rel_pos.device, rel_pos._version)
        if key not in self._tables:
            self._tables[key] = rel_pos, original(q_size, k_size, rel_pos)  # kept, or its id could be another's
        return self._tables[key][1]


def _remove_bad_flow_masks(*args: Any, **kwargs: Any) -> Any:
    # Imported at the first call: numba takes a second.
    from harness.engines.cellpose4.variants import quality

    return quality.remove_bad_flow_masks(*args, **kwargs)
