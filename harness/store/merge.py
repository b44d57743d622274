"""Merge another store's runs: whole, once, and never a second version of the same samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from harness import schema
from harness.errors import CellbenchError
from harness.store import parquet, scan
from harness.store.scan import Opened

Part = tuple[str, str]  # run and node


@dataclass(frozen=True)
class Side:
    """One of the two stores: its place, its files, and the files that hold each part."""

    filesystem: fs.FileSystem
    root: PurePath
    files: list[Opened]
    parts: dict[Part, list[Opened]]

    def rows(self, part: Part) -> pa.Table:
        """The samples of one run on one node."""
        run_id, node = part
        wanted = (pc.field("run_id") == run_id) & (pc.field("node") == node)
        return scan.dataset(self.parts[part]).to_table(filter=wanted)

    def bytes_of(self, file: Opened) -> bytes:
        with self.filesystem.open_input_file(file.path.as_posix()) as stream:
            return stream.read()


def side(filesystem: fs.FileSystem, root: PurePath, runs: Iterable[str] | None = None) -> Side:
    """Read the file list of a store, or of these runs in it."""
    files = parquet.opened(filesystem, root)
    held: dict[Part, list[Opened]] = {}
    among = None if runs is None else pc.field("run_id").isin(pa.array(sorted(runs), pa.string()))
    for file in files:
        for part in parquet.parts(scan.dataset([file]).to_table(columns=["run_id", "node"], filter=among)):
            held.setdefault(part, []).append(file)
    return Side(filesystem, root, files, held)


def merge(here: Side, there: Side) -> tuple[int, int]:
    """Take the new runs there, all or none; returns the numbers of new runs on a node and of those here already.

    A run that is here already is no conflict, nor is one that was resumed there since; one whose samples differ is, and
    so is a file of a newer schema.
    """
    new: dict[Part, pa.Table | None] = {part: _new_rows(part, here, there) for part in there.parts}
    written: list[PurePath] = []
    try:
        for part, rows in new.items():
            if rows is not None:
                written += _take(part, rows, here, there)
    except BaseException:
        for path in written:
            here.filesystem.delete_file(path.as_posix())
        raise
    n_new = sum(rows is not None for rows in new.values())
    return n_new, len(new) - n_new


def _new_rows(part: Part, here: Side, there: Side) -> pa.Table | None:
    """The samples of this part that are not here yet, or None."""
    rows = there.rows(part)
    if part not in here.parts:
        return rows
    ours, theirs = _counted(here.rows(part)), _counted(rows)
    if ours - theirs and theirs - ours:
        run_id, node = part
        raise CellbenchError(
            "both stores have samples of the same run and node, and they differ; nothing was merged",
            f"run {run_id} on {node}: {there.parts[part][0].path}",
            "keep the store that the run was written to, and leave the other out",
        )
    extra = theirs - ours
    if not extra:
        return None
    keep = []
    for text in _texts(rows):
        keep.append(extra[text] > 0)
        extra[text] -= 1
    return rows.filter(pa.array(keep))


def _take(part: Part, rows: pa.Table, here: Side, there: Side) -> list[PurePath]:
    """Write one part here: a copy of its file where that holds nothing else and the name is free, else its rows."""
    [file, *more] = there.parts[part]
    target = here.root / file.path.relative_to(there.root)
    alone = not more and [p for p, files in there.parts.items() if file in files] == [part]
    free = here.filesystem.get_file_info(target.as_posix()).type == fs.FileType.NotFound
    if alone and free and part not in here.parts:
        content = there.bytes_of(file)
        parquet.put(here.filesystem, target, lambda stream: stream.write(content))
        return [target]
    return parquet.write(here.filesystem, here.root, rows)


def _counted(rows: pa.Table) -> Counter[str]:
    return Counter(_texts(rows))


def _texts(rows: pa.Table) -> list[str]:
    """Each sample as a text that does not depend on where and how it was stored."""
    names = sorted(schema.ARROW.names)
    return [json.dumps([row[name] for name in names], default=str) for row in rows.to_pylist()]
