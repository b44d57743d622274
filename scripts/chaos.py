"""Inject faults into runs and check that no measured repetition is lost.

    python scripts/chaos.py [--seed 0] [--n 200] [--kinds kill,full] [--only 17] [--jobs 2]

Each scenario is a run of the real command with the simulated engine (its calls sleep; its rows are labelled). The run
is killed, frozen, interrupted, starved or damaged at a moment drawn from the seed, and then resumed until it is
complete. The engine logs every finished call outside the store. At the end:

    every finished repetition is in the store exactly once; the one in flight as its process died may be missing
    every planned repetition is there exactly once, as in an undisturbed run
    every exit code is the documented one
    no process and no temporary file is left

What breaks a rule is printed with its number: the same seed and number do the same again (--only). Scenarios that need
root (a disk of their own that fills up) are left out without it. Exit code 1 if a rule was broken.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import tifffile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness import schema  # noqa: E402
from harness.engines.simulated.script import FOLDER  # noqa: E402
from harness.plan.cases import CONTROL_REPEATS  # noqa: E402
from harness.run import resume  # noqa: E402
from harness.store import Store, read_journal  # noqa: E402

PROFILE = """
description = "simulated"
image = "IMAGE"
models = ["sleep"]
devices = ["cpu"]
crops = [64, 96]
warmups = 1
repeats = 3
blocks = 2
idle_wait_s = 0
"""
N_CALLS = 34  # of an undisturbed run: 2 blocks of a first call, 2 × control (1 + 3) and 2 cases (1 + 3)
END_S = 240.0  # for any one command
GONE_S = 60.0  # for what a command left behind to go
# Calls have masks that no other call has, so that each can be found again; a silent process is given up soon.
SCRIPT = {"call_s": 0.05, "same_masks": False, "patience_s": 3.0}
# The command as ever, once it has noted that Python runs: what Python does with a signal before that is not ours.
NOTED = f"""
import os, runpy
line = os.open(os.environ["{FOLDER}"] + "/witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(line, b"up %d\\n" % os.getpid())
os.close(line)
runpy.run_module("harness", run_name="__main__", alter_sys=True)
"""


NOBODY = 54_321  # a user id without an account
LOCALES = (
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "xx_YY.UTF-8", "LANGUAGE": "zz"}, {"PYTHONIOENCODING": "shift_jis"},
    {"TZ": "Nowhere/X", "COLUMNS": "abc", "TERM": "nothing"}, {"TZ": "Pacific/Kiritimati", "PYTHONWARNINGS": "error"},
)  # fmt: skip
FOREIGN = (
    ("numpy/__init__.py", "__version__ = '1.0'"), ("numpy.py", ""), ("torch/__init__.py", "__version__ = '1.0'"),
    ("scipy/__init__.py", "raise ImportError('numpy.core.multiarray failed to import')"), ("queue.py", "x = 1"),
    ("random.py", "raise RuntimeError('mine')"), ("pyarrow/__init__.py", "raise OSError('libarrow.so')"),
)  # fmt: skip


class RuleBrokenError(Exception):
    """A violation of one of the rules."""


@dataclass
class Scene:
    """One scenario: its folder, its random generator, and its state."""

    folder: Path
    dice: random.Random
    number: int
    ray: bool = False
    torn: bool = False  # the journal was damaged by us: what comes after the damage may be lost
    cannot: set[str] = field(default_factory=set)  # variants that never run
    n_commands: int = 0
    environ: dict[str, str] = field(default_factory=dict)  # variables of its commands besides the usual ones
    prefix: list[str] = field(default_factory=list)  # what its commands are started by, such as another user
    head: str = ""  # address of its fleet
    nodes: list[str] = field(default_factory=list)  # of the fleet, each with a home of that name
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("home", "tmp"):
            (self.folder / name).mkdir()
        pixels = np.random.default_rng(0).integers(0, 4000, (128, 128), np.uint16)
        tifffile.imwrite(self.folder / "image.tif", pixels)
        (self.folder / "chaos.toml").write_text(PROFILE.replace("IMAGE", str(self.folder / "image.tif")))
        self.script()

    def script(self, **accident: object) -> None:
        """Write the script of the simulated engine, with this accident."""
        (self.folder / "script.json").write_text(json.dumps(SCRIPT | accident))

    @property
    def out(self) -> Path:
        return self.folder / "results"

    @property
    def run_ids(self) -> list[str]:
        return sorted(path.stem for path in (self.out / "runs").glob("*.json"))

    def start(self, *words: str) -> subprocess.Popen:
        """Begin a command on the scenario's results."""
        return self.command("home", *words, "--out", str(self.out))

    def command(self, home: str, *words: str) -> subprocess.Popen:
        """Begin a command with its own home, like a separate machine; its output goes into a file."""
        self.n_commands += 1
        output = (self.folder / f"said-{self.n_commands}.txt").open("w")
        self.log.append(f"cellbench {' '.join(words)}   > {output.name}")
        environ = {
            **os.environ, "PYTHONPATH": str(ROOT), FOLDER: str(self.folder), "HOME": str(self.folder / home),
            "TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1", **self.environ,
        }  # fmt: skip
        command = [*self.prefix, sys.executable, "-c", NOTED, *words]
        with output:
            return subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
            )

    def run(self, *more: str) -> subprocess.Popen:
        how = ("--address", self.head) if self.head else () if self.ray else ("--no-ray",)
        return self.start("run", *how, *more, "--profile", str(self.folder / "chaos.toml"), "--quiet")

    def join(self, name: str) -> None:
        """Start the head of a fleet, or a node that joins it, on ports of its own."""
        if not self.head:
            port = 20_000 + 1_000 * (self.number % 20)
            self.end(self.command("home", "node", "token"), 0)
        home = self.folder / name
        home.mkdir(exist_ok=True)
        shutil.copytree(self.folder / "home" / ".ray", home / ".ray", dirs_exist_ok=True)
        how = ["--address", self.head] if self.head else ["--head", "--port", str(port + 999)]
        base = int(self.head.split(":")[1]) - 999 if self.head else port
        ports = ["--port-base", str(base + 300 * len(self.nodes)), "--temp-dir", str(self.folder / "ray")]
        end_s = time.monotonic() + GONE_S
        while self.end(self.command(name, "node", "start", *how, "--name", name, *ports), 0, 2, 4):
            if time.monotonic() > end_s:
                raise RuleBrokenError(f"{name} cannot join")
            time.sleep(5)  # it was unplugged, and the head has not noticed yet
        if not self.head:
            output = said(self.folder / f"said-{self.n_commands}.txt")
            self.head = re.search(r"head of a fleet: (\S+)", output)[1]
        if name not in self.nodes:
            self.nodes.append(name)

    def part(self) -> None:
        """End the fleet."""
        for name in reversed(self.nodes):
            self.end(self.command(name, "node", "stop"), 0)

    def on(self, name: str) -> list[psutil.Process]:
        """The processes of a node."""
        return [process for process in self.alive() if process.environ().get("HOME") == str(self.folder / name)]

    def resume(self, run_id: str) -> subprocess.Popen:
        return self.start("resume", run_id, "--retry-failed", "--quiet")

    def end(self, process: subprocess.Popen, *allowed: int) -> int:
        """Wait for a command's end; its exit code must be one of these, and nothing of it may stay behind."""
        try:
            code = process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise RuleBrokenError(f"no end after {END_S:g} s: {process.args[3:5]}") from None
        self.log.append(f"exit code {code}")
        output = "".join(map(said, self.folder.glob("said-*.txt")))
        looking = (
            code == -signal.SIGINT and str(ROOT / "harness") not in output
        )  # Python still looked for our first line
        if "Traceback" in output and not looking:
            raise RuleBrokenError("a traceback was shown")
        if allowed and code not in allowed:
            raise RuleBrokenError(f"exit code {code} of {process.args[3:5]}, not {allowed}")
        return code

    def finish(self, process: subprocess.Popen) -> None:
        """Wait for the end of a run; its exit code must match its rows: 3 if any failed."""
        if self.end(process, 0, 3) == 0:
            self.nothing_failed()
        elif not self.failures():
            raise RuleBrokenError("exit code 3, but no row is a failure")

    def nothing_failed(self) -> None:
        if failures := self.failures():
            raise RuleBrokenError(f"exit code 0, but rows are failures: {failures}")

    def failures(self) -> list[str]:
        """The statuses of the latest run's rows that are no good ones."""
        rows = Store.at(self.out).table()
        rows = rows.filter(pc.equal(rows["run_id"], self.run_ids[-1]))
        return [status for status in rows["status"].to_pylist() if status not in schema.FINE]

    def one_is_lost(self, name: str) -> None:
        """Whatever failed in the latest run failed because this node was lost, and the other one is through."""
        store = Store.at(self.out)
        rows = store.table().filter(pc.equal(store.table()["run_id"], self.run_ids[-1]))
        bad = {(row["node"], row["status"]) for row in rows.to_pylist() if row["status"] not in schema.FINE}
        if not bad <= {(name, "node_lost")}:
            raise RuleBrokenError(f"failed: {bad}")
        if left := [b.node for b in resume.left(store, resume.read(store, self.run_ids[-1])) if b.node != name]:
            raise RuleBrokenError(f"left to do although they live: {left}")

    def n_begun(self) -> int:
        path = self.folder / "witness"
        return path.read_text().count("begin") if path.exists() else 0

    def finished(self) -> dict[str, list[str]]:
        """The masks of every call that finished as scripted, by process, in order."""
        found: dict[str, list[str]] = {}
        for masks, pid in self.book("end").items():
            found.setdefault(pid, []).append(masks)
        return found

    def book(self, word: str) -> dict[str, str]:
        """The masks of the calls that ended so, each with its process, in order."""
        lines = (line.split() for line in (self.folder / "witness").read_text().splitlines())
        return {line[2]: line[1] for line in lines if line[0] == word}

    def up(self, process: subprocess.Popen) -> None:
        """Wait until Python has started: what it does with a signal before it runs anything is not ours."""
        path = self.folder / "witness"
        while not (path.exists() and f"up {process.pid}\n" in path.read_text()) and process.poll() is None:
            time.sleep(0.002)

    def at_call(self, process: subprocess.Popen, n: int) -> None:
        """Wait until n calls have begun, and then a moment shorter than a call."""
        while self.n_begun() < n and process.poll() is None:
            time.sleep(0.005)
        time.sleep(self.dice.random() * 0.08)

    def at_any_time(self, process: subprocess.Popen) -> None:
        """Wait until some moment of the run, its beginning included."""
        if self.dice.random() < 0.25:
            time.sleep(self.dice.random() * (8.0 if self.ray else 2.0))
        else:
            self.at_call(process, self.n_begun() + self.dice.randint(1, N_CALLS))

    def kill(self, pid: int, how: int = signal.SIGKILL) -> None:
        self.log.append(f"signal {signal.Signals(how).name} to {pid} at call {self.n_begun()}")
        with suppress(ProcessLookupError):
            os.kill(pid, how)

    def of(self, word: str) -> list[psutil.Process]:
        """The processes of this scenario that have a word in their command line."""
        return [process for process in self.alive() if word in " ".join(process.cmdline())]

    def alive(self) -> list[psutil.Process]:
        """Every process that this scenario started, however many generations ago."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(FOLDER) == str(self.folder):
                    process.cmdline()
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def nothing_is_left_running(self) -> None:
        """No process of the scenario is alive, or soon none is."""
        end_s = time.monotonic() + GONE_S
        while left := self.alive():
            if time.monotonic() > end_s:
                raise RuleBrokenError(f"still running after {GONE_S:g} s: {[' '.join(p.cmdline())[:80] for p in left]}")
            time.sleep(0.2)

    def clear(self) -> None:
        """End whatever a broken rule left running, each by its number."""
        for process in self.alive():
            with suppress(psutil.Error):
                process.kill()


# ---------------------------------------------------------------- scenarios: what is done to a run


def kill(scene: Scene) -> None:
    """The driver is killed, perhaps several times on the way."""
    process = scene.run()
    for _ in range(scene.dice.randint(1, 3)):
        scene.at_any_time(process)
        scene.kill(process.pid)
        process.wait()
        scene.nothing_is_left_running()
        if not scene.run_ids:
            return
        process = scene.resume(scene.run_ids[-1])
    scene.finish(process)


def kill_at_end(scene: Scene) -> None:
    """The driver is killed after its last repetition, as it puts things away."""
    process = scene.run()
    scene.at_call(process, N_CALLS)
    while sum(map(len, scene.finished().values())) < N_CALLS and process.poll() is None:
        time.sleep(0.005)
    time.sleep(scene.dice.random() * 0.3)
    scene.kill(process.pid)
    process.wait()


def kill_child(scene: Scene) -> None:
    """The measuring process is killed."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS))
    for child in scene.of("harness.measure.child"):
        scene.kill(child.pid)
    scene.finish(process)


def freeze_child(scene: Scene) -> None:
    """The measuring process stops for good."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS))
    for child in scene.of("harness.measure.child"):
        scene.kill(child.pid, signal.SIGSTOP)
    scene.finish(process)


# What becomes of the task whose call has such an accident; None: nothing.
ACCIDENTS = {
    "raise": "crash", "memory": "oom_host", "device": "oom_device", "exit": "crash", "segfault": "crash",
    "kill": "oom_host", "hang": "timeout", "stop": "timeout", "clock": None,
}  # fmt: skip


def accident(scene: Scene) -> None:
    """A call fails in one of several ways, or the clock is set back by a day."""
    what = scene.dice.choice(sorted(ACCIDENTS))
    at = scene.dice.choice([n for n in range(2, N_CALLS) if n != N_CALLS // 2 + 1])  # not a process's very first
    scene.script(accident=what, at_call=at)
    scene.log.append(f"{what} at call {at}")
    scene.finish(scene.run())
    found = scene.failures()
    if found != ([ACCIDENTS[what]] if ACCIDENTS[what] else []):
        raise RuleBrokenError(f"{what} became {found}")


def fallback(scene: Scene) -> None:
    """A variant fails when it is applied or in its first call; the run may be killed."""
    name = scene.dice.choice(["fallback", "late-fallback"])
    process = scene.run("--variants", f"stock,{name}")
    if scene.dice.random() < 0.5:
        scene.at_any_time(process)
        scene.kill(process.pid)
        process.wait()
        scene.nothing_is_left_running()
        if not scene.run_ids:
            return
        process = scene.resume(scene.run_ids[-1])
    scene.finish(process)
    if set(scene.failures()) != {"variant_fallback"}:
        raise RuleBrokenError(f"{name} became {scene.failures()}")
    scene.cannot = {name}


def interrupt(scene: Scene) -> None:
    """Ctrl-C, or what an init system sends."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(1, N_CALLS - 2))
    scene.kill(process.pid, scene.dice.choice([signal.SIGINT, signal.SIGTERM]))
    scene.end(process, 130)
    if f"cellbench resume {scene.run_ids[-1]}" not in said(scene.folder / "said-1.txt"):
        raise RuleBrokenError("the command to resume was not printed")


def interrupt_early(scene: Scene) -> None:
    """Ctrl-C while nothing is measured yet; while modules load, the command dies of the signal, which is 130, too."""
    process = scene.run()
    scene.up(process)
    time.sleep(scene.dice.random() * 2)
    scene.kill(process.pid, signal.SIGINT)
    scene.end(process, 130, -signal.SIGINT)


def interrupt_twice(scene: Scene) -> None:
    """Ctrl-C twice; a Python that is already ending dies of the signal, which is 130, too."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(1, N_CALLS - 2))
    scene.kill(process.pid, signal.SIGINT)
    time.sleep(scene.dice.random() * 0.1)
    scene.kill(process.pid, signal.SIGINT)
    scene.end(process, 130, -signal.SIGINT)


def damage_journal(scene: Scene) -> None:
    """The driver is killed, and its journal loses its end or a bit of it turns."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(3, N_CALLS - 2))
    scene.kill(process.pid)
    process.wait()
    scene.nothing_is_left_running()
    [journal] = (scene.out / "journal").glob("*.arrows")
    content = bytearray(journal.read_bytes())
    if scene.dice.random() < 0.5:
        del content[scene.dice.randrange(len(content)) :]
    else:
        content[scene.dice.randrange(len(content))] ^= 1 << scene.dice.randrange(8)
    before, scene.torn = read_journal(journal)["mask_sha256"].to_pylist(), True
    journal.write_bytes(content)
    scene.end(scene.start("list"), 0, 2)  # 2: nothing at all is left
    after = Store.at(scene.out).table()["mask_sha256"].to_pylist()
    if after != before[: len(after)]:
        raise RuleBrokenError("what was read of the damaged journal is not its beginning")


def damage_parquet(scene: Scene) -> None:
    """A results file loses its end, or a bit of it turns, between two runs."""
    scene.end(scene.run(), 0)
    [file] = (scene.out / "samples").rglob("*.parquet")
    before = Store.at(scene.out).table()
    content = bytearray(file.read_bytes())
    if scene.dice.random() < 0.3:
        del content[scene.dice.randrange(len(content)) :]
    else:
        content[scene.dice.randrange(len(content))] ^= 1 << scene.dice.randrange(8)
    file.write_bytes(content)
    os.utime(file, (1e9, 1e9))  # not lately, as if it were being copied
    scene.end(scene.start("list"), 0, 2)
    scene.end(scene.run(), 0)
    after = Store.at(scene.out).table()
    after = after.filter(pc.equal(after["run_id"], before["run_id"][0]))
    if after.num_rows and not after.equals(before):
        raise RuleBrokenError("damaged results were read as if they were whole")
    if file.read_bytes() != content:
        raise RuleBrokenError("a command that reads moved or changed a damaged file")
    if not after.num_rows:
        scene.end(scene.start("compact"), 0)
        if [path.read_bytes() for path in (scene.out / "damaged").glob("*.parquet")] != [bytes(content)]:
            raise RuleBrokenError("a damaged file was not set aside as it was")
    shutil.rmtree(scene.out / "damaged", ignore_errors=True)
    for path in (scene.out / "samples").rglob(file.name):
        path.unlink()
    scene.resume(scene.run_ids[0]).wait()
    scene.torn = True


def full(scene: Scene) -> None:
    """The disk is full at some moment."""
    scene.out.mkdir()
    size_kb = scene.dice.randint(24, 700)
    scene.log.append(f"a disk of {size_kb} kB")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "none", scene.out], check=True)
    scene.end(scene.run(), 0, 2, 3)
    subprocess.run(["mount", "-o", "remount,size=64m", scene.out], check=True)


def blocked(scene: Scene) -> None:
    """The folder of results cannot be written for a while."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(1, N_CALLS - 2))
    samples = scene.out / "samples"
    samples.write_text("in the way")
    scene.end(process, 2, 3)
    samples.unlink()


def two_runs(scene: Scene) -> None:
    """Two runs measure into one store, and one of them may be killed."""
    both = scene.run(), scene.run()
    if scene.dice.random() < 0.5:
        scene.at_any_time(both[0])
        scene.kill(both[0].pid)
        both[0].wait()
    for process in both:
        scene.end(process, 0, -signal.SIGKILL)


def two_resumes(scene: Scene) -> None:
    """Two commands resume a killed run at the same time; only one of them may measure."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS - 8))
    scene.kill(process.pid)
    process.wait()
    scene.nothing_is_left_running()
    first = scene.resume(scene.run_ids[-1])
    time.sleep(scene.dice.random() * 4)
    second = scene.resume(scene.run_ids[-1])
    codes = sorted(scene.end(each, 0, 2) for each in (first, second))
    if codes[0] != 0:
        raise RuleBrokenError("neither command resumed it")


def readers(scene: Scene) -> None:
    """Other commands read, recover and compact while a run measures and is killed."""
    process = scene.run()
    at = scene.dice.randint(5, N_CALLS)
    while scene.n_begun() < at and process.poll() is None:
        if (scene.out / "samples").is_dir() or scene.run_ids:
            scene.end(scene.start(*scene.dice.choice([["list"], ["compact"], ["query", "SELECT 1 FROM samples"]])), 0)
        time.sleep(0.05)
    scene.kill(process.pid)
    process.wait()
    both = [scene.start("list"), scene.start("compact")]
    for each in both:
        scene.end(each, 0, 2)  # 2: another command is compacting


def kill_recovery(scene: Scene) -> None:
    """The driver is killed, and then, again and again, the command that puts its journal in order."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS - 2))
    scene.kill(process.pid)
    process.wait()
    for _ in range(3):
        reader = scene.start(scene.dice.choice(["list", "compact"]))
        time.sleep(0.2 + scene.dice.random())
        scene.kill(reader.pid)
        reader.wait()


def locale(scene: Scene) -> None:
    """A terminal of another encoding; the driver is killed and resumed in a third encoding."""
    scene.environ = dict(scene.dice.choice(LOCALES))
    process = scene.run()
    scene.at_any_time(process)
    scene.kill(process.pid)
    process.wait()
    scene.nothing_is_left_running()
    scene.environ = dict(scene.dice.choice(LOCALES))
    scene.end(scene.start(*scene.dice.choice([["list"], ["show"], ["report"]])), 0, 2)  # 2: there is nothing yet


def user(scene: Scene) -> None:
    """The run of a user without an account, with or without a home, is killed and resumed."""
    for path in (scene.folder, *scene.folder.rglob("*")):
        path.chmod(0o777)
    # It may read what root alone may read, such as this Python; nothing more.
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    scene.prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights]
    scene.environ = {"HOME": scene.dice.choice(["", "/", "~", "/nonexistent", str(scene.folder / "home")])}
    kill(scene)


def read_only(scene: Scene) -> None:
    """The file system of the results is read-only during the recovery of a killed run, as after a disk error."""
    scene.out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", scene.out], check=True)
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS - 2))
    scene.kill(process.pid)
    process.wait()
    scene.nothing_is_left_running()
    subprocess.run(["mount", "-o", "remount,ro", scene.out], check=True)
    scene.end(scene.start("list"), 0)
    for words in (["compact"], ["tag", "latest", "x"], ["resume", scene.run_ids[-1]]):
        scene.end(scene.start(*words), 2, 3)  # 3: what was measured until then is kept
    subprocess.run(["mount", "-o", "remount,rw", scene.out], check=True)


def locks(scene: Scene) -> None:
    """Another program holds the locks of a killed run and of the store for a while."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS - 2))
    scene.kill(process.pid)
    process.wait()
    scene.nothing_is_left_running()
    [journal] = (scene.out / "journal").glob("*.arrows")
    with journal.open("rb") as held, (scene.out / ".rewriting").open("ab") as store:
        for file in (held, store):
            fcntl.flock(file, fcntl.LOCK_EX)
        scene.end(scene.start("list"), 0)
        scene.end(scene.start("compact"), 2)
        scene.end(scene.resume(scene.run_ids[-1]), 2)


def half_copy(scene: Scene) -> None:
    """A results file is half copied when others read and compact, and whole when they are through."""
    scene.end(scene.run(), 0)
    [file] = (scene.out / "samples").rglob("*.parquet")
    content = file.read_bytes()
    name = scene.dice.choice([file.name, f".{file.name}.part", f"{file.name}.tmp", f"._{file.name}"])
    half = file.with_name(name)
    file.unlink()
    half.write_bytes(content[: scene.dice.randrange(len(content))])
    before = half.read_bytes()
    for words in (["list"], ["compact"], ["query", "SELECT 1 FROM samples"]):
        scene.end(scene.start(*words), 0)
    if half.read_bytes() != before:
        raise RuleBrokenError(f"{name}, which is being copied, was changed")
    half.unlink()
    file.write_bytes(content)


def clock(scene: Scene) -> None:
    """The clock jumps between a killed run and its end: files and the machine's start are in the future."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS - 2))
    scene.kill(process.pid)
    process.wait()
    scene.nothing_is_left_running()
    at = time.time() + scene.dice.choice([-1e9, -86_400.0, 3600.0, 1e9])
    for path in (scene.out, *scene.out.rglob("*")):
        os.utime(path, (at, at))
    seconds = str(scene.dice.choice([60, 10**5, 10**7]))
    scene.prefix = ["unshare", "--time", "--monotonic", seconds, "--boottime", seconds, "--fork", "--kill-child"]
    scene.end(scene.resume(scene.run_ids[-1]), 0)
    scene.prefix = []


def foreign_package(scene: Scene) -> None:
    """A foreign package or script is first on the path: no run measures until it is removed."""
    name, content = scene.dice.choice(FOREIGN)
    (scene.folder / "first" / name).parent.mkdir(parents=True)
    (scene.folder / "first" / name).write_text(content)
    scene.environ = {"PYTHONPATH": f"{scene.folder / 'first'}{os.pathsep}{ROOT}"}
    scene.end(scene.run(), 2)
    scene.environ = {}
    if scene.n_begun():
        raise RuleBrokenError(f"it measured with {name} in the way")


def kill_driver_of_ray(scene: Scene) -> None:
    """The driver of a run through Ray is killed."""
    process = scene.run()
    scene.at_any_time(process)
    scene.kill(process.pid)
    process.wait()


def kill_part_of_ray(scene: Scene) -> None:
    """A part of Ray dies: actor, raylet or the head's store; the run ends with an error about it."""
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, N_CALLS - 4))
    word = scene.dice.choice(["ray::Relay", "raylet/raylet", "gcs/gcs_server"])
    for each in scene.of(word)[:1]:
        scene.log.append(f"kill {word}")
        scene.kill(each.pid)
    if scene.end(process, 0, 3, 4) == 0:  # the head's store may be absent for a minute before a process needs it
        scene.nothing_failed()


def kill_child_of_ray(scene: Scene) -> None:
    """The measuring process below Ray is killed."""
    kill_child(scene)


def interrupt_ray(scene: Scene) -> None:
    """Ctrl-C of a run through Ray."""
    interrupt(scene)


def unplug_node(scene: Scene) -> None:
    """A node of a fleet of two disappears at once and returns later; the other one continues."""
    scene.join("one")
    scene.join("two")
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, 2 * N_CALLS - 20))
    for each in scene.on("two"):
        scene.kill(each.pid)
    scene.end(process, 0, 3)
    scene.one_is_lost("two")
    scene.end(scene.command("two", "node", "stop"), 0)
    scene.join("two")


def freeze_node(scene: Scene) -> None:
    """A node of a fleet of two is frozen, and thawed after the end of the run."""
    scene.join("one")
    scene.join("two")
    process = scene.run()
    scene.at_call(process, scene.dice.randint(2, 2 * N_CALLS - 20))
    asleep = scene.on("two")
    for each in asleep:
        scene.kill(each.pid, signal.SIGSTOP)
    scene.end(process, 0, 3)
    for each in asleep:
        scene.kill(each.pid, signal.SIGCONT)
    scene.one_is_lost("two")
    scene.end(scene.command("two", "node", "stop"), 0)
    scene.join("two")


def late_node(scene: Scene) -> None:
    """A run waits for a node that joins late."""
    scene.join("one")
    process = scene.run("--wait-for", "2")
    time.sleep(scene.dice.random() * 8)
    if scene.n_begun():
        raise RuleBrokenError("the run did not wait")
    scene.join("two")
    scene.finish(process)


KINDS: dict[str, Callable[[Scene], None]] = {
    each.__name__: each
    for each in (
        kill, kill_at_end, kill_child, freeze_child, accident, fallback, interrupt, interrupt_early, interrupt_twice,
        damage_journal, damage_parquet, full, blocked, two_runs, two_resumes, readers, kill_recovery,
        locale, user, read_only, locks, half_copy, clock, foreign_package,
        kill_driver_of_ray, kill_part_of_ray, kill_child_of_ray, interrupt_ray, unplug_node, freeze_node, late_node,
    )
}  # fmt: skip
NEED_ROOT = {"full", "user", "read_only", "clock"}


# ---------------------------------------------------------------- the rules


def complete(scene: Scene) -> None:
    """Resume every run until it is complete."""
    if not scene.run_ids:
        scene.end(scene.run(), 0)
    for run_id in scene.run_ids:
        scene.end(scene.resume(run_id), 3 if scene.cannot else 0)
    scene.part()


def check(scene: Scene) -> tuple[int, int]:
    """Compare the store with the log of the engine; return the numbers of finished and of lost calls."""
    scene.nothing_is_left_running()
    store = Store.at(scene.out)
    rows = store.table()
    if set(rows["workload"].to_pylist()) != {"simulated"}:
        raise RuleBrokenError("rows are not marked as simulated")
    stored = Counter(rows.filter(pc.equal(rows["phase"], "call"))["mask_sha256"].drop_null().to_pylist())
    if twice := [masks for masks, n in stored.items() if n > 1]:
        raise RuleBrokenError(f"{len(twice)} repetitions are stored twice")
    finished = scene.finished()
    n_lost = sum(masks not in stored for made in finished.values() for masks in made[:-1])
    if n_lost and not scene.torn:
        raise RuleBrokenError(f"{n_lost} finished repetitions are lost")
    if any(masks in stored for masks in scene.book("fell")):
        raise RuleBrokenError("a call of a variant that did not run is stored")
    for run_id in scene.run_ids:
        manifest = resume.read(store, run_id)
        if left := resume.left(store, manifest):
            raise RuleBrokenError(f"run {run_id} lacks {sum(len(block.tasks) for block in left)} tasks")
        _all_once(rows.filter(pc.equal(rows["run_id"], run_id)), manifest, scene.cannot)
    stray = [
        str(path.relative_to(scene.folder))
        for root in (scene.out, scene.folder / "tmp", scene.folder / "home")
        for path in root.rglob("*")
        if (path.suffix in (".tmp", ".arrows") and "damaged" not in path.parts)
        or path.name.startswith((".probe", ".unpacking", "run-"))
        or (
            path.parent.name == "tmp" and not path.name.startswith(("ray", "pymp", "cellbench-"))
        )  # logs of Ray; what its killed parts had
    ]
    if stray:
        raise RuleBrokenError(f"left behind: {stray[:5]}")
    return sum(map(len, finished.values())), n_lost


def _all_once(rows: pa.Table, manifest: resume.Manifest, cannot: set[str]) -> None:
    """Every repetition that was planned is there exactly once, but those of variants that cannot run."""
    keys = ["node", "device", "block", "role", "position", "repetition"]
    good = rows.filter(pc.and_(pc.equal(rows["status"], "ok"), pc.is_in(rows["role"], pa.array(["timed", "control"]))))
    there = Counter(tuple(row[key] for key in keys) for row in good.select(keys).to_pylist())
    planned = Counter(
        (block.node, block.device.id, block.index, task.role, task.position, repetition)
        for block in manifest.blocks
        for task in block.tasks
        if task.case.variant not in cannot
        for repetition in range(CONTROL_REPEATS if task.role == "control" else block.effort.repeats)
    )
    if there != planned:
        raise RuleBrokenError(
            f"too many {list((there - planned).items())[:3]}, too few {list((planned - there).items())[:3]}"
        )


# ---------------------------------------------------------------- many of them


@dataclass(frozen=True)
class Outcome:
    """The outcome of one scenario."""

    number: int
    kind: str
    n_commands: int
    n_finished: int = 0
    n_lost: int = 0
    broken: str | None = None


@contextmanager
def staged(kind: str, seed: int, number: int) -> Iterator[Scene]:
    """A scene with a folder of its own, gone afterwards with all that it started."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    scene = Scene(folder, random.Random(f"{seed}/{number}"), number, ray=kind.endswith("ray"))
    try:
        yield scene
    finally:
        scene.clear()
        if os.path.ismount(scene.out):
            subprocess.run(["umount", scene.out], check=True)
        shutil.rmtree(folder)


def said(path: Path) -> str:
    """The output of a command, in whatever encoding its locale has."""
    return path.read_text(errors="replace")


def play(kind: str, seed: int, number: int) -> Outcome:
    """Run one scenario and check its rules."""
    with staged(kind, seed, number) as scene:
        try:
            KINDS[kind](scene)
            complete(scene)
            return Outcome(number, kind, scene.n_commands, *check(scene))
        except Exception as error:
            output = "" if isinstance(error, RuleBrokenError) else traceback.format_exc()
            for path in sorted(scene.folder.glob("said-*.txt")):
                output += f"\n{path.name}: {said(path)[-1500:]}"
            return Outcome(number, kind, scene.n_commands, broken="\n  ".join([f"{error}", *scene.log, output]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=200, help="scenarios")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--only", type=int, help="the one scenario with this number")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    kinds = [kind for kind in args.kinds.split(",") if kind not in NEED_ROOT or os.geteuid() == 0]
    numbers = range(args.n) if args.only is None else [args.only]
    begin_s, outcomes = time.monotonic(), []
    with ThreadPoolExecutor(args.jobs) as pool:
        for outcome in pool.map(lambda number: play(kinds[number % len(kinds)], args.seed, number), numbers):
            outcomes.append(outcome)
            if outcome.broken:
                print(f"{outcome.number} {outcome.kind}: {outcome.broken}", flush=True)
    print("\n| scenario | times | commands | repetitions finished | rules broken |\n|---|---:|---:|---:|---:|")
    for kind in [*kinds, "all"]:
        of = [each for each in outcomes if kind in (each.kind, "all")]
        sums = [sum(getattr(each, name) for each in of) for name in ("n_commands", "n_finished")]
        print(f"| {kind} | {len(of)} | {sums[0]:,} | {sums[1]:,} | {sum(bool(each.broken) for each in of)} |")
    print(f"{time.monotonic() - begin_s:.0f} s")
    return int(any(each.broken for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
