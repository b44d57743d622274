"""What people say about results: accepted changes and tags, kept beside the samples, which are never touched.

results/annotations.jsonl    one JSON object a line, in the order in which they were said
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

FILE = "annotations.jsonl"


@dataclass(frozen=True)
class Annotation:
    """One thing that somebody said about results.

    kind: accepted (a series' baseline starts anew at run_id) or tag (a run gets a name). alarm, series_key and metric
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
    """An annotation by whoever runs this, now."""
    return Annotation(kind, run_id, datetime.now(UTC).isoformat(timespec="seconds"), _who(), why, **others)


def read(root: Path) -> list[Annotation]:
    """Everything that has been said about the results in this folder, oldest first; nothing where there is no file."""
    path = root / FILE
    known = {field.name for field in fields(Annotation)}
    found = []
    for number, line in enumerate((files.read_text(path, "what was said about these results") or "").splitlines(), 1):
        try:
            if line.strip():
                # A later version may say more; what this one does not know changes nothing of what it does know.
                found.append(Annotation(**{key: value for key, value in json.loads(line).items() if key in known}))
        except (ValueError, TypeError, AttributeError) as error:
            raise CellbenchError(
                "an annotation cannot be read", f"{path}:{number}", "mend or remove that line; each is one JSON object"
            ) from error
    return found


def add(root: Path, new: list[Annotation]) -> None:
    """Append annotations, all or none, one writer at a time."""
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
    """Take in what was said elsewhere and is not known here, in its order; returns how many were new."""
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
