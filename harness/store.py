"""The only writer of results: a journal while a run goes on, Parquet once it ends.

    results/journal/<run_id>.arrows                        one fsynced record batch per sample
    results/samples/month=YYYY-MM/<run_id>-<node>.parquet  zstd, one explicit schema

A killed run leaves its journal behind; the next command turns it into Parquet.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from harness import schema
from harness.errors import CellbenchError
from harness.schema import Sample


def new_run_id(unix_s: float) -> str:
    """A name for one invocation that sorts by time and that no two runs share."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(unix_s)) + "-" + secrets.token_hex(3)


@dataclass(frozen=True)
class Store:
    """A folder of results."""

    root: Path

    @classmethod
    def at(cls, root: Path | str) -> Store:
        """An existing store; journals that a killed run left behind are recovered first."""
        store = cls(Path(root).expanduser().resolve())
        if not store.root.is_dir():
            raise CellbenchError(
                "there are no results here yet", str(store.root), f"make some: cellbench run --out {root}"
            )
        for journal in sorted((store.root / "journal").glob("*.arrows")):
            _recover(store, journal)
        return store

    @classmethod
    def make(cls, root: Path | str) -> Store:
        """A store to write to, created where there is none; says so at once if it cannot be written."""
        path = Path(root).expanduser().resolve()
        try:
            (path / "journal").mkdir(parents=True, exist_ok=True)
            probe = path / "journal" / f".probe-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise CellbenchError(
                f"the results folder cannot be written: {error.strerror}", str(path), "give another one with --out DIR"
            ) from error
        return cls.at(path)

    @contextmanager
    def journal(self, run_id: str) -> Iterator[Journal]:
        """Open the run's journal; when the block ends, for whatever reason, it becomes Parquet."""
        journal = Journal(self.root / "journal" / f"{run_id}.arrows")
        try:
            yield journal
        finally:
            journal.close()
            _recover(self, journal.path)

    def put_text(self, path: Path, text: str) -> None:
        """Write a small file beside the samples, whole or not at all."""
        _put(path, lambda file: file.write(text.encode()))

    def merge(self, other: Store) -> tuple[int, int]:
        """Take in another store's runs, all or none; returns how many files are new and how many were here already.

        A file that is here already is no harm; other samples of the same run and node are, whatever their file is
        called, and so is a file of a newer schema.
        """
        if other.root == self.root:
            raise CellbenchError("a store cannot be merged with itself", str(self.root), "name the other one")
        files = {file.relative_to(other.root): file.read_bytes() for file in other.files()}
        here = {path: (self.root / path).read_bytes() for path in files if (self.root / path).is_file()}
        new = [path for path in files if files[path] != here.get(path)]
        known = _runs(self.files())
        for path in new:
            if path in here or _runs([other.root / path]) & known:
                raise CellbenchError(
                    "both stores have samples of the same run and node, and they differ; nothing was merged",
                    f"{other.root / path}", "keep the store that the run was written to, and leave the other out",
                )  # fmt: skip
        for path in new:
            _put(self.root / path, lambda file, path=path: file.write(files[path]))
        return len(new), len(files) - len(new)

    def files(self) -> list[Path]:
        """The Parquet files of this store, each of a schema that is known here."""
        files = sorted((self.root / "samples").rglob("[!._]*.parquet"))
        for file in files:
            _check_version(file)
        return files

    def dataset(self) -> ds.Dataset:
        """Every sample in the store, lazily, in the one schema (older files get nulls, newer are refused)."""
        files = self.files()
        if not files:
            return ds.dataset(schema.table([]))
        return ds.dataset([str(file) for file in files], schema=schema.ARROW, format="parquet")


class Journal:
    """An append-only Arrow stream of a run's samples; what `append` returned from survives kill -9."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # held while we live, so nobody recovers a running run
        self._writer = pa.ipc.new_stream(self._file, schema.ARROW)
        self._sync()

    def append(self, sample: Sample) -> None:
        """Add one sample and wait until the disk has it."""
        for batch in schema.table([sample]).to_batches():
            self._writer.write_batch(batch)
        self._sync()

    def close(self) -> None:
        """End the stream and let go of the lock."""
        self._writer.close()
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def read_journal(path: Path) -> pa.Table:
    """All whole samples of a journal; the one that was being written when its process died is left out."""
    tables = [schema.table([])]
    with path.open("rb") as file, suppress(pa.ArrowException, OSError):
        # A torn tail reads as invalid or as a short read; both mean the stream ends here.
        for batch in pa.ipc.open_stream(file):
            batch.validate(full=True)  # damage in the middle: what Arrow believes unchecked can crash it
            # A journal that an earlier version left behind lacks columns; they are null.
            both = pa.concat_tables([tables[0], pa.Table.from_batches([batch])], promote_options="default")
            tables.append(both.select(schema.ARROW.names))
    return pa.concat_tables(tables)


def _recover(store: Store, journal: Path) -> None:
    """Turn a journal that nobody writes any more into Parquet, one file a node, and remove it."""
    try:
        with journal.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # its run is still going on
            samples = read_journal(journal)
            for node in sorted(set(samples["node"].to_pylist())):
                _write(store, journal.stem, node, samples.filter(pa.compute.equal(samples["node"], node)))
            journal.unlink()
    except FileNotFoundError:
        return  # another command recovered it first
    except PermissionError:
        return  # a reader without write access shows what is already in Parquet


def _write(store: Store, run_id: str, node: str, samples: pa.Table) -> None:
    """Write one Parquet file whole or not at all."""
    month = f"month={run_id[:4]}-{run_id[4:6]}"
    target = store.root / "samples" / month / f"{run_id}-{re.sub(r'[^A-Za-z0-9.-]', '_', node)}.parquet"
    _put(target, lambda file: pq.write_table(samples, file, compression="zstd"))


def _put(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make a file whole or not at all: written beside it, on disk, then renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _runs(files: Iterable[Path]) -> set[tuple[str, str]]:
    """Which runs on which nodes these files hold."""
    tables = [pq.read_table(file, columns=["run_id", "node"]) for file in files]
    return {(row["run_id"], row["node"]) for table in tables for row in table.to_pylist()}


def _check_version(file: Path) -> None:
    try:
        version = schema.version_of(pq.read_schema(file))
    except (pa.ArrowInvalid, OSError) as error:
        raise CellbenchError(
            "a results file cannot be read as Parquet", str(file), "move it out of the store, or copy it here again"
        ) from error
    if version is None:
        raise CellbenchError("this Parquet file was not written by cellbench", str(file), "move it out of the store")
    if version > schema.VERSION:
        raise CellbenchError(
            f"results of schema version {version}; this cellbench knows {schema.VERSION}", str(file), "update cellbench"
        )
