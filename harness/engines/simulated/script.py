"""The script of the simulated engine: a JSON file, read by every process that plays it.

CELLBENCH_SIMULATED names a folder with

    script.json     the fields of Script that differ from its defaults
    witness         written here: a line as a process starts and as a call begins and ends:
                    python PID, begin PID, end PID SHA-256-OF-MASKS, or fell in the place of end for a variant that
                    did not run as requested
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = "CELLBENCH_SIMULATED"


class SimulatedMemoryError(RuntimeError):
    """The device's memory is full, by the script."""


@dataclass(frozen=True)
class Script:
    """The settings of simulated calls, devices and failures.

    call_s: duration of a call; s_per_megapixel: added for each million pixels; speed: how many times as fast each
    backend is; devices: backends and how many of each. n_cells: cells in every mask; same_masks: whether equal pixels
    give equal masks. used: the device that the model is really on, if not the requested one. accident: the failure
    in the call of this number, counted over all processes, or in every call on pixels of this height.
    """

    call_s: float = 0.01
    s_per_megapixel: float = 0.0
    speed: dict[str, float] | None = None
    devices: dict[str, int] | None = None
    n_cells: int = 3
    same_masks: bool = True
    used: str | None = None
    patience_s: float = 900.0
    accident: str | None = None
    at_call: int | None = None
    at_height_px: int | None = None


def read() -> Script:
    """The script of this process; its defaults where none is given."""
    file = folder() and Path(str(folder()), "script.json")
    return Script(**json.loads(file.read_text())) if file and file.is_file() else Script()


def folder() -> str | None:
    """The folder of script and witness, if there is one."""
    return os.environ.get(FOLDER)


def witness(*words: object) -> None:
    """Add a line that survives the death of this process."""
    if (place := folder()) is None:
        return
    line = os.open(Path(place) / "witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, (" ".join(map(str, words)) + "\n").encode())
    os.close(line)


def happen(script: Script, height_px: int) -> None:
    """The accident, if this call is the one for it."""
    if script.accident is None or not _is_now(script, height_px):
        return
    match script.accident:
        case "raise":
            raise RuntimeError("the script requests an error")
        case "memory":
            raise MemoryError("the script requests too little memory")
        case "device":
            raise SimulatedMemoryError("the script requests too little memory on the device")
        case "exit":
            os._exit(9)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(3600)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "clock":
            now = time.time
            time.time = lambda: now() - 86_400.0
        case _:
            raise ValueError(f"there is no accident {script.accident!r}")


def _is_now(script: Script, height_px: int) -> bool:
    if script.at_height_px is not None:
        return height_px == script.at_height_px
    return (Path(str(folder())) / "witness").read_text().count("begin") == script.at_call
