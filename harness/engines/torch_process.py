"""The functions that engines with torch share in the measuring process: devices, threads, facts, errors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from harness.engines.base import Work
from harness.errors import CellbenchError, DeviceFallbackError
from harness.machine import accelerators
from harness.machine.accelerators import Accelerator, Device


class TorchProcess:
    """The parts of an engine that are the same for every engine with torch.

    guess_gflop_s: speed of whole stock calls in GFLOP/s of the network, by torch's name of the device, before anything
    is measured; of the CPU per physical core.
    """

    guess_gflop_s: Mapping[str, float]

    def call_s(self, work: Work, device: Device, threads: int) -> float:
        """Estimate the duration of a call in s, within a factor of three; an unknown GPU is treated as Apple's."""
        kind, rates = accelerators.ACCELERATORS.get(device.backend), self.guess_gflop_s
        rate_gflop_s = rates.get(kind.torch_type if kind else "", rates["mps"])
        return work.gflop / (rate_gflop_s * (threads if device.backend == "cpu" else 1))

    def devices(self) -> list[Device]:
        """Every device that computes a small sum here; CellbenchError where torch and numpy do not fit."""
        check_pair()
        return accelerators.found()

    def accelerator(self, device: str) -> Accelerator:
        """The kind of a device."""
        return accelerators.of(device)

    def set_threads(self, n: int) -> Mapping[str, int]:
        """Give torch, OpenCV and numba n threads each; returns the numbers that they report.

        OMP_NUM_THREADS cannot be trusted: Ray sets it to 1. It is read when torch is imported, so the
        process is started with n as well.
        """
        import cv2
        import torch

        torch.set_num_threads(n)
        cv2.setNumThreads(n)
        if find_spec("numba"):
            import numba

            numba.set_num_threads(min(n, most_numba_threads()))
        return threads()

    def environment(self, device: str) -> dict[str, Any]:
        """The facts of machine.facts that torch, OpenCV and numba report about this process; null where unknown."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.9 warns at each reading that these have new names
            rounding = {
                "torch_cudnn_tf32": torch.backends.cudnn.allow_tf32,
                "torch_matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
                "torch_matmul_precision": torch.get_float32_matmul_precision(),
            }
        return {
            **rounding,
            "torch_version": str(torch.__version__),
            "torch_git_version": torch.version.git_version,
            # The platform that torch was built for in addition to the CPU, which comes last.
            "torch_build": next(name for name, kind in accelerators.ACCELERATORS.items() if kind.build()),
            "torch_cuda_version": torch.version.cuda,
            "torch_mps": torch.backends.mps.is_available(),
            "torch_cudnn_benchmark": torch.backends.cudnn.benchmark,
            "torch_cudnn_deterministic": torch.backends.cudnn.deterministic,
            "torch_deterministic": torch.are_deterministic_algorithms_enabled(),
            "torch_mkldnn": torch.backends.mkldnn.is_available(),
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "torch_blas": blas(torch.__config__.show()),
            "torch_interop_threads": torch.get_num_interop_threads(),
            **threads(),
            **self.accelerator(device).facts(device),
        }

    def status(self, error: BaseException) -> str:
        """The status of a row whose call raised this error."""
        if any(kind.is_out_of_memory(error) for kind in accelerators.ACCELERATORS.values()):
            return "oom_device"
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return "oom_host"
        return "crash"


def check_pair() -> None:
    """Raise CellbenchError where torch was built for another numpy, and so cannot hand arrays over."""
    import numpy
    import torch

    try:
        torch.from_numpy(numpy.zeros(1)).numpy()
    except (RuntimeError, TypeError) as error:
        what = f"torch {torch.__version__} does not work with numpy {numpy.__version__}: {error}"
        fix = "install a pair that fits: pip install 'numpy<2' for torch before 2.3"
        raise CellbenchError(what, torch.__file__, fix) from error


def threads() -> dict[str, int]:
    """The numbers of threads that torch, OpenCV and numba report."""
    import cv2
    import torch

    counts = {"torch_threads": torch.get_num_threads(), "opencv_threads": cv2.getNumThreads()}
    if find_spec("numba"):
        import numba

        counts["numba_threads"] = numba.get_num_threads()
    return counts


def most_numba_threads() -> int:
    """The maximum number of numba's threads in this process: the number that it was started with."""
    from numba.core import config

    return config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]  # set at import


class Placement:
    """The place of a network: the devices of its parameters, and of the outputs of witnessed calls.

    It hooks the module only while the context lasts, so no hook runs inside a timed repetition.
    """

    def __init__(self, net: Any, device: str) -> None:
        self._net, self._device = net, device
        self._seen: set[str] = set()

    def __enter__(self) -> Placement:
        self._hook = self._net.register_forward_hook(lambda _net, _in, out: self._seen.add(str(out[0].device)))
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def proof(self) -> str:
        """The device of the network's parameters; DeviceFallbackError where one is on another device than requested."""
        return prove(next(self._net.parameters()).device, self._device, self._seen)


def prove(used: Any, device: str, outputs_on: Iterable[str] = ()) -> str:
    """The device of a value; DeviceFallbackError where it or an output is on another device than requested."""
    import torch

    wanted = torch.device(accelerators.of(device).torch_name(device))
    for seen in (used, *map(torch.device, outputs_on)):
        if seen.type != wanted.type or (wanted.index or 0) != (seen.index or 0):
            raise DeviceFallbackError(
                f"{device} was requested, but the network ran on {seen}", device, "see why torch cannot use the device"
            )
    return str(used)


def blas(config: str) -> str | None:
    """The linear algebra library in torch's description of its own build, with its version where it is given."""
    name = re.search(r"\bBLAS_INFO=(\w+)", config)
    version = re.search(r"Math Kernel Library Version ([\d.]+)", config)
    return " ".join(found[1] for found in (name, version) if found) or None
