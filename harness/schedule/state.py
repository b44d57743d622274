"""What a schedule remembers from night to night: when it was set up, when it last began, and how that ended."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from harness import files
from harness.schedule.definition import Schedule


def read(schedule: Schedule) -> dict[str, Any]:
    """What is remembered; nothing where there is no such file or it is damaged, since none of it is a result."""
    try:
        told = json.loads((schedule.home / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def remember(schedule: Schedule, **new: Any) -> None:
    files.write(schedule.home / "state.json", json.dumps(read(schedule) | new, indent=2) + "\n", make_folder=True)


def installed(schedule: Schedule, kind: str) -> None:
    """A schedule that was just set up has missed nothing yet."""
    remember(schedule, kind=kind, installed_at=_now().isoformat())


def begun(schedule: Schedule) -> None:
    remember(schedule, begun_at=_now().isoformat())


def is_due(schedule: Schedule, now: datetime) -> bool:
    """Whether the last time at which it was to start has not been served; times are naive and local."""
    told = read(schedule)
    known = [datetime.fromisoformat(told[name]) for name in ("installed_at", "begun_at") if told.get(name)]
    return not known or max(known) < schedule.previous(now)


def _now() -> datetime:
    return datetime.now().replace(microsecond=0)
