"""The first line of a measuring process: who it is, whatever its environment lacks; needs the standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

VERSION = 2  # of the messages that cross to a measuring process and back


@dataclass(frozen=True)
class Hello:
    """Who a measuring process is.

    wire: version of the messages. harness: version of this program. engine_version: None where the engine is not
    installed. lacks: the package, or the Python, without which nothing can be measured there. hidden: packages that
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
    """The greeting that a line holds, of any version; ValueError for a line that is none."""
    found = json.loads(line)
    if not isinstance(found, dict) or type(found.get("wire")) is not int:
        raise ValueError(f"no greeting: {line!r}")
    return Hello(**{each.name: found[each.name] for each in fields(Hello) if each.name in found})
