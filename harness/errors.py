"""The errors of a user, always with the problem, its place and its fix.

CellbenchError            exit 2: usage, configuration, input, output
├── NoResultsError             a results folder without results
├── DeviceFallbackError        a sample's status: ran on another device than requested
├── VariantFallbackError       a sample's status: the variant did not run as requested
├── CasesFailedError           exit 3: some cases failed, the rest is saved
├── ChecksFailedError          exit 3: this machine cannot measure, or not yet
├── MasksDisagreeError         exit 5: masks agree less than the gate requires
├── StorageError               a file cannot be written or locked: no space, no permission, no folder
├── BusyError                  another command holds what this one needs
├── DamagedFileError           a results file that cannot be read
└── FleetUnreachableError      exit 4: Ray is not reachable

StoreWarning              a fact about the results that their reader needs; the command continues
"""

from __future__ import annotations

import shlex
import warnings
from functools import cache


class CellbenchError(Exception):
    """A problem that a user can cause and fix; shown without a traceback."""

    exit_code = 2

    def __init__(self, what: str, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class NoResultsError(CellbenchError):
    """A results folder without results."""


class DeviceFallbackError(CellbenchError):
    """The work ran on another device than the requested one; its time must not count."""


class VariantFallbackError(CellbenchError):
    """Something else ran than the requested variant; its time must not count."""


class CasesFailedError(CellbenchError):
    """Some cases failed; every other row is saved."""

    exit_code = 3


class ChecksFailedError(CellbenchError):
    """Checks of this machine failed; their findings are printed."""

    exit_code = 3


class MasksDisagreeError(CellbenchError):
    """A variant's masks agree less with stock's than required."""

    exit_code = 5


class StorageError(CellbenchError):
    """A file cannot be written or locked; files that were written before are whole."""


class BusyError(CellbenchError):
    """Another command holds what this one needs."""


class DamagedFileError(CellbenchError):
    """A results file that cannot be read."""


class FleetUnreachableError(CellbenchError):
    """Ray could not be started or reached."""

    exit_code = 4


def command(*words: object) -> str:
    """A command of this program in the form that a shell takes: names with spaces or signs are quoted."""
    return shlex.join(["cellbench", *map(str, words)])


class StoreWarning(UserWarning):
    """A fact about the results that their reader needs; the command continues."""


@cache
def warn_once(text: str) -> None:
    """Issue a StoreWarning once: a command reads the same files several times."""
    warnings.warn(text, StoreWarning, stacklevel=3)
