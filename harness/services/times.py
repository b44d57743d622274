"""Times of day at which a job starts, in local time, whose clock is set forward and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count, islice

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Start:
    """One start. exists: False where the clock jumps over that time of day; at is then the moment of the jump."""

    at: datetime  # aware, in local time
    exists: bool = True


@dataclass(frozen=True)
class Times:
    """A time of day, on some days of the week; on every day if there are none."""

    hour: int
    minute: int
    days: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"

    def previous(self, now: datetime) -> datetime:
        """The last planned start; now (aware) itself counts."""
        today = now.astimezone().date()
        starts = (self._on(today - timedelta(days=back)) for back in range(9))
        return next(start.at for start in starts if start and start.at <= now)

    def following(self, now: datetime, n: int) -> list[Start]:
        """The next n starts after now (aware)."""
        today = now.astimezone().date()
        starts = (self._on(today + timedelta(days=ahead)) for ahead in count())
        return list(islice((start for start in starts if start and start.at > now), n))

    def missing(self, now: datetime) -> Iterator[Start]:
        """The starts within a year whose time of day the clock jumps over."""
        return (start for start in self.following(now, 366) if not start.exists)

    def _on(self, day: date) -> Start | None:
        """The start of a day, if it has one; of an hour that comes twice, in its first."""
        if self.days and DAYS[day.weekday()] not in self.days:
            return None
        wall = datetime.combine(day, time(self.hour, self.minute))
        moment = _instant(wall)
        if moment.replace(tzinfo=None) == wall:
            return Start(moment)
        # Counted with the offset after the jump it lies before the jump: use the moment where that offset begins.
        jump = _instant(wall.replace(fold=1))
        while jump.utcoffset() != moment.utcoffset():
            jump = (jump + timedelta(minutes=1)).astimezone()
        return Start(jump, exists=False)


def _instant(wall: datetime) -> datetime:
    """A local time as an aware one; astimezone() alone is off by the jump for a time that does not exist."""
    return datetime.fromtimestamp(wall.timestamp(), UTC).astimezone()
