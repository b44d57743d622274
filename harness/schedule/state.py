"""The state of a schedule between nights: its installation, its last start, and the result of that."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from harness import files
from harness.schedule.definition import Schedule
from harness.services.environment import Environment

MOMENTS = ("installed_at", "begun_at")
TOLERANCE = timedelta(minutes=5)  # a clock may be set back by this without a message


def read(schedule: Schedule) -> dict[str, Any]:
    """The state; empty where there is no such file or it is damaged, since none of it is a result."""
    try:
        known = json.loads((schedule.home / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(schedule: Schedule, **new: Any) -> None:
    """Add these values to the state."""
    text = json.dumps(read(schedule) | new, indent=2) + "\n"
    files.write(schedule.home / "state.json", text, make_folder=True, what="the schedule's state")


def installed(schedule: Schedule, kind: str, kept: Environment) -> None:
    """Record the installation: a new schedule has missed nothing yet."""
    remember(schedule, kind=kind, installed_at=_stamp(), environment=dict(kept.variables), secret=list(kept.secret))


def begun(schedule: Schedule) -> None:
    """Record that a night begins."""
    remember(schedule, begun_at=_stamp())


def environment(schedule: Schedule) -> Environment:
    """The variables that were kept when the schedule was set up."""
    known = read(schedule)
    return Environment(known.get("environment") or {}, tuple(known.get("secret") or ()))


def is_due(schedule: Schedule, now: datetime) -> bool:
    """Whether the last planned start before now (aware) has not taken place.

    A moment in the future does not count: the clock was ahead when it was written.
    """
    known = [moment for moment in _moments(schedule).values() if moment <= now + TOLERANCE]
    return not known or max(known) < schedule.times.previous(now)


def clock_was_ahead(schedule: Schedule, now: datetime) -> str | None:
    """A sentence about recorded moments in the future, or None."""
    ahead = [f"{name} {moment.isoformat()}" for name, moment in _moments(schedule).items() if moment > now + TOLERANCE]
    if not ahead:
        return None
    return (
        f"the clock was ahead when schedule {schedule.name} wrote {', '.join(ahead)}, which does not count; "
        "see whether it is right now: timedatectl (macOS: sntp time.apple.com)"
    )


def _moments(schedule: Schedule) -> dict[str, datetime]:
    """Recorded moments; those of earlier versions lack an offset and are local."""
    known, found = read(schedule), {}
    for name in MOMENTS:
        try:
            found[name] = datetime.fromisoformat(known[name]).astimezone()
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return found


def _stamp() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
