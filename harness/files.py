"""Files that are written whole or not at all, and folders that are read without files of other programs.

No reader sees half a file: it is written under another name in the same folder, brought to the disk, then renamed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import BinaryIO

from harness.errors import CellbenchError, StorageError

# Names under which programs keep files that are not whole yet.
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")
# The errors of a file system that cannot bring a folder to the disk.
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF}
NO_ROOM = "make room there, or name another place"
NO_RIGHT = "allow writing there (ls -ld shows whose it is), or name another place"
NO_FOLDER = "a file is where its folder should be: name another place"
FIXES = {
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
    errno.EFBIG: NO_ROOM,
    errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT,
    errno.EROFS: "its file system is read-only: name another place",
    errno.ENOENT: "make its folder first, or name another place",
    errno.ENOTDIR: NO_FOLDER,
    errno.EEXIST: NO_FOLDER,
    errno.EISDIR: "a folder has this name: name a file",
    errno.ENAMETOOLONG: "give a shorter name",
}


@contextmanager
def replacing(
    path: Path, *, mode: int | None = None, make_folder: bool = False, what: str = "the file", fix: str | None = None
) -> Iterator[BinaryIO]:
    """A stream into a new file that replaces path, on disk, when the block ends without an error.

    A replaced file keeps its mode and, under root, its owner, unless mode is given; a link stays a link. A device or a
    pipe is written to directly. Raises StorageError, and then path is as it was.
    """
    target = Path(os.path.realpath(expanded(path)))
    with storage_errors(path, what, fix):
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        before = _found(target)
        if before and not stat.S_ISREG(before.st_mode):
            with target.open("wb") as file:  # raises for a folder
                yield file
            return
        if before:
            check_writable(target)
        wanted = mode if mode is not None else stat.S_IMODE(before.st_mode) if before else None
        temporary = _temporary(target)
        try:
            how = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(temporary, how, 0o666 if wanted is None else wanted), "wb") as file:
                yield file
                file.flush()
                _own(file.fileno(), wanted, before)
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)


def write(
    path: Path,
    content: bytes | str,
    *,
    mode: int | None = None,
    make_folder: bool = False,
    what: str = "the file",
    fix: str | None = None,
) -> Path:
    """Write a file whole or not at all, text as UTF-8, and return its path; other parameters as for replacing()."""
    with replacing(path, mode=mode, make_folder=make_folder, what=what, fix=fix) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def link(path: Path, target: Path, *, what: str = "the link") -> Path:
    """Point a symbolic link at a file; a reader always finds the old file or the new one."""
    with storage_errors(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            temporary.symlink_to(target)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def check_writable(path: Path) -> None:
    """Raise OSError for a file or folder that may not be written; nothing is written."""
    if not os.access(path, os.W_OK):
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number))


def make_folder(folder: Path, what: str = "the folder", fix: str | None = None) -> Path:
    """Make a folder, and those above it, where there is none."""
    with storage_errors(folder, what, fix):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def sync_folder(folder: Path) -> None:
    """Wait until the list of files in a folder is on the disk, where its file system can do that."""
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


@contextmanager
def storage_errors(path: Path, what: str = "the file", fix: str | None = None) -> Iterator[None]:
    """Turn the system's errors into a StorageError. fix: replaces the fix that belongs to the error."""
    try:
        yield
    except OSError as error:
        cure = fix or FIXES.get(error.errno or 0, "check its folder and its disk, or name another place")
        raise StorageError(f"{what} cannot be written: {reason(error)}", str(path), cure) from error


def expanded(path: Path | str) -> Path:
    """Expand ~ and ~user in a path as a shell does; CellbenchError for an unknown user."""
    text = os.path.expanduser(path)
    if text.startswith("~"):
        what = f"there is no home {PurePath(text).parts[0]}"
        raise CellbenchError(what, text, f"write the path in full, or ./{text} for exactly that name")
    return Path(text)


def is_hidden(path: PurePath, prefixes: tuple[str, ...] = (".",)) -> bool:
    """Whether a file, or a folder of its path (which is relative), belongs to another program or is not complete.

    Names with a dot in front are those of other programs (AppleDouble's ._x, trash, snapshots, rsync's copies); some
    endings are those of files that are not whole yet.
    """
    return any(part.startswith(prefixes) for part in path.parts) or path.name.lower().endswith(UNFINISHED)


def is_settled(path: Path, after_s: float) -> bool:
    """Whether a file has not changed for after_s; a file with a date in the future has not settled."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > after_s
    return False


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """The files and folders of a folder that match a pattern and are not hidden, by name; none without the folder.

    Raises CellbenchError for a folder that may not be read.
    """
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error, "the folder") from error
    return [path for path in found if path.match(pattern) and not is_hidden(PurePath(path.name))]


def read_text(path: Path, what: str = "the file") -> str | None:
    """A text in UTF-8, or None where there is no such file; CellbenchError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error, what) from error


def unreadable(path: PurePath, error: OSError | UnicodeDecodeError, what: str) -> CellbenchError:
    """The error for a file or folder that cannot be read."""
    return CellbenchError(f"{what} cannot be read: {reason(error)}", str(path), "allow reading it, or look at its disk")


def reason(error: OSError | UnicodeDecodeError) -> str:
    """The system's answer in a few words; libraries add paths and numbers."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _found(path: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return path.stat()
    return None


def sha256(file: Path) -> str:
    """The hash of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _own(opened: int, mode: int | None, before: os.stat_result | None) -> None:
    """Give a new file its mode, and the owner of the file it replaces; a file system may support neither."""
    now = os.fstat(opened)
    if before and os.geteuid() == 0 and (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(opened, before.st_uid, before.st_gid)
    if mode is not None and stat.S_IMODE(os.fstat(opened).st_mode) != mode:
        os.fchmod(opened, mode)


def _temporary(target: Path) -> Path:
    """A free name in the same folder; files that killed writers left there are deleted."""
    name = hashlib.sha256(os.fsencode(f"{platform.node()}/{target.name}")).hexdigest()[:16]
    stem = f".cellbench-{name}-"
    for left in target.parent.glob(f"{stem}*.tmp"):
        writer = re.fullmatch(r"(\d{1,9})-[0-9a-f]+\.tmp", left.name.removeprefix(stem))
        if writer and not _is_alive(int(writer[1])):
            with suppress(OSError):
                left.unlink()
    return target.with_name(f"{stem}{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
