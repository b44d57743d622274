"""The cellpose adapter: find devices, load stock cyto3, segment once, prove what ran where.

The only importer of torch and cellpose, and it imports them inside functions: a worker times the
import as a phase of its own, and the driver's process never pays for it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DeviceFallbackError
from harness.machine import probe

if TYPE_CHECKING:
    from cellpose import models

BATCH_SIZE = 8  # eval()'s own default; passed on so that the stored figure is the used one
DIAMETER_PX = 0.0  # 0 asks eval() to estimate it


@dataclass(frozen=True)
class Segmentation:
    """What eval() found, enough to tell two results apart: cells, diameter and the labels themselves."""

    masks: np.ndarray
    diameter_px: float

    @property
    def n_cells(self) -> int:
        return int(self.masks.max(initial=0))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.masks, "<u4").tobytes()).hexdigest()


def import_cellpose() -> None:
    """Import torch and cellpose, which compiles numba kernels; seconds, once per process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cellpose import models  # noqa: F401


def devices() -> list[dict[str, Any]]:
    """Every device that computes a small sum right here; is_available() alone is not believed.

    Returns dicts of backend, index and name, the fastest kind first.
    """
    import torch

    candidates = [("cuda", i, torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        candidates.append(("mps", 0, f"{probe.cpu_model()} GPU"))
    candidates.append(("cpu", 0, probe.cpu_model() or "CPU"))
    return [{"backend": b, "index": i, "name": name} for b, i, name in candidates if _computes(f"{b}:{i}")]


def set_threads(n: int) -> dict[str, int]:
    """Give torch, OpenCV and numba n threads each, and return what they say they have.

    OMP_NUM_THREADS cannot be trusted: Ray sets it to 1. It is read when torch is imported, so the
    worker's process is started with n as well.
    """
    import cv2
    import numba
    import torch

    torch.set_num_threads(n)
    cv2.setNumThreads(n)
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    return {
        "torch_threads": torch.get_num_threads(),
        "opencv_threads": cv2.getNumThreads(),
        "numba_threads": numba.get_num_threads(),
    }


def load(device: str) -> models.Cellpose:
    """Construct the stock model as a user would, on exactly this device; cellpose falls back silently, we do not."""
    import torch
    from cellpose import models

    wanted = torch.device(device)
    model = models.Cellpose(gpu=wanted.type != "cpu", model_type="cyto3", device=wanted)
    prove_device(model, device)
    return model


def segment(model: models.Cellpose, pixels: np.ndarray, diameter_px: float = DIAMETER_PX) -> Segmentation:
    """One stock eval(), which estimates the diameter if none is given; pixels (height, width)."""
    masks, _, _, used_px = model.eval(pixels, diameter=diameter_px, channels=[0, 0], batch_size=BATCH_SIZE)
    return Segmentation(masks, float(used_px))


def synchroniser(device: str) -> tuple[str, Callable[[], None]]:
    """How to wait for a device's queue: a name to store and the function."""
    import torch

    if device.startswith("cuda"):
        return "torch.cuda.synchronize", lambda: torch.cuda.synchronize(torch.device(device))
    if device.startswith("mps"):
        return "torch.mps.synchronize", torch.mps.synchronize
    return "none", lambda: None


def diam_labels_px(model: models.Cellpose) -> float:
    """Mean training diameter stored in the weights; it sets the scale of the first pass."""
    return float(model.cp.diam_labels)


def gpu_uuid(device: str) -> str | None:
    """The UUID by which NVIDIA's driver knows a CUDA device, without its prefix; None for other devices."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid) if device.startswith("cuda") else None


def environment(device: str) -> dict[str, Any]:
    """The facts of harness.machine.facts that torch, OpenCV and numba tell about this process; null where unknown."""
    import cv2
    import numba
    import torch

    gpu = torch.cuda.get_device_properties(device) if device.startswith("cuda") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.9 says with each reading that these have new names
        rounding = {
            "torch_cudnn_tf32": torch.backends.cudnn.allow_tf32,
            "torch_matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
            "torch_matmul_precision": torch.get_float32_matmul_precision(),
        }
    return {
        **rounding,
        "gpu_uuid": gpu_uuid(device),
        "gpu_compute_capability": f"{gpu.major}.{gpu.minor}" if gpu else None,
        "gpu_multiprocessors": gpu.multi_processor_count if gpu else None,
        "gpu_memory_free_bytes": torch.cuda.mem_get_info(device)[0] if gpu else None,
        "torch_version": str(torch.__version__),
        "torch_git_version": torch.version.git_version,
        "torch_build": _build(),
        "torch_cuda_version": torch.version.cuda,
        "torch_cudnn_version": torch.backends.cudnn.version() if gpu else None,
        "torch_mps": torch.backends.mps.is_available(),
        "torch_cudnn_benchmark": torch.backends.cudnn.benchmark,
        "torch_cudnn_deterministic": torch.backends.cudnn.deterministic,
        "torch_deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch_mkldnn": torch.backends.mkldnn.is_available(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_blas": _blas(torch.__config__.show()),
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        "opencv_threads": cv2.getNumThreads(),
        "numba_threads": numba.get_num_threads(),
    }


def prove_device(model: models.Cellpose, device: str, outputs_on: Iterable[str] = ()) -> str:
    """The device that the network's parameters (and the outputs that were witnessed) are on.

    DeviceFallbackError where one of them is not the device that was asked for.
    """
    import torch

    wanted = torch.device(device)
    used = next(model.cp.net.parameters()).device
    for seen in (used, *map(torch.device, outputs_on)):
        if seen.type != wanted.type or (wanted.index or 0) != (seen.index or 0):
            raise DeviceFallbackError(
                f"asked for {device}, but the network ran on {seen}", device, "see why torch cannot use the device"
            )
    return str(used)


class OutputWitness:
    """Context manager that notes on which devices the network's outputs were.

    It hooks the module for the cold call only, so nothing of ours runs inside a timed repetition.
    """

    def __init__(self, model: models.Cellpose) -> None:
        self._net = model.cp.net
        self.seen: set[str] = set()

    def __enter__(self) -> OutputWitness:
        self._hook = self._net.register_forward_hook(lambda _net, _in, out: self.seen.add(str(out[0].device)))
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def failure(error: BaseException) -> str:
    """The status of a sample whose repetition raised this."""
    import torch

    if isinstance(error, DeviceFallbackError):
        return "device_fallback"
    if isinstance(error, torch.cuda.OutOfMemoryError) or "MPS backend out of memory" in str(error):
        return "oom_device"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "oom_host"
    return "crash"


def _build() -> str:
    """What torch was built for besides the CPU."""
    import torch

    built = {"cuda": torch.version.cuda, "rocm": torch.version.hip, "mps": torch.backends.mps.is_built()}
    return next((name for name, there in built.items() if there), "cpu")


def _blas(config: str) -> str | None:
    """The linear algebra library in torch's description of its own build, with its version where that is told."""
    name = re.search(r"\bBLAS_INFO=(\w+)", config)
    version = re.search(r"Math Kernel Library Version ([\d.]+)", config)
    return " ".join(found[1] for found in (name, version) if found) or None


def _computes(device: str) -> bool:
    """Whether a device multiplies two small matrices correctly."""
    import torch

    try:
        ones = torch.ones(64, 64, device=device)
        return float((ones @ ones).sum().cpu()) == 64.0**3
    except (RuntimeError, AssertionError) as error:
        warnings.warn(f"{device} does not compute: {error}", stacklevel=2)
        return False
