"""What a schedule remembers from night to night: when it was set up, when it last began, and how that ended."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from harness import files
from harness.schedule.definition import Schedule
from harness.services.environment import Environment

MOMENTS = ("installed_at", "begun_at")
TOLERANCE = timedelta(minutes=5)  # by which a clock may be set back without a word


def read(schedule: Schedule) -> dict[str, Any]:
    """What is remembered; nothing where there is no such file or it is damaged, since none of it is a result."""
    try:
        known = json.loads((schedule.home / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(schedule: Schedule, **new: Any) -> None:
    """Keep these values with those that are remembered."""
    text = json.dumps(read(schedule) | new, indent=2) + "\n"
    files.write(schedule.home / "state.json", text, make_folder=True, what="the schedule's state")


def installed(schedule: Schedule, kind: str, kept: Environment) -> None:
    """A schedule that was just set up has missed nothing yet."""
    remember(schedule, kind=kind, installed_at=_stamp(), environment=dict(kept.variables), secret=list(kept.secret))


def begun(schedule: Schedule) -> None:
    """A night begins now."""
    remember(schedule, begun_at=_stamp())


def environment(schedule: Schedule) -> Environment:
    """The variables that were kept when the schedule was set up."""
    known = read(schedule)
    return Environment(known.get("environment") or {}, tuple(known.get("secret") or ()))


def is_due(schedule: Schedule, now: datetime) -> bool:
    """Whether the last time (now is aware) at which it was to start has not been served.

    A moment that has not come yet does not count: the clock was ahead when it was written.
    """
    known = [moment for moment in _moments(schedule).values() if moment <= now + TOLERANCE]
    return not known or max(known) < schedule.times.previous(now)


def clock_was_ahead(schedule: Schedule, now: datetime) -> str | None:
    """A sentence about remembered moments that have not come yet, or None."""
    ahead = [f"{name} {moment.isoformat()}" for name, moment in _moments(schedule).items() if moment > now + TOLERANCE]
    if not ahead:
        return None
    return (
        f"the clock was ahead when schedule {schedule.name} wrote {', '.join(ahead)}, which does not count; "
        "see whether it is right now: timedatectl (macOS: sntp time.apple.com)"
    )


def _moments(schedule: Schedule) -> dict[str, datetime]:
    """Remembered moments; those of earlier versions lack an offset and are local."""
    known, found = read(schedule), {}
    for name in MOMENTS:
        try:
            found[name] = datetime.fromisoformat(known[name]).astimezone()
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return found


def _stamp() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
