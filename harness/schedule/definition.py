"""The definition of a schedule as one frozen value, kept as TOML next to its results."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness import files
from harness.errors import CellbenchError, command
from harness.services.times import Times

NAME = r"[a-z0-9][a-z0-9-]{0,39}"
OF_NODES = re.compile(r"node(-\d+)?")  # units that keep a node of a fleet are called so


class Schedule(BaseModel):
    """A profile that is measured at a time of day, and the messages about its results.

    Paths are absolute, since schedulers start in a folder of their own. at: local time, HH:MM. No days: every day.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=rf"^{NAME}$")] = "nightly"
    profile: str
    out: str
    folder: str  # where it was set up: relative paths of a profile start from there
    at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "04:30"  # exists once a day in every time zone
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    address: str | None = None  # of the fleet's head; none: this machine alone
    run_flags: tuple[str, ...] = ()  # further flags of `cellbench run`
    timeout_h: Annotated[float, Field(gt=0, le=167)] = 8.0  # of one run
    cool_down_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0  # before suspicious cases are measured again
    keep_logs: Annotated[int, Field(ge=1, le=10_000)] = 60
    notify: Literal["news", "always"] = "news"
    command: str | None = None  # of a shell; reads JSON on stdin
    webhook: str | None = None  # is sent the same JSON
    markdown: str | None = None  # file that always contains the present state

    @field_validator("webhook")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^\s/]+", value):
            raise ValueError("a webhook is an http:// or https:// address")
        return value

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if OF_NODES.fullmatch(value):
            raise ValueError("node is the name of the service that keeps a node of a fleet; take another one")
        return value

    @property
    def home(self) -> Path:
        """The folder of this schedule's state and logs."""
        return Path(self.out) / "schedule" / self.name

    @property
    def scheduler_log(self) -> Path:
        """The log of each start for schedulers without a journal of their own."""
        return self.home / "scheduler.log"

    @property
    def file(self) -> Path:
        return definition_file(Path(self.out), self.name)

    @property
    def times(self) -> Times:
        """The times of its starts."""
        hour, minute = map(int, self.at.split(":"))
        return Times(hour, minute, self.days)


def definition_file(out: Path, name: str) -> Path:
    """The file of a schedule."""
    return out / "schedule" / f"{name}.toml"


def make(**written: Any) -> Schedule:
    """A schedule from values of flags; all mistakes are reported together, each with its flag."""
    try:
        return Schedule(**written)
    except ValidationError as error:
        raise _explained(error, lambda key: f"--{key.replace('_', '-')}") from error


def read(out: Path, name: str) -> Schedule:
    """The schedule of this name for the results in this folder."""
    path = definition_file(out, name)
    text = files.read_text(path, "the schedule")
    if text is None:
        known = ", ".join(names(out)) or "none"
        raise CellbenchError(
            f"there is no schedule {name!r} for these results", str(path),
            f"there are: {known}; make one: {command('schedule', 'install', name, '--out', out)}",
        )  # fmt: skip
    try:
        return Schedule(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CellbenchError("the schedule is not valid TOML", f"{path}: {error}", "correct that line") from error
    except ValidationError as error:
        raise _explained(error, lambda key: f"{path} {key}") from error


def names(out: Path) -> list[str]:
    """The schedules for the results in this folder."""
    return [path.stem for path in files.listed(out / "schedule", "*.toml")]


def write(schedule: Schedule) -> Path:
    """Write a schedule, readable for its owner alone: a webhook's address often is a secret."""
    lines = [
        "# A schedule of cellbench; keys as in docs/scheduling.md. `cellbench schedule run-now` reads it each time."
    ]
    for key, value in schedule.model_dump(mode="json").items():
        if value is not None:
            lines.append(
                f"{key} = {json.dumps(value, ensure_ascii=False)}"
            )  # strings and lists of JSON are TOML as well
    return files.write(schedule.file, "\n".join(lines) + "\n", mode=0o600, make_folder=True)


def _explained(error: ValidationError, where: Any) -> CellbenchError:
    found = []
    for each in error.errors():
        key = str(each["loc"][0]) if each["loc"] else ""
        text = {"extra_forbidden": "unknown key", "missing": "this key is needed"}.get(each["type"], each["msg"])
        if key == "name" and each["type"] == "string_pattern_mismatch":
            text = "a name is made of a-z, 0-9 and -"
        if key == "at" and each["type"] == "string_pattern_mismatch":
            text = "a time of day is HH:MM, 00:00 to 23:59"
        found.append(f"{where(key)}: {text.removeprefix('Value error, ')} (got {each['input']!r})")
    fix = "correct it; see docs/scheduling.md"
    return CellbenchError("a mistake in the schedule", "\n         ".join(found), fix)
