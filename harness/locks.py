"""Locks on files: one command at a time, and a message where a command waits or a file system has no locks.

flock(2): a lock belongs to an open file and ends with its process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness import files
from harness.errors import BusyError, StorageError

NOTICE_S = 1.0  # after this time the user reads a message
PATIENCE_S = 60.0  # after this time it is an error
HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # the last one is the answer of SMB
LOCAL_DISK = "keep them on a local disk (--out DIR) and copy that folder over, or mount the share with locks"


def lock(
    file: IO[bytes] | int,
    path: Path,
    busy: str,
    *,
    shared: bool = False,
    waits: bool = False,
    fix: str = LOCAL_DISK,
) -> None:
    """Lock an open file until it is closed. busy: what the owner of the lock does, as a sentence.

    waits: for a lock that has another owner, up to PATIENCE_S. Raises BusyError if it is still locked, StorageError
    where the file system has no locks or does not answer; fix: of the StorageError.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB)
    answer: Future[None] = Future()

    def take() -> None:
        try:
            fcntl.flock(file, how)
        except OSError as error:  # handed over to the waiting thread
            answer.set_exception(error)
        else:
            answer.set_result(None)

    # A lost file server blocks even a call that does not wait; a thread can be left behind, by Ctrl-C as well.
    threading.Thread(target=take, daemon=True).start()
    if not wait([answer], NOTICE_S).done:
        print(f"cellbench: waiting for a lock: {busy} ({path})", file=sys.stderr, flush=True)
        if not wait([answer], PATIENCE_S).done:
            if waits:
                raise BusyError(busy, str(path), f"find the cause of more than {PATIENCE_S:g} s, then try again")
            raise StorageError("a file's lock does not answer", str(path), "see whether its file server is there")
    try:
        answer.result()
    except OSError as error:
        if error.errno in HELD:
            raise BusyError(busy, str(path), "wait for it to end, then try again") from error
        raise StorageError(f"files cannot be locked there: {files.reason(error)}", str(path), fix) from error


@contextmanager
def locked(path: Path, busy: str, *, waits: bool = False, fix: str = LOCAL_DISK) -> Iterator[IO[bytes]]:
    """Hold the lock of a file, made where there is none, and yield it; raises as lock() does."""
    is_new = not path.exists()
    with files.storage_errors(path.parent, "the folder"):
        file = path.open("ab")
    with file:
        try:
            lock(file, path, busy, waits=waits, fix=fix)
        except StorageError:
            if is_new:
                path.unlink(missing_ok=True)
            raise
        yield file
