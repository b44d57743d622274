"""This project's C++ code, compiled for this processor once a machine, and threads that share its work."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import files
from harness.errors import CellbenchError
from harness.machine import folders

FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")
FROM_PYPI = "ziglang"  # a wheel with a C++ compiler, for machines without one


class Threads:
    """Threads that call one function of a library until it has no work left."""

    def __init__(self, n_threads: int) -> None:
        self._n_others = n_threads - 1
        self._others = ThreadPoolExecutor(max(1, self._n_others), "native")

    def run(self, function: Any, work: ctypes.Structure, n_counters: int = 1) -> None:
        """All of the work, by all threads, which share counters; MemoryError where none of them returns 0."""
        arguments = (ctypes.byref(work), (ctypes.c_int64 * n_counters)())
        others = [self._others.submit(function, *arguments) for _ in range(self._n_others)]
        if all([function(*arguments), *(other.result() for other in others)]):
            raise MemoryError("there is no memory for the blocks of a compiled function")

    def close(self) -> None:
        """End the threads."""
        self._others.shutdown()


@cache
def compiled(package: str, source_name: str, part: str) -> ctypes.CDLL:
    """A source file of a package, compiled for a part of a variant; CellbenchError where that is impossible."""
    name = Path(source_name).stem
    compiler = _compiler()
    if compiler is None:
        fix = f"install one (pip install {FROM_PYPI}), or leave {part} out"
        raise CellbenchError("there is no C++ compiler", ", ".join(COMPILERS), fix)
    arm = platform.machine() in ("arm64", "aarch64")
    native = "-mcpu=native" if arm else "-march=native"
    source = resources.files(package).joinpath(source_name).read_bytes()
    # The compiler's own name of this processor, and the compiler; a home may be shared by different machines.
    target = _output_of(part, [*compiler, native, "-dM", "-E", "-x", "c++", os.devnull])
    digest = hashlib.sha256(source + target + " ".join(FLAGS).encode()).hexdigest()[:16]
    path = folders.home() / "compiled" / f"{name}-{digest}.so"
    try:
        if not path.is_file():
            with TemporaryDirectory() as folder:
                written, made = Path(folder, source_name), Path(folder, f"{name}.so")
                written.write_bytes(source)
                _output_of(part, [*compiler, native, *FLAGS, "-o", str(made), str(written)])
                files.write(path, made.read_bytes(), make_folder=True, what="compiled code", fix="set CELLBENCH_HOME")
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CellbenchError(f"compiled code cannot be kept: {error}", str(path), "set CELLBENCH_HOME") from error


def _compiler() -> list[str] | None:
    """The command of a C++ compiler: the machine's own, else that of a package in this environment."""
    if found := next(filter(None, map(shutil.which, COMPILERS)), None):
        return [found]
    return [sys.executable, "-m", FROM_PYPI, "c++"] if find_spec(FROM_PYPI) else None


def _output_of(part: str, command: list[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise CellbenchError(f"the C++ compiler failed: {lines[0][:200]}", command[0], f"leave {part} out")
    return done.stdout
