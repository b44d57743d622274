"""A folder that is written whole or not at all, and that replaces only a folder which this program wrote."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import files
from harness.errors import CellbenchError

LIST = "site.json"  # names the files of the folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of another one when the block ends without an error.

    Raises CellbenchError for a folder with files that this program did not write, and StorageError.
    """
    target = Path(os.path.realpath(files.expanded(folder)))
    _check(target)
    files.make_folder(target.parent)
    name = f".{target.name}-{secrets.token_hex(4)}.tmp"
    made, old = target.with_name(name), target.with_name(f"{name}.old.tmp")
    try:
        with files.storage_errors(folder, "the site"):
            made.mkdir()
            yield made
            names = sorted(path.name for path in made.iterdir())
            files.write(made / LIST, json.dumps({"made_by": "cellbench site", "files": names}))
            _check(target)
            with suppress(FileNotFoundError):
                target.rename(old)
            made.rename(target)
            files.sync_folder(target.parent)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for left in (made, old):
            shutil.rmtree(left, ignore_errors=True)


def _check(target: Path) -> None:
    """CellbenchError where the folder is a file, or has files that no site has."""
    try:
        found = {path.name for path in target.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.unreadable(target, error, "the folder") from error
    foreign = sorted(found - {LIST, *_listed(target)})
    if foreign:
        raise CellbenchError(
            "the folder has files that are not of a site", f"{target}: {', '.join(foreign[:3])}", "name a new folder"
        )


def _listed(target: Path) -> list[str]:
    """The files that the last site wrote; none where it wrote no list."""
    try:
        listed = json.loads(files.read_text(target / LIST) or "{}")
        return list(map(str, listed["files"])) if listed["made_by"] == "cellbench site" else []
    except (ValueError, KeyError, TypeError):
        return []
