"""The journal of a run that goes on: every sample is on disk before the next repetition begins."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from harness import schema
from harness.schema import Sample
from harness.store import parquet


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


def read(path: Path) -> pa.Table:
    """All whole samples of a journal; the one that was being written when its process died is left out."""
    tables = [schema.table([])]
    with path.open("rb") as file, suppress(pa.ArrowInvalid, OSError):
        # A torn tail reads as invalid or as a short read; both mean the stream ends here.
        for batch in pa.ipc.open_stream(file):
            tables.append(pa.Table.from_batches([batch]))
    # A journal that an earlier version left behind lacks columns; they are null.
    return pa.concat_tables(tables, promote_options="default").select(schema.ARROW.names)


def recover(root: Path, journal: Path) -> None:
    """Turn a journal that nobody writes any more into Parquet, one file a node, and remove it."""
    try:
        with journal.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # its run is still going on
            parquet.write(parquet.LOCAL, root, read(journal))
            journal.unlink()
    except FileNotFoundError:
        return  # another command recovered it first
    except PermissionError:
        return  # a reader without write access shows what is already in Parquet
