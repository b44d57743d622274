"""Apply variants to one loaded model, and take them away again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from harness.engines.cellpose.variants import applied
from harness.engines.cellpose.variants.applied import postprocessing
from harness.engines.cellpose3.variants import settings
from harness.engines.cellpose3.variants.settings import Settings
from harness.errors import CellbenchError

HOLES = "fill_holes_and_remove_small_masks"
# torch's devices with pinned memory and streams. On MPS a copy that is not waited for can be wrong (pytorch 189690).
QUEUED = ("cuda", "xpu")


def apply(model: Any, variants: str | Iterable[str]) -> Applied:
    """Change how a loaded stock models.Cellpose is executed; undone by remove(), or at the end of a with block.

    variants: names of variants.settings.PARTS, as a list or joined by '+'. CellbenchError where one is unknown, is
    not for the model's device, or where the model carries variants already. Other models are left alone.
    """
    if "eval" in vars(model):
        raise CellbenchError("this model is accelerated already", "model", "call remove() on what apply() returned")
    wanted = settings.ALL.parse(variants, model.cp.device.type)
    if wanted.dtype == "bfloat16" and (why := _no_bf16(model.cp.device)):
        raise CellbenchError(f"bf16 cannot be used: {why}", "--variant", "leave bf16 out")
    return Applied(model, settings.ALL.split(variants), wanted)


class Applied(applied.Applied):
    """Variants on a models.Cellpose."""

    _settings: Settings

    def __init__(self, model: Any, names: tuple[str, ...], wanted: Settings) -> None:
        self._in_sizing = self._in_style = False
        self._is_queued = wanted.fast_images and model.cp.device.type in QUEUED
        self._images: dict[Any, Any] = {}
        self._runner: Any = None
        self._too_small: list[str] = []
        super().__init__(model, names, wanted)

    @property
    def notes(self) -> list[str]:
        """The parts that did not run as requested, at all or in the last call: by compilation or size."""
        return [*self._runner.notes, *self._too_small] if self._runner else []

    def _install(self) -> None:
        if self._settings.tf32 is not None:
            import torch

            # A setting of the process, like the number of threads.
            backends: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
            for backend in backends:
                self._undo.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = self._settings.tf32
        super()._install()

    def _calls(self) -> list[tuple[Any, Callable[..., Any]]]:
        model = self._model
        return [(model, self._eval), (model.sz, self._sizing), (model.cp, self._pass)]

    def _replacements(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        from cellpose import core, dynamics, models, plot, transforms, utils

        wanted, found = self._settings, []
        if wanted.changes_network or self._is_queued:
            from harness.engines.cellpose3.variants.network import Runner

            self._runner = Runner(self._model.cp.net, self._model.cp.pretrained_model, wanted)
            self._undo.callback(self._runner.close)
            found.append((core, "_forward", self._forward))
        replacements = (
            (wanted.fast_flows, dynamics, "compute_masks", postprocessing("compute_masks")),
            (wanted.fast_seeds, dynamics, "get_masks_torch", postprocessing("get_masks")),
            (wanted.fast_seeds, utils, HOLES, postprocessing(HOLES)),
            (wanted.fast_qc, dynamics, "remove_bad_flow_masks", postprocessing("remove_bad_flow_masks")),
            (wanted.fast_images, models, "run_net", self._run_net),
            (wanted.fast_images, transforms, "normalize99", postprocessing("normalize99")),
            (wanted.fast_images, transforms, "resize_image", postprocessing("resize_image")),
            (wanted.fast_stitch or wanted.style_only, transforms, "average_tiles", self._average_tiles),
            (wanted.skip_unseen or wanted.no_flow_image or wanted.fast_images, plot, "dx_to_circ", self._dx_to_circ),
            (wanted.reuse_image, transforms, "convert_image", self._convert),
            (wanted.reuse_image, transforms, "normalize_img", self._normalize),
        )
        return [*found, *((module, name, replacement) for on, module, name, replacement in replacements if on)]

    # ------------------------------------------------------------ the three eval()s

    def _eval(self, original: Callable[..., Any], model: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if self._settings.tile_overlap is not None:
            kwargs["tile_overlap"] = self._settings.tile_overlap
        n_before = self._runner.n_compiled if self._runner else 0
        try:
            return self._settings.call(original, model, x, *args, **kwargs)
        finally:
            self._images.clear()
            self._too_small.clear()
            if self._settings.compiled and not self._runner.notes and self._runner.n_compiled == n_before:
                self._too_small.append("no tile has the size that is compiled, so the network ran uncompiled")

    def _sizing(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._in_sizing = True
        try:
            return original(*args, **kwargs)
        finally:
            self._in_sizing = False

    def _pass(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._in_style = self._in_sizing and kwargs.get("compute_masks") is False and self._settings.style_only
        self._batch_size = kwargs.get("batch_size", 8)
        try:
            return original(*args, **kwargs)
        finally:
            self._in_style = False

    # ------------------------------------------------------------ what replaces cellpose's functions

    def _forward(self, original: Callable[..., Any], net: Any, x: Any) -> Any:
        if net is not self._model.cp.net or not (self._settings.is_dense or self._in_style or self._is_queued):
            return original(net, x)
        return self._runner(x, self._batch_size, self._in_style)

    def _run_net(self, *args: Any, **kwargs: Any) -> Any:
        return postprocessing("run_net")(*args, **kwargs, is_style_only=self._in_style, is_queued=self._is_queued)

    def _average_tiles(self, original: Callable[..., Any], y: Any, ysub: Any, xsub: Any, Ly: int, Lx: int) -> Any:  # noqa: N803
        if self._in_style:
            import numpy as np

            return np.zeros((y.shape[1], Ly, Lx), np.float32)
        if not self._settings.fast_stitch:
            return original(y, ysub, xsub, Ly, Lx)
        return postprocessing("average_tiles")(original, y, ysub, xsub, Ly, Lx)

    def _dx_to_circ(self, original: Callable[..., Any], dP: Any) -> Any:  # noqa: N803
        if self._settings.no_flow_image or (self._in_sizing and self._settings.skip_unseen):
            return None
        return postprocessing("dx_to_circ")(original, dP) if self._settings.fast_images else original(dP)

    def _convert(self, original: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        key = ("converted", id(x), str(args), str(kwargs))
        if key not in self._images:
            self._images[key] = x, original(x, *args, **kwargs)  # x is kept, or its id could be another's
        return self._images[key][1]

    def _normalize(self, original: Callable[..., Any], img: Any, **kwargs: Any) -> Any:
        # It writes into its argument, which the second pass gets again: by then it is the normalised image.
        # eval() puts an axis in front, so the same image is known by its memory.
        key = ("normalised", img.__array_interface__["data"][0], img.shape, str(kwargs))
        if key not in self._images:
            self._images[key] = original(img, **kwargs)
        return self._images[key]


def _no_bf16(device: Any) -> str | None:
    """The reason why bfloat16 would be slower here than fp32, if it would."""
    import torch

    if device.type == "cuda":
        return None if torch.cuda.is_bf16_supported(including_emulation=False) else "this GPU has no bf16 arithmetic"
    capability = torch.backends.cpu.get_cpu_capability(), _cpu_flags()
    has = {"avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert"} & capability[1]
    return None if has else f"this processor has no bf16 arithmetic ({capability[0]})"


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return {word for line in file if line.lower().startswith(("flags", "features")) for word in line.split()}
    except OSError:
        return set()
