"""The first line of a measuring process, which identifies it; needs the standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

VERSION = 2  # of the messages that cross to a measuring process and back


@dataclass(frozen=True)
class Hello:
    """The identity of a measuring process.

    wire: version of the messages. harness: version of this program. engine_version: None where the engine is not
    installed. lacks: the missing package or Python without which nothing can be measured there. hidden: packages that
    another folder hides, as a sentence.
    """

    wire: int
    harness: str = ""
    engine: str = ""
    engine_version: str | None = None
    lacks: str | None = None
    hidden: str | None = None

    def line(self) -> str:
        """The greeting as one line."""
        return json.dumps(asdict(self))


def read(line: str) -> Hello:
    """The greeting in a line, of any version; ValueError for another line."""
    found = json.loads(line)
    if not isinstance(found, dict) or type(found.get("wire")) is not int:
        raise ValueError(f"no greeting: {line!r}")
    return Hello(**{each.name: found[each.name] for each in fields(Hello) if each.name in found})
