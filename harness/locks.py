"""Locks on files: one command at a time, and a message for whoever waits or finds a file system without locks.

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

NOTICE_S = 1.0  # after this long, the user is told what is waited for
PATIENCE_S = 60.0  # after this long, it is an error
HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # the last one is how SMB says it
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
    """Lock an open file until it is closed; busy: what somebody else does who has the lock, as a sentence.

    waits: for a lock that somebody has, up to PATIENCE_S. Raises BusyError if somebody has it still, StorageError
    where the file system has no locks or does not answer; fix: what to do then.
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

    # A file server that is gone keeps even a call that does not wait; a thread can be left behind, by Ctrl-C as well.
    threading.Thread(target=take, daemon=True).start()
    if not wait([answer], NOTICE_S).done:
        print(f"cellbench: waiting for a lock: {busy} ({path})", file=sys.stderr, flush=True)
        if not wait([answer], PATIENCE_S).done:
            if waits:
                raise BusyError(busy, str(path), f"it takes more than {PATIENCE_S:g} s: see why, then try again")
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
