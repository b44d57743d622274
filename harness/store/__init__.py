"""The only writer of results: a journal during a run, Parquet files afterwards.

    results/journal/<run_id>.arrows                        one fsynced record batch per sample
    results/samples/month=YYYY-MM/<run_id>-<node>.parquet  zstd, one explicit schema
    results/samples/month=YYYY-MM/compact-<hash>.parquet   the same rows, after `cellbench compact`

A killed run leaves its journal behind; the next command turns it into Parquet.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

from harness import files, locks, schema
from harness.errors import CellbenchError, command, warn_once
from harness.store import compact as compaction
from harness.store import journal as journals
from harness.store import merge as merging
from harness.store import parquet, reference, scan
from harness.store.compact import Compacted
from harness.store.journal import Journal
from harness.store.journal import read as read_journal
from harness.store.scan import Opened

__all__ = ["Compacted", "Journal", "Opened", "Store", "new_run_id", "past_runs", "read_journal"]

AHEAD_S = 86_400.0  # the limit by which a run's name may be ahead of this clock
REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def new_run_id(unix_s: float) -> str:
    """A unique name for one invocation that sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(unix_s)) + "-" + secrets.token_hex(3)


def past_runs(runs: Iterable[str], now_s: float | None = None) -> list[str]:
    """Runs in order of time without those whose names lie in the future, which a StoreWarning names once.

    All of them, where every one does: then this machine's clock is wrong. now_s: time.time() unless given.
    """
    end = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime((time.time() if now_s is None else now_s) + AHEAD_S))
    everything = sorted(runs)
    past = [run_id for run_id in everything if run_id < end or not run_id[:1].isdecimal()]
    if not past:
        return everything
    for run_id in everything:
        if run_id not in past:
            warn_once(
                f"run {run_id} is dated in the future, by a clock that was ahead: it does not count as the latest; "
                f"name it to see it, or move its file out of samples/month={run_id[:4]}-{run_id[4:6]}"
            )
    return past


@dataclass(frozen=True)
class Store:
    """A folder of results; or one in an object store, which can be read and merged into, but not measured into."""

    root: PurePath
    filesystem: fs.FileSystem = field(default_factory=fs.LocalFileSystem)

    @classmethod
    def at(cls, root: Path | str) -> Store:
        """Open an existing store by folder or URI; leftovers of a killed run or compaction are put in order first."""
        store = cls._open(root)
        parts = ("samples", "journal", "runs") if store.is_local else ("samples",)  # object stores: no empty folders
        with store._reaching():
            found = store.filesystem.get_file_info([(store.root / part).as_posix() for part in parts])
        if all(part.type != fs.FileType.Directory for part in found):
            raise reference.no_results(store.root, command("run", "--out", root if store.is_local else "FOLDER"))
        if store.is_local:
            journals.recover_all(Path(store.root))
            compaction.finish(Path(store.root))
        return store

    @classmethod
    def make(cls, root: Path | str) -> Store:
        """Open a store to write to, created where there is none; StorageError if it cannot be written or locked."""
        store = cls._open(root)
        if not store.is_local:
            return store  # an object store has no folders to make
        path = Path(store.root)
        reference.check_not(path)
        with files.storage_errors(path, "the results folder"):
            (path / "journal").mkdir(parents=True, exist_ok=True)
            probe = path / "journal" / f".probe-{secrets.token_hex(4)}"
            with locks.locked(probe, "another command probes this folder"):
                probe.unlink()
        return cls.at(path)

    @classmethod
    def check(cls, root: Path | str) -> None:
        """Raise StorageError if no store can be made here, before a run starts; nothing is written."""
        store = cls._open(root)
        if not store.is_local:
            return
        reference.check_not(store.root)
        with files.storage_errors(Path(store.root), "the results folder"):
            there = next(path for path in (Path(store.root), *Path(store.root).parents) if path.exists())
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
            files.check_writable(there)

    @classmethod
    def _open(cls, root: Path | str) -> Store:
        """The place itself, which may be empty."""
        if not REMOTE.match(str(root)):
            path = files.expanded(root)
            if not _is_utf8(path):
                fix = "rename it, or name another one: readers of Parquet need UTF-8"
                raise CellbenchError("the name of the results folder is not UTF-8", str(path), fix)
            return cls(path.resolve())
        try:
            filesystem, path = fs.FileSystem.from_uri(str(root))
            if not path:
                raise ValueError("it names no place")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CellbenchError(
                f"no store can be opened by this address: {error}", _without_secrets(str(root)),
                "a folder, or s3://BUCKET/results; credentials go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error  # fmt: skip
        if isinstance(filesystem, fs.LocalFileSystem):
            return cls(Path(path).resolve())
        return cls(PurePosixPath(path), filesystem)

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @contextmanager
    def journal(self, run_id: str) -> Iterator[Journal]:
        """Open the run's journal; when the block ends, for any reason, it becomes Parquet."""
        root = self._folder("a run keeps a journal, which needs a folder")
        journal = Journal(root / "journal" / f"{run_id}.arrows")
        try:
            yield journal
        finally:
            journal.close()
            journals.recover(root, journal.path, settle_s=0.0)

    def put_text(self, path: Path, text: str) -> None:
        """Write a small file next to the samples, whole or not at all."""
        files.write(path, text, make_folder=True, what="results")

    def add(self, samples: pa.Table) -> list[PurePath]:
        """Write complete samples, each run on each node into a file of its own; returns the new files."""
        with self._reaching():
            return parquet.write(self.filesystem, self.root, samples)

    def merge(self, other: Store) -> tuple[int, int]:
        """Merge another store's runs, all or none; returns the numbers of new runs and of runs that were here already.

        A run on a node that is here already is no conflict, compacted or not, nor one that was resumed there since;
        other samples of the same run and node are, under any file name, and so is a file of a newer schema.
        """
        if other.root == self.root and other.filesystem.equals(self.filesystem):
            raise CellbenchError("a store cannot be merged with itself", str(self.root), "name the other one")
        with compaction.alone(Path(self.root)) if self.is_local else nullcontext():
            with other._reaching():
                there = merging.side(other.filesystem, other.root)
            with self._reaching(), other._reaching():
                here = merging.side(self.filesystem, self.root, {run_id for run_id, _ in there.parts})
                return merging.merge(here, there)

    def compact(self) -> list[Compacted]:
        """Make one file of each month's; returns the months that had several. Safe to be killed and to repeat.

        Damaged files that have not changed lately are set aside.
        """
        return compaction.compact(self._folder("compaction needs a folder that it can lock"))

    def opened(self) -> list[Opened]:
        """The Parquet files that hold this store's samples now, each of a known schema."""
        with self._reaching():
            return parquet.opened(self.filesystem, self.root)

    def files(self) -> list[PurePath]:
        """The places of those files."""
        return [file.path for file in self.opened()]

    def dataset(self) -> ds.Dataset:
        """Every sample in the store, lazily, in the one schema (older files get nulls, newer are rejected)."""
        return scan.dataset(self.opened())

    def rows(self, run_id: str | None = None) -> pa.RecordBatchReader:
        """Every sample, or one run's, in batches as they are read."""
        wanted = None if run_id is None else pc.field("run_id") == run_id
        files = self.opened()
        if run_id is not None and not scan.dataset(files).count_rows(filter=wanted):
            raise CellbenchError(f"there is no run {run_id}", str(self.root), "see: cellbench list")
        return pa.RecordBatchReader.from_batches(schema.ARROW, parquet.batches(files, wanted))

    def table(self) -> pa.Table:
        """Every sample, read now."""
        return parquet.read(self.root, self.opened())[1]

    def _folder(self, why: str) -> Path:
        if not self.is_local:
            raise CellbenchError(why, str(self.root), "work in a folder, then: cellbench merge FOLDER --out URI")
        reference.check_not(self.root)
        return Path(self.root)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Explain in plain words why a store does not answer."""
        try:
            yield
        except OSError as error:
            if self.is_local:
                raise files.unreadable(self.root, error, "the results folder") from error
            raise CellbenchError(
                f"the store does not answer: {str(error).strip()}", str(self.root),
                "check the address, the bucket's name and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL",
            ) from error  # fmt: skip


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_secrets(uri: str) -> str:
    """An address without keys, for screens and logs."""
    return re.sub(r"//[^/@]*@", "//…@", uri.partition("?")[0])
