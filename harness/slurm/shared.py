"""The shared folder of a cluster: whether other nodes see it, its locks, and the speed of its metadata."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

from harness import files, locks
from harness.errors import CellbenchError, StorageError
from harness.machine import folders

MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay"}  # an exported one looks the same on its server
SLOW_S = 0.05
N_PROBES = 5


def check(folder: Path) -> None:
    """Raise CellbenchError for a folder that other nodes cannot see; nothing is written."""
    kind = file_system(folder, Path("/proc/self/mounts").read_text(encoding="utf-8"))
    if folders.is_temporary(folder) or kind in MEMORY:
        fix = "name a folder that every node mounts: --out /shared/results"
        raise CellbenchError("other nodes do not have this folder", f"{folder} ({kind})", fix)


def notices(folder: Path) -> Iterator[str]:
    """Properties of the shared folder that its user should read before the jobs run."""
    kind = file_system(folder, Path("/proc/self/mounts").read_text(encoding="utf-8"))
    if kind in DISKS:
        yield f"{folder} is on a disk of this machine ({kind}): every node must mount it under the same path"
    if not has_locks(folder):
        yield f"{folder} has no file locks: jobs measure in scratch folders, and the merge works in a copy"
    if (median_s := metadata_s(folder)) > SLOW_S:
        yield f"{folder} is slow: {median_s * 1e3:.0f} ms to make and remove a file; jobs write there once a minute"


def has_locks(folder: Path) -> bool:
    """Whether files can be locked there."""
    probe = folder / ".cellbench-lock"
    try:
        with locks.locked(probe, "another command probes this folder"):
            probe.unlink()
    except StorageError:
        return False
    return True


def metadata_s(folder: Path) -> float:
    """The median duration in s of making, renaming and removing a file."""
    durations = []
    for _ in range(N_PROBES):
        begin_s = time.perf_counter()
        with files.storage_errors(folder, "the shared folder"):
            probe = folder / ".cellbench-probe"
            probe.touch()
            probe.rename(folder / ".cellbench-renamed").unlink()
        durations.append(time.perf_counter() - begin_s)
    return statistics.median(durations)


def file_system(folder: Path, mounts: str) -> str:
    """The type of the file system that holds a folder; mounts: the text of /proc/self/mounts."""
    best, kind = PurePath("/"), "unknown"
    for line in mounts.splitlines():
        _, place, its_kind, *_ = line.split(" ")
        point = PurePath(place.replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, its_kind
    return kind
