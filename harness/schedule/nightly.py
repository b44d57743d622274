"""One night: measure, find alarms, repeat suspicious cases, write the pages, send messages."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.schedule import notify, state, steps
from harness.schedule.definition import Schedule
from harness.schedule.steps import COMMAND, SHORT_S, Done

Call = Callable[[list[str], float, Path], Done]

# The possible ends of a night, with their exit codes; the worst one counts.
EXIT = {"ok": 0, "alarm": 1, "incomplete": 3, "failed": 3, "unreachable": 4}
UNREACHABLE = 4  # exit code of `cellbench run` without a fleet


@dataclass(frozen=True)
class Night:
    """The result of one night. runs: the main one, then the confirming one, if there was one.

    status: ok, alarm (a new one was confirmed), incomplete (a case was not measured), failed (nothing was measured) or
    unreachable. alarms: those open now, as in `cellbench alarms --json`; new: names of those of tonight.
    """

    status: str
    runs: tuple[str, ...]
    alarms: list[dict[str, Any]] = field(default_factory=list)
    new: tuple[str, ...] = ()
    gaps: list[dict[str, Any]] = field(default_factory=list)
    pages: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code: that of the night, or 3 where only a page or a message failed."""
        return EXIT[self.status] or (3 if self.problems else 0)


def run_now(
    schedule: Schedule,
    call: Call = steps.call,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = datetime.now,
) -> Night:
    """Do one night's work. BusyError if another command is measuring into these results."""
    with steps.alone(schedule), steps.log_of(schedule, now()) as log:
        state.begun(schedule)
        night = _pages(schedule, _measure(schedule, call, sleep, log), call, log)
        problems = notify.tell(schedule, message(schedule, night), sleep)
        night = Night(**{**vars(night), "problems": (*night.problems, *problems)})
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n{message(schedule, night)['text']}\n")
        state.remember(schedule, ended_at=now().isoformat(timespec="seconds"), night=asdict(night))
    return night


def _measure(schedule: Schedule, call: Call, sleep: Callable[[float], None], log: Path) -> Night:
    """Run, judge, and repeat the suspicious cases once."""
    limit_s = 3600 * schedule.timeout_h
    before = _runs(schedule, call, log)
    done = call(steps.run_argv(schedule), limit_s, log)
    runs = _new_runs(schedule, call, log, before)
    if not runs:
        return Night("unreachable" if done.status == UNREACHABLE else "failed", ())
    findings, problems = _alarms(schedule, call, log, runs[-1]), ()
    if findings and findings["suspects"]:
        # The machine was perhaps still hot, or another program had not yet ended.
        sleep(schedule.cool_down_s)
        selectors = list(dict.fromkeys(suspect["case"] for suspect in findings["suspects"]))
        again = call(steps.confirm_argv(schedule, selectors), limit_s, log)
        if again.status:  # then suspicious cases were perhaps neither confirmed nor dismissed
            problems = (f"the repeat of suspicious cases ended with status {again.status}: {', '.join(selectors)}",)
        runs = _new_runs(schedule, call, log, before)
        findings = _alarms(schedule, call, log, None) or findings
    if not findings:
        return Night("incomplete", runs, problems=(*problems, "the alarms could not be judged"))
    new = tuple(each["alarm"] for each in findings["alarms"] if each["confirmed"] in runs)
    # Completeness is judged from the results: exit codes can be wrong (a stopped Ray job exits with 0).
    incomplete = bool(findings["gaps"]) or done.status != 0
    status = "alarm" if new else "incomplete" if incomplete else "ok"
    return Night(status, runs, findings["alarms"], new, findings["gaps"], problems=problems)


def _pages(schedule: Schedule, night: Night, call: Call, log: Path) -> Night:
    """The report of the night's run, the history, and the index of all reports."""
    wanted = [["report", "--run", night.runs[0]], ["history"], ["index"]] if night.runs else []
    pages, problems = [], []
    for words in wanted:
        done = call([*COMMAND, *words, "--out", schedule.out], SHORT_S, log)
        if done.status:
            problems.append(f"cellbench {words[0]} ended with status {done.status}")
        else:
            pages.append(done.stdout.strip())
    return Night(**{**vars(night), "pages": tuple(pages), "problems": (*night.problems, *problems)})


def message(schedule: Schedule, night: Night) -> dict[str, Any]:
    """The night for programs and, as `text` in Markdown, for people."""
    titles = {
        "ok": "nothing unusual",
        "alarm": f"{len(night.new)} new alarm{'s' * (len(night.new) != 1)}",
        "incomplete": "some cases were not measured",
        "failed": "nothing was measured",
        "unreachable": "the fleet could not be reached",
    }
    lines = [f"**Cellbench {schedule.name}: {titles[night.status]}**", ""]
    for alarm in night.alarms:
        since = "new" if alarm["alarm"] in night.new else f"since run {alarm['began']}"
        lines.append(f"- `{alarm['alarm']}` {alarm['case']} ({alarm['protocol']}): {alarm['text']}, {since}")
        lines += [f"  - {each['fact']}: {each['before']} → {each['after']}" for each in alarm["environment"]]
    lines += [f"- {gap['case']} ({gap['protocol']}) was not measured: {gap['why']}" for gap in night.gaps]
    lines += [f"- {problem}" for problem in night.problems]
    if night.alarms:
        lines += ["", f'If a change is meant to be: `cellbench accept NAME --why "…" --out {schedule.out}`']
    if night.pages:
        lines += ["", *(f"- {page}" for page in night.pages)]
    return {
        "text": "\n".join(lines),
        "is_news": night.status != "ok" or bool(night.problems),
        "schedule": schedule.name,
        "machine": platform.node(),
        "profile": Path(schedule.profile).stem,
        "status": night.status,
        "run_id": night.runs[0] if night.runs else None,
        "alarms": night.alarms,
        "new": list(night.new),
        "gaps": night.gaps,
        "pages": list(night.pages),
        "problems": list(night.problems),
    }


def _runs(schedule: Schedule, call: Call, log: Path) -> set[str]:
    """The existing runs; none where there is no store yet."""
    found = call([*COMMAND, "list", "--out", schedule.out, "--json"], SHORT_S, log).json()
    profile = Path(schedule.profile).stem
    return {row["run_id"] for row in found or [] if row["profile"] == profile}


def _new_runs(schedule: Schedule, call: Call, log: Path, before: set[str]) -> tuple[str, ...]:
    return tuple(sorted(_runs(schedule, call, log) - before))


def _alarms(schedule: Schedule, call: Call, log: Path, run_id: str | None) -> dict[str, Any] | None:
    wanted = ["--run", run_id] if run_id else []
    return call([*COMMAND, "alarms", "--out", schedule.out, *wanted, "--json"], SHORT_S, log).json()
