"""Facts about this machine that need neither torch nor cellpose."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from harness import __version__


def facts() -> dict[str, Any]:
    """The hardware and software columns of a sample; null where unknown."""
    return {
        "node": socket.gethostname(),
        "cpu_model": cpu_model(),
        "n_cores": n_cores(),
        "ram_bytes": psutil.virtual_memory().total,
        "os": _os_name(),
        "arch": platform.machine(),
        "harness_version": __version__,
        "python_version": platform.python_version(),
        "torch_version": _version("torch"),
        "cellpose_version": _version("cellpose"),
        "numpy_version": _version("numpy"),
        "numba_version": _version("numba"),
        "opencv_version": _version("opencv-python-headless") or _version("opencv-python"),
        "openmp_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def n_cores() -> int:
    """Physical cores that this process may use; hyper-threads rarely help the network and often hurt."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))


def cpu_model() -> str | None:
    """The processor's own name, with its number of cores where the name is shared by a whole family."""
    if sys.platform == "darwin":
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, kernel {platform.release()}"
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
