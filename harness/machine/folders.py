"""The folders of this program on a machine, also where a user has no home and no name."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from harness import files
from harness.errors import CellbenchError

KEPT = (".cellbench", ".cellpose", ".ray")  # folders that make an unwritable home usable
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # the variables that getpass reads


def home() -> Path:
    """~/.cellbench, or the folder in CELLBENCH_HOME; the first writer makes it."""
    return files.expanded(os.environ.get("CELLBENCH_HOME") or "~/.cellbench").absolute()


def complete(environ: MutableMapping[str, str]) -> None:
    """Set the variables by which libraries find a home, a user's name and a cache, where they are missing.

    They are missing in a container that runs under any number (docker run -u). Usable values stay. Raises
    CellbenchError where not even a temporary folder can be written.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        fix = "set TMPDIR to a folder that you may write to"
        raise CellbenchError("no folder for temporary files can be written", "/tmp, /var/tmp", fix) from error
    try:
        known = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        known = ""
        if not any(environ.get(name) for name in NAMES):
            environ["USER"] = str(os.getuid())
    own = Path(environ.get("HOME") or known)
    kept = any(os.path.lexists(own / name) for name in KEPT)
    environ["HOME"] = str(own if own.is_absolute() and (kept or is_writable(own)) else _spare())
    if not environ.get("CELLBENCH_HOME") and not is_writable(Path(environ["HOME"], ".cellbench")):
        environ["CELLBENCH_HOME"] = str(_spare() / ".cellbench")
    cache = environ.get("XDG_CACHE_HOME") or Path(environ["HOME"], ".cache")
    if not environ.get("NUMBA_CACHE_DIR") and not is_writable(Path(cache, "numba")):
        environ["NUMBA_CACHE_DIR"] = str(_spare() / "numba")


def is_writable(folder: Path) -> bool:
    """Whether a folder can be used or made, and files in it can be written."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def is_temporary(folder: Path) -> bool:
    """Whether a folder is removed when the machine, or its container, is started again."""
    return folder.is_relative_to(tempfile.gettempdir())


def _spare() -> Path:
    """A folder of this user among the temporary ones; another user's folder is not used."""
    folder = Path(tempfile.gettempdir(), f"cellbench-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="cellbench-"))
    return folder
