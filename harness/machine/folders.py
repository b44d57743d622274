"""Where this program keeps what is its own on a machine."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """~/.cellbench, or what CELLBENCH_HOME names; made by whoever writes to it."""
    return Path(os.environ.get("CELLBENCH_HOME") or Path.home() / ".cellbench").expanduser().absolute()
