"""A fake machine that draws known power, and a fake powercap tree."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from harness import schema
from harness.engines.simulated.engine import Simulated
from harness.engines.simulated.script import Script
from harness.machine import accelerators, energy_counters
from harness.machine.accelerators import ACCELERATORS, Accelerator, Device
from harness.measure import block
from harness.measure.passes import energy
from harness.measure.wire import Order
from harness.plan.cases import Case, Task
from tests.test_interference import FakeGpu

SEEN = FakeGpu()
CPU, CUDA = ACCELERATORS["cpu"], ACCELERATORS["cuda"]


class Machine:
    """Draws idle_w always and busy_w more during a call; its clock moves only by sleeping and working."""

    def __init__(self, idle_w: float = 20.0, busy_w: float = 100.0, call_s: float = 2.0) -> None:
        self.idle_w, self.busy_w, self.call_s = idle_w, busy_w, call_s
        self.now_s, self.spent_j, self.queued_s = 50.0, 1e6, 0.0
        self.log: list[str] = []

    def pass_time(self, seconds: float, power_w: float) -> None:
        self.now_s += seconds
        self.spent_j += seconds * power_w

    def sleep(self, seconds: float) -> None:
        self.log.append(f"idle {seconds:g}")
        self.pass_time(seconds, self.idle_w)

    def call(self) -> None:
        self.log.append("call")
        self.queued_s += self.call_s

    def sync(self) -> None:
        self.log.append("sync")
        self.pass_time(self.queued_s, self.idle_w + self.busy_w)
        self.queued_s = 0.0

    def energy_j(self) -> float | None:
        return self.spent_j

    def source(self) -> energy_counters.EnergySource:
        return energy_counters.EnergySource("nvml gpu", (self.energy_j,))

    def idle_power_w(self, span_s: float = 10.0) -> float | None:
        return energy_counters.idle_power_w(self.source(), span_s, lambda: self.now_s, self.sleep)

    def windows(self, idle_w: float | None = 20.0, n_windows: int = 3) -> list[dict[str, Any]]:
        made = energy.windows(self.call, self.source(), self.sync, idle_w, n_windows, 5.0, lambda: self.now_s)
        return list(made)


def test_the_windows_are_filled_with_calls() -> None:
    machine = Machine()
    window = {
        "elapsed_s": 6.0, "n_calls": 3, "energy_gross_j": pytest.approx(720.0), "energy_j": pytest.approx(600.0),
        "idle_power_w": 20.0, "energy_class": "sensor", "energy_method": "nvml gpu",
    }  # fmt: skip
    assert machine.windows() == [window] * 3
    assert machine.log == ["sync", *["call", "sync"] * 9]


def test_windows_that_differ_are_told_apart() -> None:
    machine = Machine()
    rows = energy.windows(machine.call, machine.source(), machine.sync, 20.0, 3, 5.0, lambda: machine.now_s)
    gross_j = []
    for machine.busy_w, row in zip((100.0, 130.0, 90.0), rows, strict=True):
        gross_j.append(row["energy_gross_j"] / row["n_calls"])
    # The second and the third draw what was set after the window before.
    assert gross_j == pytest.approx([240.0, 240.0, 300.0])


def test_idle_is_measured_over_a_span_of_rest() -> None:
    machine = Machine(idle_w=33.0)
    assert machine.idle_power_w(10.0) == pytest.approx(33.0)
    assert machine.log == ["idle 10"]


def test_a_context_that_draws_power_is_not_idle() -> None:
    machine = Machine(idle_w=75.0)
    idle_w = machine.idle_power_w()
    machine.idle_w = 122.0  # the device was touched, and its clocks stay up
    [row] = machine.windows(idle_w, n_windows=1)
    assert row["energy_gross_j"] == pytest.approx(6 * 222.0)
    assert row["energy_j"] == pytest.approx(6 * (222.0 - 75.0))


def test_a_call_longer_than_the_window_is_made_once_a_window() -> None:
    rows = Machine(call_s=60.0).windows(n_windows=2)
    assert [(row["n_calls"], row["elapsed_s"], row["energy_j"]) for row in rows] == [
        (1, 60.0, pytest.approx(6000.0))
    ] * 2


def test_what_was_queued_before_is_in_no_window() -> None:
    machine = Machine()
    machine.queued_s = 7.0
    assert machine.windows(n_windows=1)[0]["elapsed_s"] == 6.0


def test_less_than_idle_is_kept_as_it_was_measured() -> None:
    assert Machine(busy_w=-5.0).windows()[0]["energy_j"] == pytest.approx(-30.0)


@pytest.mark.parametrize("silent", range(4))
def test_joules_are_null_where_a_counter_stops_telling(silent: int) -> None:
    machine, reads = Machine(), iter(range(4))
    machine.energy_j = lambda: None if next(reads) == silent else machine.spent_j
    rows = machine.windows(n_windows=2)
    answer = [row["energy_gross_j"] is not None for row in rows]
    assert answer == [row["energy_j"] is not None for row in rows] == [silent // 2 != 0, silent // 2 != 1]
    assert [(row["n_calls"], row["energy_method"]) for row in rows] == [(3, "nvml gpu")] * 2


@pytest.mark.parametrize("silent", range(2))
def test_a_counter_that_stops_telling_gives_no_idle_power(silent: int) -> None:
    machine, reads = Machine(), iter(range(2))
    machine.energy_j = lambda: None if next(reads) == silent else machine.spent_j
    assert machine.idle_power_w() is None


def test_gross_energy_is_told_where_idle_is_unknown() -> None:
    [row] = Machine().windows(None, n_windows=1)
    assert (row["energy_gross_j"], row["energy_j"], row["idle_power_w"]) == (pytest.approx(720.0), None, None)


def test_the_columns_are_those_of_the_schema() -> None:
    assert Machine().windows()[0].keys() <= set(schema.ARROW.names)


def test_what_the_call_raises_comes_out_and_the_thread_ends() -> None:
    machine = Machine()
    machine.call = lambda: 1 / 0
    n_threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        machine.windows()
    assert threading.active_count() == n_threads


# ------------------------------------------------------------------ the pass of a block


class Watched(Simulated):
    """The simulated engine; it notes when it starts, and what its device and its driver are asked for."""

    def __init__(self, uuid: str | None) -> None:
        super().__init__(Script(call_s=0.0))
        self.device, self.log = Device("cuda", 0, "simulated", uuid), []

    def accelerator(self, device: str) -> Accelerator:
        found = super().accelerator(device)
        found.monitor = lambda _device, uuid=None: self.log.append(f"monitor {uuid}") or SEEN
        found.synchronizer = lambda _device: lambda: self.log.append("touched")
        return found

    def start(self, *arguments: Any) -> None:
        self.log.append("started")
        super().start(*arguments)


@pytest.fixture
def energy_rows(order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Performs a block with one energy task on an engine's device; the rows of that task."""
    monkeypatch.setattr(energy, "WINDOW_S", 0.0)  # a call a window

    def perform(
        engine: Watched, source: energy_counters.EnergySource | None, earlier_s: tuple[float, ...] = ()
    ) -> list[dict[str, Any]]:
        monkeypatch.setattr(energy_counters, "find", lambda _accelerator, _monitor: source)
        monkeypatch.setattr(energy_counters, "idle_power_w", lambda _: engine.log.append("rest") or 75.0)
        todo = Task("energy", Case("32", 32, 32, "standard", model="sleep"), 0, earlier_s)
        planned = replace(order(todo, device=engine.device).block, engine="simulated")
        samples = block.samples(order(todo, block=planned), engine)
        return [row for row in samples if isinstance(row, dict) and row["role"] == "energy"]

    return perform


COUNTER = energy_counters.EnergySource("nvml gpu", (count(0.0, 10.0).__next__,))


def test_rest_comes_before_the_device_is_touched_and_each_window_is_a_row(
    energy_rows: Callable[..., list[dict[str, Any]]],
) -> None:
    engine = Watched("5f0b")
    rows = energy_rows(engine, COUNTER)
    assert engine.log[:4] == ["monitor 5f0b", "rest", "started", "touched"]
    assert [(row["repetition"], row["status"], row["n_calls"]) for row in rows] == [(i, "ok", 1) for i in range(3)]
    assert {(row["energy_gross_j"], row["idle_power_w"]) for row in rows} == {(10.0, 75.0)}


def test_a_device_without_a_uuid_is_known_to_its_driver_once_it_is_touched(
    energy_rows: Callable[..., list[dict[str, Any]]],
) -> None:
    engine = Watched(None)
    energy_rows(engine, COUNTER)
    assert engine.log.index("rest") < engine.log.index("touched") < engine.log.index("monitor None")


def test_windows_from_before_an_interruption_are_not_made_again(
    energy_rows: Callable[..., list[dict[str, Any]]],
) -> None:
    assert [row["repetition"] for row in energy_rows(Watched("5f0b"), COUNTER, (5.0, 5.1))] == [2]


def test_without_a_counter_the_row_tells_it_and_nobody_rests(energy_rows: Callable[..., list[dict[str, Any]]]) -> None:
    engine = Watched("5f0b")
    [row] = energy_rows(engine, None)
    assert (row["status"], row["elapsed_s"]) == ("skipped", None)
    assert "counter" in row["error_message"]
    assert "rest" not in engine.log


# ------------------------------------------------------------------ RAPL

RANGE_UJ = 262_143_328_850  # of a Xeon's package


def zone(powercap: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    (powercap / folder).mkdir(parents=True)
    (powercap / folder / "name").write_text(name + "\n")
    (powercap / folder / "energy_uj").write_text(f"{energy_uj}\n")
    (powercap / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return powercap / folder / "energy_uj"


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two sockets with everything that the kernel can list, most of which must not be added."""
    (tmp_path / "intel-rapl").mkdir()  # the control type, without a counter
    for folder, name, energy_uj in (
        ("intel-rapl:0", "package-0", 5_000_000),
        ("intel-rapl:0:0", "core", 700_000_000),
        ("intel-rapl:0:1", "uncore", 700_000_000),
        ("intel-rapl:0:2", "dram", 1_000_000),
        ("intel-rapl:1", "package-1", 3_000_000),
        ("intel-rapl:2", "psys", 900_000_000),
        ("intel-rapl-mmio:0", "package-0", 5_000_000),
    ):
        zone(tmp_path, folder, name, energy_uj)
    return tmp_path


def test_packages_and_their_memory_are_added_and_nothing_twice(powercap: Path) -> None:
    source = energy_counters.find(CPU, powercap=powercap)
    assert source.method == "rapl package-0+dram-0+package-1"
    begin_j = source.energy_j()
    for folder, energy_uj in (("0", 15_000_000), ("0:0", 790_000_000), ("0:2", 1_500_000), ("1", 3_250_000)):
        (powercap / f"intel-rapl:{folder}" / "energy_uj").write_text(f"{energy_uj}\n")
    assert source.energy_j() - begin_j == pytest.approx(10.0 + 0.5 + 0.25)


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 999_000, range_uj=999_999)
    source = energy_counters.find(CPU, powercap=tmp_path)
    begin_j, told_j = source.energy_j(), []
    for energy_uj in (999_999, 0, 500_000, 400_000):  # + 0.000999, + 1 uJ, + 0.5, and once around less 0.1
        file.write_text(str(energy_uj))
        told_j.append(source.energy_j() - begin_j)
    assert told_j == pytest.approx([0.000999, 0.001, 0.501, 1.401])


def test_a_long_call_does_not_hide_a_counters_second_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=999_999)
    source, seen = energy_counters.find(CPU, powercap=tmp_path), threading.Semaphore(0)
    read = source.energy_j
    monkeypatch.setattr(energy, "READ_EVERY_S", 0.001)
    monkeypatch.setattr(energy_counters.EnergySource, "energy_j", lambda _: (read(), seen.release())[0])

    def call() -> None:
        for energy_uj in (600_000, 200_000, 800_000, 400_000):
            write_whole(file, energy_uj)
            while seen.acquire(blocking=False):
                pass
            for _ in range(2):  # the first look may have begun before the figure was there
                assert seen.acquire(timeout=10)

    [row] = energy.windows(call, source, lambda: None, None, n_windows=1, window_s=0.0)
    assert row["energy_gross_j"] == pytest.approx(2.4)


def write_whole(file: Path, value: int) -> None:
    """Put a figure into a file that another thread reads, without an empty moment."""
    beside = file.with_name("new")
    beside.write_text(str(value))
    beside.replace(file)


def test_a_counter_that_only_root_may_read_is_no_source(powercap: Path) -> None:
    file = powercap / "intel-rapl:1" / "energy_uj"
    file.unlink()
    file.mkdir()  # cannot be read by anybody, root included
    assert energy_counters.find(CPU, powercap=powercap) is None


def test_a_processor_taken_offline_stops_telling(powercap: Path) -> None:
    source = energy_counters.find(CPU, powercap=powercap)
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert source.energy_j() is None


def test_a_machine_without_counters_has_no_source(tmp_path: Path) -> None:
    assert energy_counters.find(CPU, powercap=tmp_path / "nowhere") is None


# ------------------------------------------------------------------ a GPU


class Gpu:
    name = "nvml"

    def __init__(self, counted_j: float | None) -> None:
        self.counted_j = counted_j

    def energy_j(self) -> float | None:
        return self.counted_j


def test_a_gpu_alone(tmp_path: Path) -> None:
    source = energy_counters.find(CUDA, Gpu(12.5), tmp_path)
    assert (source.method, source.energy_j()) == ("nvml gpu", 12.5)


def test_a_gpu_and_the_processor_that_feeds_it(powercap: Path) -> None:
    gpu = Gpu(12.5)
    source = energy_counters.find(CUDA, gpu, powercap)
    begin_j = source.energy_j()
    gpu.counted_j = 20.0
    (powercap / "intel-rapl:0" / "energy_uj").write_text("6000000")
    assert source.method == "nvml gpu + rapl package-0+dram-0+package-1"
    assert source.energy_j() - begin_j == pytest.approx(7.5 + 1.0)


def test_a_gpu_that_does_not_count_leaves_no_source_of_another_kind(powercap: Path) -> None:
    assert energy_counters.find(CUDA, Gpu(None), powercap) is None


@pytest.mark.parametrize("backend", accelerators.GPUS)
def test_an_accelerator_that_nobody_knows_is_not_charged_to_the_processor(powercap: Path, backend: str) -> None:
    assert energy_counters.find(ACCELERATORS[backend], None, powercap) is None


def test_the_method_names_the_interface_of_the_driver(tmp_path: Path) -> None:
    gpu = Gpu(1.0)
    gpu.name = "amdsmi"
    assert energy_counters.find(ACCELERATORS["rocm"], gpu, tmp_path).method == "amdsmi gpu"
