import fcntl
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from harness.schedule import definition, nightly, state, steps
from harness.schedule.definition import Schedule
from harness.schedule.steps import BusyError, Done
from tests.test_schedule_definition import make

ALARM = {
    "alarm": "ab12cd34", "case": "desk/cuda:0/448", "protocol": "standard", "text": "slower: 1.3 s instead of 1 s",
    "began": "r1", "confirmed": "r2",
    "environment": [{"node": "desk", "fact": "torch_version", "before": "2.12", "after": "2.13"}],
}  # fmt: skip
GAP = {"case": "mac/mps/448", "protocol": "standard", "why": "absent"}
CALM: dict[str, Any] = {"alarms": [], "suspects": [], "gaps": []}


class Cellbench:
    """Plays the commands of a night: each measuring one adds a run; `alarms` says what it is told to, in turn."""

    def __init__(
        self, watched: list[dict[str, Any]], run_status: int = 0, measures: bool = True, again_status: int = 0
    ) -> None:
        self.watched, self.run_status, self.measures, self.again_status = watched, run_status, measures, again_status
        self.runs, self.commands = ["r0"], []

    def __call__(self, argv: list[str], timeout_s: float, log: Path) -> Done:
        words = argv[len(steps.COMMAND) :]
        self.commands.append(words)
        if words[0] == "run":
            if self.measures:
                self.runs.append(f"r{len(self.runs)}")
            return Done(self.again_status if "--only" in words else self.run_status, "")
        if words[0] == "list":
            rows = [{"run_id": run, "profile": "quick"} for run in self.runs] + [{"run_id": "x", "profile": "mine"}]
            return Done(0, json.dumps(rows))
        if words[0] == "alarms":
            return Done(0, json.dumps(self.watched.pop(0)))
        return Done(0, f"/pages/{words[0]}.html\n")

    def measured(self) -> list[list[str]]:
        return [words for words in self.commands if words[0] == "run"]


def night(schedule: Schedule, play: Cellbench) -> nightly.Night:
    return nightly.run_now(schedule, play, lambda _: None, lambda: datetime(2026, 1, 2, 2, 30))


def test_a_calm_night(tmp_path: Path) -> None:
    schedule = make(tmp_path, address="auto", run_flags=("--weights", "standin"), markdown=str(tmp_path / "now.md"))
    play = Cellbench([CALM])
    found = night(schedule, play)
    assert (found.status, found.exit_code, found.runs) == ("ok", 0, ("r1",))
    assert play.measured() == [
        ["run", "--profile", "quick", "--out", str(tmp_path), "--address", "auto", "--weights", "standin", "--quiet"]
    ]
    assert ["alarms", "--out", str(tmp_path), "--run", "r1", "--json"] in play.commands
    assert found.pages == tuple(f"/pages/{name}.html" for name in ("report", "history", "index"))
    assert "nothing unusual" in (tmp_path / "now.md").read_text()
    assert state.read(schedule)["night"]["status"] == "ok"


def test_what_is_suspicious_is_measured_again_alone_after_a_pause(tmp_path: Path) -> None:
    suspects = [{"case": "desk/cuda:0/448"}, {"case": "desk/cuda:0/448"}, {"case": "mac/mps/full"}]
    play, waited = Cellbench([CALM | {"suspects": suspects}, CALM | {"alarms": [ALARM]}]), []
    found = nightly.run_now(make(tmp_path), play, waited.append, datetime.now)
    assert waited[0] == 300
    assert play.measured()[1][-2:] == ["--only", "desk/cuda:0/448,mac/mps/full"]
    assert (found.status, found.exit_code, found.new) == ("alarm", 1, ("ab12cd34",))
    text = nightly.message(make(tmp_path), found)["text"]
    for output in (
        "1 new alarm",
        "slower: 1.3 s instead of 1 s, new",
        "torch_version: 2.12 → 2.13",
        "cellbench accept",
    ):
        assert output in text


def test_a_suspicion_that_could_not_be_measured_again_is_news(tmp_path: Path) -> None:
    suspect = CALM | {"suspects": [{"case": "desk/cuda:0/448"}]}
    found = night(make(tmp_path), Cellbench([suspect, suspect], again_status=steps.TIMED_OUT))
    assert (found.status, found.exit_code) == ("ok", 3)
    answer = nightly.message(make(tmp_path), found)
    assert answer["is_news"]
    assert "suspicious cases ended with status 124: desk/cuda:0/448" in answer["text"]


def test_an_alarm_that_is_old_is_no_news(tmp_path: Path) -> None:
    found = night(make(tmp_path), Cellbench([CALM | {"alarms": [ALARM | {"confirmed": "r0"}]}]))
    assert (found.status, found.exit_code) == ("ok", 0)
    assert not nightly.message(make(tmp_path), found)["is_news"]


@pytest.mark.parametrize(
    ("play", "status", "code"),
    [
        (Cellbench([CALM | {"gaps": [GAP]}]), "incomplete", 3),
        (Cellbench([CALM], run_status=3), "incomplete", 3),
        (Cellbench([CALM], run_status=steps.TIMED_OUT), "incomplete", 3),
        (Cellbench([], run_status=0, measures=False), "failed", 3),  # a stopped Ray job says 0 as well
        (Cellbench([], run_status=4, measures=False), "unreachable", 4),
    ],
)  # fmt: skip
def test_completeness_is_judged_from_the_results(tmp_path: Path, play: Cellbench, status: str, code: int) -> None:
    found = night(make(tmp_path), play)
    assert (found.status, found.exit_code) == (status, code)
    assert nightly.message(make(tmp_path), found)["is_news"]


def test_two_nights_never_overlap_and_a_run_by_hand_is_left_alone(tmp_path: Path) -> None:
    schedule = make(tmp_path)
    with steps.alone(schedule), pytest.raises(BusyError, match="another scheduled run"):
        night(schedule, Cellbench([CALM]))
    (tmp_path / "journal").mkdir()
    with (tmp_path / "journal/r7.arrows").open("w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="run r7 is measuring"):
            night(schedule, Cellbench([CALM]))
    assert night(schedule, Cellbench([CALM])).status == "ok"


def test_logs_are_kept_and_rotated(tmp_path: Path) -> None:
    schedule = make(tmp_path, keep_logs=3)
    for day in range(1, 6):
        with steps.log_of(schedule, datetime(2026, 1, day)) as log:
            log.write_text("x")
    assert [log.name for log in sorted((schedule.home / "logs").iterdir())] == [
        f"2026010{day}T000000.log" for day in (3, 4, 5)
    ]  # fmt: skip


def test_what_a_scheduler_appends_does_not_grow_for_ever(tmp_path: Path) -> None:
    schedule = make(tmp_path)
    schedule.home.mkdir(parents=True)
    with schedule.scheduler_log.open("a") as appended:  # as cron and launchd hold it
        for n, left in ((10, 10), (steps.SCHEDULER_LOG_BYTES, 0), (5, 5)):
            appended.write("x" * n)
            appended.flush()
            with steps.log_of(schedule, datetime(2026, 1, 1)):
                pass
            assert schedule.scheduler_log.stat().st_size == left


def test_a_step_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STOP_S", 0.3)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    done = steps.call([sys.executable, "-c", code], 0.6, tmp_path / "log")
    assert done.status == steps.TIMED_OUT
    child = int(done.stdout)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()
    assert "stopped after 0.6 s" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_the_scheduled_command_twice_end_to_end(tmp_path: Path) -> None:
    out, profile = tmp_path / "results", tmp_path / "tiny.toml"
    profile.write_text(
        'models = ["sleep"]\ncrops = [64, 96]\nrepeats = 1\ncontrol = false\nidle_wait_s = 0\npasses = ["memory"]\n'
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def cellbench(*words: object) -> subprocess.CompletedProcess[str]:
        argv = [*steps.COMMAND, *map(str, words)]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=900, env=environment, cwd=tmp_path
        )

    schedule = definition.make(
        profile=str(profile),
        out=str(out),
        folder=str(tmp_path),
        run_flags=("--no-ray",),
        markdown=str(tmp_path / "now.md"),
    )
    definition.write(schedule)
    for n in (1, 2):
        done = cellbench("schedule", "run-now", "--out", out)
        assert done.returncode == 0, done.stderr + done.stdout + next((schedule.home / "logs").iterdir()).read_text()
        assert "nothing unusual" in done.stdout
        assert len(list(out.glob("report-*.html"))) == n
    runs = json.loads(cellbench("list", "--out", out, "--json").stdout)
    assert [(run["profile"], run["n_cases"], run["n_failed"]) for run in runs] == [("tiny", 2, 0)] * 2
    watched = json.loads(cellbench("alarms", "--out", out, "--all", "--json").stdout)
    assert {each["metric"] for each in watched["series"]} >= {"time", "masks", "peak_rss_bytes"}
    assert {each["n_runs"] for each in watched["series"]} == {2}
    assert all(f"report-{run['run_id']}.html" in (out / "index.html").read_text() for run in runs)
    assert (out / "history.html").stat().st_size > 500_000
    assert "nothing unusual" in (tmp_path / "now.md").read_text()
    assert len(list((schedule.home / "logs").iterdir())) == 2
    assert cellbench("schedule", "run-now", "--out", out, "--if-due").stderr.strip() == "not due"
    assert "last night" in cellbench("schedule", "show", "--out", out).stdout
