"""The environment of an engine: in this program's environment, in a folder over it, or under another interpreter.

An overlay is a folder that comes first on the path of the measuring process, so that two engines share one torch, one
numpy and one driver, and a ratio of their times is one of the engines.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.engines import start
from harness.errors import CellbenchError
from harness.machine import folders


@dataclass(frozen=True)
class EngineSpec:
    """The way to start the measuring process of an engine. path: folders that come first on its path."""

    name: str
    python: str
    path: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The environment in words."""
        return " over ".join([*self.path, self.python])

    def environ(self) -> dict[str, str]:
        """The environment variables that set the path."""
        if not self.path:
            return {}
        return {"PYTHONPATH": os.pathsep.join(filter(None, [*self.path, os.environ.get("PYTHONPATH")]))}


def command(python: str, module: str, *arguments: str) -> list[str]:
    """The command that starts main() of a module of this program under an interpreter that may lack this program."""
    return [python, start.__file__, __version__, module, *arguments]


def overlay(name: str) -> Path:
    """The folder of an engine that is installed over this environment."""
    return folders.home() / "engines" / name


def find(name: str, python: str | None = None) -> EngineSpec:
    """The environment of an engine on this machine. python: an interpreter of the user's own, which must exist."""
    if python is not None:
        program = shutil.which(os.path.expanduser(python))
        if program is None:
            raise CellbenchError(f"there is no interpreter {python}", "--engine-python", "give the path of a python")
        return EngineSpec(name, program)
    if overlay(name).is_dir():
        return EngineSpec(name, sys.executable, (str(overlay(name)),))
    return EngineSpec(name, sys.executable)
