"""When a job starts, in five time zones, over the two changes of their clocks; systemd is asked where it is there."""

import re
import shutil
import subprocess
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from harness.schedule.definition import Schedule
from harness.services import units
from harness.services.times import Times

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Pacific/Chatham")
# Zone, time of day, days before the change, the next three starts in UTC; * where the clock jumps over that time.
CHANGES = [
    # 29 March 2026, 2:00 → 3:00; 25 October, 3:00 → 2:00
    ("Europe/Berlin", "02:30", "2026-03-27", ["2026-03-28 01:30", "2026-03-29 01:00*", "2026-03-30 00:30"]),
    ("Europe/Berlin", "04:30", "2026-03-27", ["2026-03-28 03:30", "2026-03-29 02:30", "2026-03-30 02:30"]),
    ("Europe/Berlin", "02:30", "2026-10-23", ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]),
    # 8 March 2026, 2:00 → 3:00; 1 November, 2:00 → 1:00
    ("America/New_York", "02:00", "2026-03-06", ["2026-03-07 07:00", "2026-03-08 07:00*", "2026-03-09 06:00"]),
    ("America/New_York", "03:00", "2026-03-06", ["2026-03-07 08:00", "2026-03-08 07:00", "2026-03-09 07:00"]),
    ("America/New_York", "01:30", "2026-10-30", ["2026-10-31 05:30", "2026-11-01 05:30", "2026-11-02 06:30"]),
    # 4 October 2026, 2:00 → 2:30; 5 April, 2:00 → 1:30
    ("Australia/Lord_Howe", "02:15", "2026-10-02", ["2026-10-02 15:45", "2026-10-03 15:30*", "2026-10-04 15:15"]),
    ("Australia/Lord_Howe", "01:45", "2026-04-03", ["2026-04-03 14:45", "2026-04-04 14:45", "2026-04-05 15:15"]),
    # 6 September 2026, 0:00 → 1:00; 4 April, 24:00 → 23:00
    ("America/Santiago", "00:30", "2026-09-04", ["2026-09-05 04:30", "2026-09-06 04:00*", "2026-09-07 03:30"]),
    ("America/Santiago", "23:30", "2026-04-03", ["2026-04-04 02:30", "2026-04-05 02:30", "2026-04-06 03:30"]),
    # 27 September 2026, 2:45 → 3:45; 5 April, 3:45 → 2:45
    ("Pacific/Chatham", "03:30", "2026-09-25", ["2026-09-25 14:45", "2026-09-26 14:00*", "2026-09-27 13:45"]),
    ("Pacific/Chatham", "03:00", "2026-04-03", ["2026-04-03 13:15", "2026-04-04 13:15", "2026-04-05 14:15"]),
]  # fmt: skip


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """This process in another time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def times(text: str, *days: str) -> Times:
    return Schedule(profile="quick", out="/r", folder="/", at=text, days=days).times


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


def utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


@pytest.mark.parametrize(("zone", "at", "day", "expected"), CHANGES, indirect=["zone"])
def test_the_next_three_starts_over_a_change_of_the_clock(zone: str, at: str, day: str, expected: list[str]) -> None:
    found = times(at).following(local(f"{day} 23:59:59" if at < "12" else f"{day} 12:00"), 3)
    assert [f"{utc(start.at):%Y-%m-%d %H:%M}{'' if start.exists else '*'}" for start in found] == expected


@pytest.mark.parametrize(("zone", "at", "day", "expected"), CHANGES, indirect=["zone"])
def test_each_start_is_due_once_from_its_moment_on(zone: str, at: str, day: str, expected: list[str]) -> None:
    when = times(at)
    for one, following in pairwise(when.following(local(f"{day} 00:00"), 6)):
        for now in (one.at, one.at + timedelta(seconds=1), following.at - timedelta(seconds=1)):
            assert utc(when.previous(now)) == utc(one.at)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(("zone", "at", "day", "expected"), CHANGES, indirect=["zone"])
def test_systemd_starts_at_the_same_moments(zone: str, at: str, day: str, expected: list[str]) -> None:
    now = f"{day} 23:59:59" if at < "12" else f"{day} 12:00:00"
    answer = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=3", f"--base-time={now}", units.on_calendar(times(at))],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    theirs = re.findall(r"\(in UTC\): \w+ (\S+ \d\d:\d\d)", answer)
    ours = [f"{utc(start.at):%Y-%m-%d %H:%M}" for start in times(at).following(local(now), 4) if start.exists]
    assert theirs == ours[:3]


def test_the_default_time_exists_once_a_day_in_every_zone() -> None:
    at = Schedule(profile="quick", out="/r", folder="/").at
    hour, minute = map(int, at.split(":"))
    for name in sorted(zoneinfo.available_timezones()):
        there = zoneinfo.ZoneInfo(name)
        day = datetime(2026, 1, 1, hour, minute, tzinfo=there)
        while day.year < 2028:
            assert day.astimezone(UTC).astimezone(there).replace(tzinfo=None) == day.replace(tzinfo=None), name
            assert day.utcoffset() == day.replace(fold=1).utcoffset(), name
            day += timedelta(days=1)


@pytest.mark.parametrize("zone", ZONES, indirect=True)
def test_days_of_the_week(zone: str) -> None:
    mondays = times("04:30", "mon")
    found = mondays.following(local("2026-03-01"), 60)
    assert {start.at.weekday() for start in found} == {0}
    assert {round((b.at - a.at) / timedelta(days=1)) for a, b in pairwise(found)} == {7}
    assert mondays.previous(local("2026-11-25 04:30")) == local("2026-11-23 04:30")
    assert mondays.previous(local("2026-11-23 01:00")) == local("2026-11-16 04:30")


@pytest.mark.parametrize("zone", ZONES, indirect=True)
def test_a_time_that_is_jumped_over_is_known_a_year_before(zone: str) -> None:
    assert list(times("04:30").missing(local("2026-01-01"))) == []
    jumped = {z: at for z, at, _, expected in CHANGES if any("*" in each for each in expected)}
    assert len(list(times(jumped[zone]).missing(local("2026-01-01")))) == 1
