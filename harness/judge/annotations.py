"""Annotations of results by users: accepted changes and tags, kept next to the samples, which never change.

results/annotations.jsonl    one JSON object a line, in the order of writing
"""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from harness import files, locks
from harness.errors import CellbenchError
from harness.store import reference

FILE = "annotations.jsonl"


@dataclass(frozen=True)
class Annotation:
    """One annotation of results.

    kind: accepted (a series' new baseline starts at run_id) or tag (a run gets a name). alarm, series_key and metric
    belong to accepted; name to tag. at: ISO 8601 in UTC.
    """

    kind: str
    run_id: str
    at: str
    by: str
    why: str = ""
    alarm: str | None = None
    series_key: str | None = None
    metric: str | None = None
    name: str | None = None


def new(kind: str, run_id: str, why: str = "", **others: str | None) -> Annotation:
    """A new annotation by the present user."""
    return Annotation(kind, run_id, datetime.now(UTC).isoformat(timespec="seconds"), _who(), why, **others)


def read(root: Path) -> list[Annotation]:
    """All annotations of the results in this folder, oldest first; empty where there is no file."""
    path = root / FILE
    known = {field.name for field in fields(Annotation)}
    found = []
    for number, line in enumerate((files.read_text(path, "the file of annotations") or "").splitlines(), 1):
        try:
            if line.strip():
                # A later version may add fields; unknown fields do not change the meaning of the known ones.
                found.append(Annotation(**{key: value for key, value in json.loads(line).items() if key in known}))
        except (ValueError, TypeError, AttributeError) as error:
            raise CellbenchError(
                "an annotation cannot be read",
                f"{path}:{number}",
                "correct or remove that line; each is one JSON object",
            ) from error
    return found


def add(root: Path, new: list[Annotation]) -> None:
    """Append annotations, all or none, one writer at a time."""
    reference.check_not(root)
    path = root / FILE
    with (
        locks.locked(root / f".{FILE}.lock", "another command is writing annotations", waits=True),
        files.replacing(path, what="the annotation") as file,
    ):
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        file.write(before + b"".join(_line(annotation) for annotation in new))


def merge(root: Path, other: Path) -> int:
    """Merge another folder's annotations that are new here, in their order; returns their number."""
    known = set(read(root))
    new = [each for each in read(other) if each not in known]
    if new:
        add(root, new)
    return len(new)


def _line(annotation: Annotation) -> bytes:
    content = {key: value for key, value in asdict(annotation).items() if value not in (None, "")}
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return str(os.getuid())
