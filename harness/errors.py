"""What can go wrong for a user, always with what, where and how to fix it.

CellbenchError            exit 2: usage, configuration, input, output
├── DeviceFallbackError        a sample's status: asked for an accelerator, ran elsewhere
├── VariantFallbackError       a sample's status: the variant did not run as asked
├── CasesFailedError           exit 3: some cases failed, the rest is saved
├── ChecksFailedError          exit 3: this machine is not fit to measure, or not yet
├── MasksDisagreeError         exit 5: masks are not as alike as the gate asks
├── StorageError               a file cannot be written or locked: no room, no right, no folder
├── BusyError                  another command holds what this one needs
├── DamagedFileError           a results file that cannot be read any more
└── FleetUnreachableError      exit 4: no Ray to talk to

StoreWarning              something about the results that their reader should know; the work goes on
"""

from __future__ import annotations

import shlex
import warnings
from functools import cache


class CellbenchError(Exception):
    """A problem that a user can cause and mend; shown without a traceback."""

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


class DeviceFallbackError(CellbenchError):
    """The work ran on another device than the one asked for; its time must not count."""


class VariantFallbackError(CellbenchError):
    """Something else ran than the variant that was asked for; its time must not count."""


class CasesFailedError(CellbenchError):
    """Some cases failed; every other row is saved."""

    exit_code = 3


class ChecksFailedError(CellbenchError):
    """Checks of this machine failed; what they found is printed."""

    exit_code = 3


class MasksDisagreeError(CellbenchError):
    """A variant's masks are not as alike to stock's as was asked for."""

    exit_code = 5


class StorageError(CellbenchError):
    """A file cannot be written or locked; what was written before is whole."""


class BusyError(CellbenchError):
    """Another command holds what this one needs."""


class DamagedFileError(CellbenchError):
    """A results file that cannot be read any more."""


class FleetUnreachableError(CellbenchError):
    """Ray could not be started or reached."""

    exit_code = 4


def command(*words: object) -> str:
    """A command of this program as a shell takes it: names with spaces or signs are quoted."""
    return shlex.join(["cellbench", *map(str, words)])


class StoreWarning(UserWarning):
    """Something about the results that their reader should know; the work goes on."""


@cache
def warn_once(text: str) -> None:
    """Issue a StoreWarning that was not issued before: a command looks at the same files several times."""
    warnings.warn(text, StoreWarning, stacklevel=3)
