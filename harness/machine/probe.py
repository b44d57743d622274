"""Facts about this machine that need neither torch nor cellpose."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__
from harness.machine import linux, machine_id, macos, virtualization
from harness.machine.probe_io import Sources

PACKAGE = Path(__file__).resolve().parents[1]

LIBRARIES = ("cellpose", "numpy", "numba", "llvmlite", "scipy", "ray")

# Variables that change how fast the work is done. Paths are left out: they identify the user.
THREAD_SETTINGS = (
    "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "VECLIB_", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_CPU_",
)  # fmt: skip
TORCH_SETTINGS = (
    "PYTORCH_", "TORCH_ALLOW_TF32", "TORCH_CUDNN", "CUBLAS_", "NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING", "DNNL_", "ONEDNN_",
)  # fmt: skip


def facts() -> dict[str, Any]:
    """The hardware and software columns of a sample; null where unknown."""
    import psutil  # accelerate() does not need it

    return {
        "node": socket.gethostname(),
        "cpu_model": cpu_model(),
        "n_cores": n_cores(),
        **machine_id.columns(),
        "ram_bytes": psutil.virtual_memory().total,
        "os": _os_name(),
        "arch": platform.machine(),
        "harness_version": __version__,
        "python_version": platform.python_version(),
        "torch_version": distribution_version("torch"),
        "cellpose_version": distribution_version("cellpose"),
        "numpy_version": distribution_version("numpy"),
        "numba_version": distribution_version("numba"),
        "opencv_version": opencv_version(),
        "openmp_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def environment(sources: Sources | None = None) -> dict[str, Any]:
    """The facts of harness.machine.facts that need neither torch nor NVIDIA's driver; null where unknown.

    Libraries in the process and live readings are those of this process at this moment.
    """
    import psutil  # accelerate() does not need it

    sources = sources or Sources()
    here = macos if sources.system == "darwin" else linux
    booted_at = datetime.fromtimestamp(psutil.boot_time(), UTC)
    return {
        **here.facts(sources),
        "arch": platform.machine(),
        "clock_resolution_ns": round(time.get_clock_info("perf_counter").resolution * 1e9, 3),
        "python_version": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        **{f"{name}_version": distribution_version(name) for name in LIBRARIES},
        "opencv_version": opencv_version(),
        "openmp_runtimes": openmp_runtimes(here.loaded_libraries(sources)),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "thread_settings": _settings(sources, THREAD_SETTINGS),
        "torch_settings": _settings(sources, TORCH_SETTINGS),
        "harness_version": __version__,
        "harness_commit": harness_commit(sources),
        "load_1min": os.getloadavg()[0],
        "memory_available_bytes": psutil.virtual_memory().available,
        "temp_free_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
        "uptime_s": round(time.time() - booted_at.timestamp(), 1),
        "booted_at": booted_at.isoformat(timespec="seconds"),
    }


def n_cores(sources: Sources | None = None) -> int:
    """The number of threads of torch on this machine: one for each core that this process may use.

    As by torch's own default, these are the performance cores of an Apple chip, and the physical cores of every kind
    elsewhere. The quota of a control group, which torch ignores, is a bound too: more threads would only be stopped
    more often.
    """
    import psutil  # accelerate() does not need it

    sources = sources or Sources()
    cores = (macos if sources.system == "darwin" else linux).usable_cores(sources) or psutil.cpu_count() or 1
    quota = virtualization.cpu_limit(sources)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def n_hardware_threads() -> int:
    """The number of threads that the processors of this process run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str | None:
    """The processor's own name."""
    sources = Sources()
    model = (macos if sources.system == "darwin" else linux).cpu_model(sources)
    return model or platform.processor() or None


def harness_commit(sources: Sources, package: Path = PACKAGE) -> str | None:
    """The commit of this code's checkout, with -dirty if the code was edited; None where it is unknown.

    Only the folder around the package counts: a virtual environment may be inside another checkout. A bundle from
    scripts/bundle carries its commit in a file.
    """
    checkout = package.parent
    if not (checkout / ".git").exists():
        packed = package / "data" / "commit"
        return packed.read_text().strip() if packed.is_file() else None
    git = ["git", "--no-optional-locks", "-C", str(checkout)]
    head = sources.run([*git, "rev-parse", "HEAD"])
    edited = sources.run([*git, "status", "--porcelain", "--", package.name])
    return f"{head}-dirty" if head and edited else head or None


def openmp_runtimes(libraries: Iterable[str]) -> str | None:
    """The OpenMP libraries among these files; each has threads of its own."""
    names = {Path(path).name for path in libraries}
    return " ".join(sorted(name for name in names if re.match(r"lib(gomp|omp|iomp5)\b", name))) or None


def _settings(sources: Sources, beginnings: tuple[str, ...]) -> str:
    chosen = sorted(f"{name}={value}" for name, value in sources.environ.items() if name.startswith(beginnings))
    return " ".join(chosen) or "none"


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, kernel {platform.release()}"
    except OSError:
        return f"{platform.system()} {platform.release()}"


def opencv_version() -> str | None:
    """The version of the installed OpenCV package."""
    return distribution_version("opencv-python-headless") or distribution_version("opencv-python")


def distribution_version(distribution: str) -> str | None:
    """The installed version of a package, without importing it; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
