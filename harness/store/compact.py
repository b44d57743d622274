"""Merge many small files into one a month, so that a crash at any moment loses and doubles nothing.

1. The new file is written whole next to the others. It lists the files that it replaces, and their digests: as soon
   as it appears, readers leave those out.
2. They are deleted. A killed compaction leaves files that no reader uses; the next command deletes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from harness import files, locks
from harness.errors import BusyError, StorageError
from harness.store import parquet
from harness.store.parquet import LOCAL
from harness.store.scan import REPLACES, Opened

ROW_GROUP = 2**17  # rows; several a year of one fleet, so that all cores read
LEVEL = 9  # of zstd: written once, read often
# Similar rows next to each other make compression and the statistics of row groups effective.
ORDER = ("run_id", "node", "device", "block", "role", "position", "started_at")


@dataclass(frozen=True)
class Compacted:
    """One folder's files that became one."""

    path: Path
    n_files: int
    n_rows: int
    bytes_before: int
    bytes_after: int


def compact(root: Path) -> list[Compacted]:
    """Make one file of each month's and set aside damaged files; a month that is one file already stays unchanged."""
    with alone(root):
        _finish(root, moves=True)
        opened = parquet.opened(LOCAL, root, moves=True)
        folders = [(folder, list(found)) for folder, found in groupby(opened, key=lambda file: file.path.parent)]
        return [_compact(root, Path(folder), found) for folder, found in folders if len(found) > 1]


def finish(root: Path) -> None:
    """Delete the leftovers of a killed compaction where permissions allow it; a running one is left alone."""
    marker = _marker(root)
    try:
        if not marker.is_file() or not marker.stat().st_size:
            return
        with alone(root):
            _finish(root)
    except (OSError, StorageError, BusyError):
        return  # readers leave those files out anyway


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Let only one command at a time rewrite or merge files; its mark remains if it is killed."""
    with locks.locked(_marker(root), "another command is compacting or merging this store") as file:
        with files.storage_errors(root, "results"):
            file.write(b"rewriting\n")
            file.flush()
        yield
        file.truncate(0)


def _marker(root: Path) -> Path:
    return root / ".rewriting"


def _finish(root: Path, moves: bool = False) -> None:
    for path in sorted(parquet.superseded(LOCAL, parquet.readable(LOCAL, root, moves))):
        Path(path).unlink()


def _compact(root: Path, folder: Path, found: list[Opened]) -> Compacted:
    opened, samples = parquet.read(root, found, moves=True)
    rows = samples.sort_by([(name, "ascending") for name in ORDER])
    # The list of replaced files is kept: an old copy of those files may be copied here again.
    replaces = {name: digest for file in opened for name, digest in file.replaces.items()}
    replaces |= {file.path.name: parquet.digest(LOCAL, file.path) for file in opened}
    before = sum(Path(file.path).stat().st_size for file in opened)
    name = hashlib.sha256(json.dumps(sorted(replaces.items())).encode()).hexdigest()[:16]
    target = folder / f"compact-{name}.parquet"

    metadata = {REPLACES: json.dumps(replaces)}
    parquet.put(LOCAL, target, lambda file: parquet.encode(file, rows, LEVEL, ROW_GROUP, metadata))
    for file in opened:
        Path(file.path).unlink()
    files.sync_folder(folder)
    return Compacted(target, len(opened), rows.num_rows, before, target.stat().st_size)
