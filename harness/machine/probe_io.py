"""The sources of facts about a machine: files below a root, commands, variables. Recordings can replace them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath


def run(command: Sequence[str], timeout_s: float = 10.0) -> str | None:
    """The output of a command; None where it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout_s, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class Sources:
    """One machine, real or recorded; missing facts are None."""

    root: Path = Path("/")
    system: str = sys.platform
    run: Callable[[Sequence[str]], str | None] = run
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def text(self, path: str | PurePath) -> str | None:
        """A file below the root (no leading slash), or one from paths(); None if empty or not readable."""
        try:
            return (self.root / path).read_text(errors="replace").strip("\0\n\t ") or None
        except OSError:
            return None

    def number(self, path: str | PurePath) -> int | None:
        """The whole number in a file; None where there is none."""
        text = self.text(path)
        return int(text) if text and text.lstrip("-").isdigit() else None

    def paths(self, pattern: str) -> list[Path]:
        """The matching paths below the root, sorted."""
        return sorted(self.root.glob(pattern))

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return (self.root / path).exists()
