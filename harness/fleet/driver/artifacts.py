"""Files that every node needs before it measures: sent once, checked by their hashes, kept for the next run."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from harness import files, locks
from harness.errors import BusyError, CellbenchError, StorageError
from harness.machine.folders import home

IN_SCRATCH = "a copy of image and weights"
OTHER_HOME = "set CELLBENCH_HOME to a folder on a local disk with room"
KEPT_S = 30 * 86_400.0  # files that no run used in a month are deleted


@dataclass(frozen=True)
class Parcel:
    """A file to be sent: its name, its content and the hash of the content."""

    name: str
    sha256: str
    content: bytes


def parcel(name: str, content: bytes) -> Parcel:
    """The parcel of this content."""
    return Parcel(name, hashlib.sha256(content).hexdigest(), content)


def label(parcels: Sequence[Parcel]) -> str:
    """A short name for these files together; it names their folder on a node."""
    text = "\n".join(f"{each.sha256}  {each.name}" for each in sorted(parcels, key=lambda each: each.name))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parcels_folder() -> Path:
    """The folder of parcels on this machine."""
    return home() / "parcels"


def find(wanted: str, sums: dict[str, str]) -> str | None:
    """The folder that has these files with the right hashes; None where they must be sent. sums: sha256 by name."""
    folder = parcels_folder() / wanted
    if not _is_whole(folder, sums):
        return None
    os.utime(folder)
    return str(folder)


def _is_whole(folder: Path, sums: dict[str, str]) -> bool:
    return all((folder / name).is_file() and files.sha256(folder / name) == sum_ for name, sum_ in sums.items())


def unpack(parcels: Sequence[Parcel], into: Path | None = None) -> str:
    """Write the files into a folder, whole or not at all, and return it; unused older parcels are deleted."""
    root = into or parcels_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _forget_old(root)
        target, fresh = root / label(parcels), Path(mkdtemp(prefix=".unpacking-", dir=root))
        try:
            for each in parcels:
                (fresh / each.name).write_bytes(each.content)
                if files.sha256(fresh / each.name) != each.sha256:
                    raise CellbenchError(
                        f"{each.name} arrived damaged", str(root), "run again; if it stays, check disk and network"
                    )
            _put(fresh, target, {each.name: each.sha256 for each in parcels})
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise CellbenchError(
            f"image and weights could not be stored: {error.strerror}", str(root), "make room there, or allow writing"
        ) from error
    return str(target)


def _put(fresh: Path, target: Path, sums: dict[str, str]) -> None:
    """Rename a folder, unless another node with the same home has put these files there, and perhaps uses them."""
    if target.exists() and not _is_whole(target, sums):
        shutil.rmtree(target, ignore_errors=True)
    try:
        fresh.rename(target)
    except OSError:
        if not _is_whole(target, sums):
            raise


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder while the context lasts; those of killed processes are removed first."""
    root = files.make_folder(home() / "scratch", IN_SCRATCH, OTHER_HOME)
    with ExitStack() as stack:
        with _tidying(root), files.storage_errors(root, IN_SCRATCH, OTHER_HOME):
            _forget_killed(root)
            made = TemporaryDirectory(prefix="run-", dir=root)
            stack.enter_context(_in_use(Path(made.name)))
            stack.enter_context(made)
        yield Path(made.name)


def forget_killed() -> None:
    """Remove the scratch folders of processes that were killed."""
    root = home() / "scratch"
    # This only tidies up: an error does not stop the command.
    with suppress(OSError, StorageError, BusyError), _tidying(root):
        _forget_killed(root)


def _forget_killed(root: Path) -> None:
    for folder in {path.with_suffix("") for path in files.listed(root, "run-*")}:
        with suppress(BusyError), _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _tidying(root: Path) -> AbstractContextManager[Any]:
    """Lock the folder, so that no command takes a new folder, not locked yet, for that of a killed process."""
    busy = "another command is making or removing folders there"
    return locks.locked(root / ".lock", busy, waits=True, fix=OTHER_HOME)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is a file next to it and is removed at the end."""
    path = folder.with_suffix(".lock")
    with locks.locked(path, "another command uses this folder", fix=OTHER_HOME):
        yield
        path.unlink(missing_ok=True)


def _forget_old(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
