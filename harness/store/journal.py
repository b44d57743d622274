"""The journal of a current run: every sample is on disk before the next repetition of its node begins."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from harness import files, locks, schema
from harness.errors import BusyError, CellbenchError, DamagedFileError, StorageError, StoreWarning, warn_once
from harness.schema import Sample
from harness.store import parquet

SETTLE_S = 1.0  # a killed run's journal does not change any more; one that is being copied does
N_CHUNKS = 256  # batches that are read apart; each takes 0.1 MB until it is joined with others
END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream; a journal needs none, earlier versions wrote one


class Journal:
    """An append-only Arrow stream of a run's samples; samples that `append` has written survive kill -9."""

    def __init__(self, path: Path) -> None:
        self.path, self._end = path, 0
        self._file = _new(path)
        try:
            self._put(schema.ARROW.serialize())
        except StorageError:
            self.close()
            path.unlink(missing_ok=True)
            raise

    def record(self, batches: Iterable[Sequence[Sample]]) -> Iterator[Sample]:
        """Append each batch, and then yield its samples; the next batch is taken when the consumer has had them."""
        for batch in batches:
            self.append(batch)
            yield from batch

    def append(self, samples: Sequence[Sample]) -> None:
        """Add samples and wait until the disk has them; StorageError where that fails, and none of them is there."""
        self._put(schema.batch(samples).serialize())

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)

    def _put(self, content: pa.Buffer) -> None:
        left = memoryview(content)
        with files.storage_errors(self.path, "results"):
            try:
                while left:
                    left = left[os.write(self._file, left) :]
                os.fsync(self._file)
            except OSError:
                # Half a batch would hide the following ones when the run is resumed.
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(content)


def _new(path: Path) -> int:
    """A new, empty journal, open and locked while this process lives, so that no command recovers a running run."""
    while True:
        with files.storage_errors(path, "results"):
            try:
                opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
            except FileExistsError as error:
                busy = "another command is measuring for this run"
                raise BusyError(busy, str(path), "let it end, or stop it") from error
        try:
            locks.lock(opened, path, "another command is reading this run", waits=True)
        except BaseException:
            os.close(opened)
            path.unlink(missing_ok=True)
            raise
        if os.fstat(opened).st_nlink:
            return opened
        os.close(opened)  # before the lock, another command took it for a dead run's journal and removed it


@dataclass(frozen=True)
class Found:
    """The content of a journal; is_whole: nothing comes after the samples that could be read."""

    samples: pa.Table
    is_whole: bool


def read(path: Path) -> pa.Table:
    """All whole samples of a journal; the batch that was being written when its process died is left out."""
    return found(path).samples


def found(path: Path) -> Found:
    """All samples of a journal up to the first invalid bytes."""
    empty, end = schema.table([]), 0
    whole, recent = [empty], []
    with path.open("rb") as file:
        try:
            stream = pa.ipc.open_stream(file)
            end = file.tell()
            for batch in stream:
                batch.validate(full=True)  # damage in the middle: unchecked data can crash Arrow
                # A journal that an earlier version left behind lacks columns; they are null.
                both = pa.concat_tables([empty, pa.Table.from_batches([batch])], promote_options="default")
                recent.append(both.select(schema.ARROW.names))
                end = file.tell()
                if len(recent) == N_CHUNKS:
                    whole.append(pa.concat_tables(recent).combine_chunks())
                    recent = []
        except (pa.ArrowException, OSError):
            pass  # invalid, or shorter than its length field: the stream ends here
        file.seek(end)
        samples = pa.concat_tables([*whole, pa.concat_tables(recent).combine_chunks()] if recent else whole)
        return Found(samples, file.read() in (b"", END))


def recover_all(root: Path) -> None:
    """Recover the journals of killed runs; a folder of journals that may not be read is named."""
    try:
        left_behind = files.listed(root / "journal", "*.arrows")
    except CellbenchError as error:
        warn_once(f"samples of a killed run may wait in {error.where} and are left out: {error.what}")
        return
    for journal in left_behind:
        recover(root, journal)


def recover(root: Path, journal: Path, settle_s: float = SETTLE_S) -> None:
    """Convert a journal without a writer into Parquet, one file a node, and remove it.

    Unreadable parts are set aside. It stays for the next command where nothing can be written, and where it grows
    without a lock, as while it is copied here. Each case is reported. settle_s: the time in s that it must not have
    changed.
    """
    try:
        with _open_to_lock(journal) as file:
            locks.lock(file, journal, "its run is still measuring")
            if _grows(file, settle_s):
                warn_once(f"{journal} is left out: it grows, so it may still be being copied")
                return
            held = found(journal)
            parquet.write(parquet.LOCAL, root, held.samples)
            if held.is_whole:
                journal.unlink()
            else:
                parquet.set_aside(root, journal, f"of its samples {held.samples.num_rows} could be read and are kept")
    except FileNotFoundError:
        return  # another command recovered it first
    except BusyError:
        return  # its run is still measuring
    except (OSError, StorageError, DamagedFileError) as error:
        why = str(files.reason(error) if isinstance(error, OSError) else f"{error.what}: {error.where}")
        warnings.warn(f"samples of a run wait in {journal} and are left out: {why}", StoreWarning, stacklevel=2)


def _open_to_lock(journal: Path) -> BinaryIO:
    """A journal open for writing, without which NFS locks nothing, or for reading where it may not be written."""
    try:
        return journal.open("r+b")
    except FileNotFoundError:
        raise
    except OSError:
        return journal.open("rb")


def _grows(file: BinaryIO, settle_s: float) -> bool:
    """Whether a file that was written lately still grows; waits until it has not changed for settle_s."""
    before = os.fstat(file.fileno())
    wait_s = min(before.st_mtime + settle_s - time.time(), settle_s)
    if wait_s <= 0:
        return False
    time.sleep(wait_s)
    after = os.fstat(file.fileno())
    return (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
