"""Blocks in processes of their own: the simulated engine with its accidents, strange interpreters, real cellpose."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from harness import schema
from harness.engines import environments, overlays, registry, start
from harness.engines.environments import EngineSpec
from harness.engines.simulated.script import FOLDER
from harness.errors import CellbenchError
from harness.machine import probe
from harness.measure import greeting, parent
from harness.measure.block import Finished
from harness.measure.greeting import Hello
from harness.measure.wire import DevicesRequest, Order
from harness.plan.cases import Task, control
from tests.conftest import RUN_ID, case, sleep

Play = Callable[..., Path]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Writes the script of the simulated engine, for this process and for those that it starts."""
    monkeypatch.setenv(FOLDER, str(tmp_path))

    def write(**fields: object) -> Path:
        (tmp_path / "script.json").write_text(json.dumps({"call_s": 0.001, "patience_s": 30.0} | fields))
        return tmp_path / "witness"

    return write


def samples_of(order: Order) -> list[schema.Sample]:
    """What a block in processes of its own measured, as the store takes it."""
    samples = [each for each in parent.perform(order) if not isinstance(each, Finished)]
    schema.table(samples)
    return samples


def ends(samples: Sequence[schema.Sample]) -> list[tuple[str, str, str]]:
    """What became of each task: crop, status and type of the error; a good one by its last repetition."""
    found = [s for s in samples if s["status"] != "ok" or (s["stop_reason"] and s["role"] == "timed")]
    return [(s["crop"], s["status"], s.get("error_type") or "") for s in found]


# ------------------------------------------------------------------ processes that live


@pytest.mark.parametrize("setting", ["1", None])
def test_threads_are_ours_whatever_ray_exports(monkeypatch: pytest.MonkeyPatch, setting: str | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting) if setting else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    env = parent.environment(6)
    assert {env[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")} == {"6"}


def test_a_block_is_measured_in_a_process_of_its_own(order: Callable[..., Order], play: Play) -> None:
    witness = play()
    made = order(sleep(64), sleep(32))
    samples = samples_of(replace(made, block=replace(made.block, threads=3)))
    assert ends(samples) == [("64", "ok", ""), ("32", "ok", "")]
    assert {s["openmp_threads"] for s in samples} == {"3"}
    answer = [line.split() for line in witness.read_text().splitlines()]
    assert len({pid for _, pid, *_ in answer}) == 1
    assert int(answer[0][1]) != os.getpid()
    finished = [masks for word, _, *rest in answer if word == "end" for masks in rest]
    assert finished == [s["mask_sha256"] for s in samples if s["phase"] == "call"]


def test_the_next_repetition_begins_when_it_is_asked_for(order: Callable[..., Order], play: Play) -> None:
    witness, running = play(), parent.perform(order(sleep(32)))
    for sample in running:
        if isinstance(sample, Finished) or sample["phase"] != "call":
            continue
        n_begun = witness.read_text().count("begin")
        assert n_begun == 1 + {"cold": 0, "warmup": 1, "timed": 2 + sample["repetition"]}[sample["role"]]


def test_the_devices_are_those_of_the_engine(play: Play) -> None:
    play(devices={"cuda": 2})
    assert [device.id for device in parent.devices("simulated")] == ["cuda:0", "cuda:1", "cpu"]


def test_an_abandoned_block_leaves_no_process(order: Callable[..., Order], play: Play) -> None:
    play()
    running = parent.perform(order(sleep(32)))
    next(running)
    child = _only_child()
    running.close()
    assert not psutil.pid_exists(child)


# ------------------------------------------------------------------ processes that do not


@pytest.mark.parametrize(
    ("accident", "patience_s", "status", "error"),
    [
        ("raise", 30, "crash", "RuntimeError"), ("memory", 30, "oom_host", "MemoryError"),
        ("device", 30, "oom_device", "SimulatedMemoryError"), ("exit", 30, "crash", "exit 9"),
        ("segfault", 30, "crash", "SIGSEGV"), ("kill", 30, "oom_host", "SIGKILL"),
        ("hang", 2, "timeout", "TimeoutError"), ("stop", 2, "timeout", "TimeoutError"),
    ],
)  # fmt: skip
def test_what_a_call_does_to_its_process_is_one_row_and_the_others_go_on(
    order: Callable[..., Order], play: Play, accident: str, patience_s: float, status: str, error: str
) -> None:
    play(accident=accident, at_height_px=64, patience_s=patience_s)
    samples = samples_of(order(sleep(48), sleep(64), sleep(32)))
    assert ends(samples) == [("48", "ok", ""), ("64", status, error), ("32", "ok", "")]
    [bad] = [s for s in samples if s["status"] != "ok"]
    assert bad["elapsed_s"] is None
    assert bad["error_message"] or accident in ("exit", "segfault")


def test_a_process_that_dies_again_and_again_takes_one_task_each_time(order: Callable[..., Order], play: Play) -> None:
    witness = play(accident="exit", at_height_px=32)  # the smallest is every process's first call
    assert ends(samples_of(order(sleep(64), sleep(32), sleep(48)))) == [
        ("64", "crash", "exit 9"), ("32", "crash", "exit 9"), ("48", "ok", ""),
    ]  # fmt: skip
    assert witness.read_text().count("python") == 3


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # which is what is played here
def test_a_process_that_nobody_can_kill_ends_the_block(
    order: Callable[..., Order], play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(accident="hang", at_height_px=64, patience_s=1.0)
    spared, really = [], os.killpg
    monkeypatch.setattr(parent, "DEATH_S", 0.2)
    monkeypatch.setattr(parent.os, "killpg", lambda pid, _: spared.append(pid))
    try:
        samples = samples_of(order(sleep(64), sleep(128)))
    finally:
        for pid in set(spared):
            with suppress(ProcessLookupError):  # it ended by itself, as its stdin was closed
                really(pid, signal.SIGKILL)
    assert ends(samples) == [("64", "timeout", "TimeoutError"), ("128", "timeout", "TimeoutError")]
    assert all("restart the machine" in s["error_message"] for s in samples if s["status"] != "ok")
    assert len(set(spared)) == 1  # no other process was started on that device


# ------------------------------------------------------------------ interpreters and environments


def program(folder: Path, text: str) -> str:
    """A shell script in the place of an interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def greets(**fields: object) -> str:
    """A process that greets so, and hears nothing."""
    hello = {"wire": greeting.VERSION, "harness": "9.9", "engine": "simulated", "engine_version": "9.9"}
    return f"echo {shlex.quote(json.dumps(hello | fields))}; exec sleep 600"


PYTHON = f'exec {shlex.quote(sys.executable)} "$@"'
REFUSALS = {
    "an older cellbench": (greets(wire=0), "cellbench 9.9 there uses version 0 of the protocol, not"),
    "another greeting": (greets(wire="one"), "the process there is not a measuring process of cellbench"),
    "a program that prints": ("echo hello; exec sleep 600", "not a measuring process of cellbench: 'hello'"),
    "chatter before the greeting": (f"echo chatter; {PYTHON}", "not a measuring process of cellbench: 'chatter'"),
    "a list": ("echo '[1]'; exec sleep 600", "the process there is not a measuring process"),
    "no packages": (PYTHON.replace('"$@"', '-S "$@"'), "is missing there"),
    "no packages and deaf": (PYTHON.replace('"$@"', '-I -S "$@"'), "is missing there"),
    "an older Python": (greets(lacks="Python 3.11"), "Python 3.11 is missing there"),
    "no engine": (greets(engine_version=None), "simulated is not installed there"),
    "a program that ends": ("exit 0", "simulated could not be started"),
    "a program that fails": ("echo no such option >&2; exit 2", "no such option"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_an_interpreter_that_cannot_measure_is_refused_by_name_with_a_fix(kind: str, tmp_path: Path) -> None:
    text, what = REFUSALS[kind]
    python = program(tmp_path, text)
    with pytest.raises(CellbenchError) as raised:
        parent.ask(DevicesRequest(), "simulated", python)
    assert what in str(raised.value)
    assert python in raised.value.where
    assert raised.value.fix


@pytest.mark.parametrize("kind", ["an older cellbench", "a program that prints", "no packages", "no engine"])
def test_a_block_is_refused_like_a_question(kind: str, tmp_path: Path, order: Callable[..., Order]) -> None:
    made = replace(order(sleep(32)), engine_python=program(tmp_path, REFUSALS[kind][0]))
    with pytest.raises(CellbenchError, match=REFUSALS[kind][1]):
        list(parent.perform(made))


def test_a_program_of_no_kind_at_all(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("no program")
    path.chmod(0o755)
    with pytest.raises(CellbenchError, match="cannot be started: Exec format error"):
        parent.devices("simulated", str(path))
    with pytest.raises(CellbenchError, match="there is no interpreter"):
        parent.devices("simulated", str(tmp_path / "nowhere"))


def test_an_unknown_engine_is_refused_by_name() -> None:
    with pytest.raises(CellbenchError, match="there is no engine 'nosuch'") as raised:
        parent.devices("nosuch")
    assert "cellpose3" in raised.value.fix


@pytest.mark.parametrize(
    ("version", "what"), [("4.0.1", "needs cellpose>=3.1.1,<4, but 4.0.1 is installed there"), ("3.0.9", "but 3.0.9")]
)
def test_another_cellpose_in_the_overlay_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, what: str
) -> None:
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path))
    there = environments.overlay("cellpose3")
    (there / f"cellpose-{version}.dist-info").mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: cellpose\nVersion: {version}\n"
    (there / f"cellpose-{version}.dist-info" / "METADATA").write_text(metadata)
    with pytest.raises(CellbenchError, match=what) as raised:
        parent.devices("cellpose3")
    assert str(there) in raised.value.where
    assert raised.value.fix == overlays.how_to_install(registry.engine("cellpose3"))


def test_another_interpreter_gets_this_program_and_nothing_that_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harness").symlink_to(start.PACKAGE)
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.setattr(start, "__file__", str(tmp_path / "harness" / "engines" / "start.py"))
    monkeypatch.chdir(tmp_path)
    assert [device.id for device in parent.devices("simulated", sys.executable)] == ["cpu"]


def test_every_engine_knows_its_version_here_or_what_to_install() -> None:
    for name in registry.names():
        engine = registry.engine(name)
        assert engine.version() or engine.requirement


def test_a_greeting_comes_back_as_it_was_and_later_words_are_no_harm() -> None:
    hello = Hello(greeting.VERSION, "1.0", "cellpose3", "3.1.1", "numpy")
    assert greeting.read(hello.line()) == hello
    assert greeting.read(json.dumps(asdict(hello) | {"wire": 7, "more": 1})) == replace(hello, wire=7)


def test_a_process_that_dies_before_it_greets_says_why() -> None:
    spec = EngineSpec("simulated", sys.executable)
    with parent._Child(spec, DevicesRequest(), {"PYTHONHOME": "/nowhere"}) as child:
        assert list(child.answers(lambda: 60.0)) == []
    assert child.returncode == 1
    assert "encodings" in child.error_text


def test_a_question_to_a_hung_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "ANSWER_S", 0.5)
    for text in ("exec sleep 600", greets()):
        with pytest.raises(CellbenchError, match="took more than"):
            parent.devices("simulated", program(tmp_path, text))


# ------------------------------------------------------------------ the real cellpose, in its own process


@pytest.fixture
def real(order: Callable[..., Order]) -> Order:
    found = registry.engine("cellpose3").resolve("cyto3", "standin")
    constants = {"schema_version": schema.VERSION, "source": "measured", "run_id": RUN_ID, **found.columns}
    folder = str(found.paths[0].parent)
    made = order(case(96), case(128, "article"), folder=folder, constants=constants)
    return replace(made, block=replace(made.block, threads=probe.n_cores()))


@pytest.mark.slow
def test_real_block(real: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray exports it
    samples = samples_of(real)
    assert {s["status"] for s in samples} == {"ok"}
    assert sum(s["role"] == "timed" for s in samples) == 4
    for sample in samples[1:]:
        assert sample["torch_threads"] == real.block.threads == sample["opencv_threads"]
        assert sample["openmp_threads"] == str(real.block.threads)
    timed = [s for s in samples if s["role"] == "timed"]
    assert {s["device_used"] for s in timed} == {"cpu"}
    assert {s["diam_labels_px"] for s in timed} == {30.0}
    for crop in ("96", "128"):
        assert len({s["mask_sha256"] for s in timed if s["crop"] == crop}) == 1


@pytest.mark.slow
def test_real_passes(real: Order) -> None:
    roles = ("control", "ceiling", "stages", "memory", "masks")
    small = control(case(96))
    todo = tuple(Task(role, small if role in ("control", "ceiling") else case(96), 0) for role in roles)
    samples = samples_of(replace(real, block=replace(real.block, tasks=todo)))
    assert {s["status"] for s in samples} == {"ok"}, [s["error_message"] for s in samples if s["status"] != "ok"]
    by_role = {role: [s for s in samples if s["role"] == role] for role in roles}
    assert all(by_role.values())
    assert {s["agreement"] for s in by_role["masks"]} == {"identical"}
    [*parts, total] = [s for s in by_role["stages"] if s["repetition"] == 0]
    claimed_s = sum(part["elapsed_s"] for part in parts if part["stage"] != "other")
    assert 0.97 * total["elapsed_s"] <= claimed_s <= total["elapsed_s"]
    assert by_role["memory"][0]["peak_rss_bytes"] > 100_000_000
    assert {s["n_cells"] for s in by_role["control"]} != {0}


@pytest.mark.slow
def test_a_killed_process_is_a_row_and_the_others_go_on(real: Order) -> None:
    samples = []
    for sample in parent.perform(real):
        if isinstance(sample, Finished):
            continue
        samples.append(sample)
        if sample["phase"] == "model_load" and len(samples) < 5:
            os.kill(_only_child(), signal.SIGKILL)
    assert ends(samples) == [("96", "oom_host", "SIGKILL"), ("128", "ok", "")]


@pytest.mark.slow
def test_this_machine_has_at_least_its_cpu() -> None:
    cpu = parent.devices()[-1]
    assert (cpu.id, cpu.name) == ("cpu", probe.cpu_model())


def _only_child() -> int:
    [child] = [each for each in psutil.Process().children() if start.__file__ in each.cmdline()]
    return child.pid
