"""A workload that sleeps, in the place of cellpose, for tests of everything around it.

With this folder on PYTHONPATH, every Python process finds it before it runs anything: whoever imports the cellpose
adapter gets calls that sleep and whose masks no other call has. Their rows say workload="simulated". CHAOS_FOLDER is
where

    witness         one line as a process starts, one as a call begins and one as it ends: python PID, begin PID,
                    end PID SHA-256-OF-MASKS
    mischief.json   {"at": 4, "what": "exit"}: the call with this number, counted over all processes, goes wrong
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

CALL_S = 0.05
PATIENCE_S = 3.0  # instead of a quarter of an hour


class OutOfDeviceMemoryError(RuntimeError):
    """As torch says it."""


def folder() -> Path:
    return Path(os.environ["CHAOS_FOLDER"])


def witness(*words: object) -> None:
    """Add a line that survives the death of this process."""
    line = os.open(folder() / "witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, (" ".join(map(str, words)) + "\n").encode())
    os.close(line)


def misbehave() -> None:
    """Do what this call was told to do."""
    mischief = folder() / "mischief.json"
    if not mischief.is_file():
        return
    told = json.loads(mischief.read_text())
    if (folder() / "witness").read_text().count("begin") != told["at"]:
        return
    match told["what"]:
        case "raise":
            raise RuntimeError("told to fail")
        case "memory":
            raise MemoryError("told to need too much")
        case "device":
            raise OutOfDeviceMemoryError("told to need too much of the device")
        case "exit":
            os._exit(9)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(3600)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "clock":
            now = time.time
            time.time = lambda: now() - 86_400.0


def workload(module: ModuleType) -> None:
    """Put sleeping calls in the place of cellpose's."""
    import numpy as np

    class Witness:
        seen: tuple[str, ...] = ()

        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Witness:
            return self

        def __exit__(self, *_: object) -> None: ...

    def segment(_model: Any, _pixels: Any, diameter_px: float = 0.0) -> Any:
        witness("begin", os.getpid())
        misbehave()
        time.sleep(CALL_S)
        masks = np.frombuffer(os.urandom(64), np.uint8).astype(np.uint32).reshape(8, 8)
        done = module.Segmentation(masks, diameter_px or 30.0)
        witness("end", os.getpid(), done.sha256)
        return done

    def failure(error: BaseException) -> str:
        known = {MemoryError: "oom_host", OutOfDeviceMemoryError: "oom_device"}
        return known.get(type(error), "crash")

    threads = ("torch_threads", "opencv_threads", "numba_threads")
    module.import_cellpose = lambda: None
    module.devices = lambda: [{"backend": "cpu", "index": 0, "name": "simulated"}]
    module.set_threads = lambda n: dict.fromkeys(threads, n)
    module.load = lambda _device: SimpleNamespace()
    module.segment = segment
    module.synchroniser = lambda _device: ("none", lambda: None)
    module.diam_labels_px = lambda _model: 30.0
    module.gpu_uuid = lambda _device: None
    module.environment = lambda _device: {}
    module.prove_device = lambda _model, device, _outputs_on=(): device
    module.OutputWitness = Witness
    module.failure = failure


def block(module: ModuleType) -> None:
    """Have every row say what it is."""
    real = module.base_columns
    module.base_columns = lambda *args: real(*args) | {"workload": "simulated"}


def plan(module: ModuleType) -> None:
    module.PATIENCE_S, module.PATIENCE = PATIENCE_S, 0.0


CHANGES = {"harness.measure.workload": workload, "harness.measure.block": block, "harness.plan": plan}


class Finder(importlib.abc.MetaPathFinder):
    """Imports the modules above as ever, then changes them."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        real = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            real(module)
            CHANGES[name](module)

        spec.loader.exec_module = exec_module
        return spec


if "CHAOS_FOLDER" in os.environ:
    witness("python", os.getpid())
    sys.meta_path.insert(0, Finder())
