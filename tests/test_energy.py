"""A fake machine that draws known power, and a fake powercap tree."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness import schema
from harness.measure.passes import energy


class Machine:
    """Draws idle_w always and busy_w more during a call; its clock moves only by sleeping and working."""

    def __init__(self, idle_w: float = 20.0, busy_w: float = 100.0, call_s: float = 2.0) -> None:
        self.idle_w, self.busy_w, self.call_s = idle_w, busy_w, call_s
        self.now_s, self.spent_j, self.queued_s = 50.0, 1e6, 0.0
        self.said: list[str] = []

    def pass_time(self, seconds: float, power_w: float) -> None:
        self.now_s += seconds
        self.spent_j += seconds * power_w

    def sleep(self, seconds: float) -> None:
        self.said.append(f"idle {seconds:g}")
        self.pass_time(seconds, self.idle_w)

    def call(self) -> None:
        self.said.append("call")
        self.queued_s += self.call_s

    def sync(self) -> None:
        self.said.append("sync")
        self.pass_time(self.queued_s, self.idle_w + self.busy_w)
        self.queued_s = 0.0

    def energy_j(self) -> float | None:
        return self.spent_j

    def measure(self, **settings: float) -> dict[str, object]:
        source = energy.EnergySource("nvml gpu", (self.energy_j,))
        return energy.energy(
            self.call, source, self.sync, clock_s=lambda: self.now_s, sleep=self.sleep, **settings
        )  # fmt: skip


def test_the_window_is_filled_with_calls_after_idling() -> None:
    machine = Machine()
    assert machine.measure() == {
        "elapsed_s": 6.0, "n_calls": 3, "energy_gross_j": pytest.approx(720.0), "energy_j": pytest.approx(600.0),
        "idle_power_w": pytest.approx(20.0), "energy_class": "sensor", "energy_method": "nvml gpu",
    }  # fmt: skip
    assert machine.said == ["sync", "idle 10", *["call", "sync"] * 3]


def test_a_call_longer_than_the_window_is_made_once() -> None:
    row = Machine(call_s=60.0).measure()
    assert (row["n_calls"], row["elapsed_s"], row["energy_j"]) == (1, 60.0, pytest.approx(6000.0))


def test_what_was_queued_before_is_not_idle() -> None:
    machine = Machine()
    machine.queued_s = 7.0
    assert machine.measure(idle_s=2.0)["idle_power_w"] == pytest.approx(20.0)


def test_less_than_idle_is_kept_as_it_was_measured() -> None:
    assert Machine(busy_w=-5.0).measure()["energy_j"] == pytest.approx(-30.0)


@pytest.mark.parametrize(
    ("silent", "gross_j", "idle_w"), [(0, 720.0, None), (1, 720.0, None), (2, None, 20.0), (3, None, 20.0)]
)
def test_joules_are_null_when_a_counter_stops_telling(silent: int, gross_j: float | None, idle_w: float | None) -> None:
    machine, reads = Machine(), iter(range(4))
    machine.energy_j = lambda: None if next(reads) == silent else machine.spent_j
    row = machine.measure()
    assert (row["energy_gross_j"], row["idle_power_w"]) == (gross_j, idle_w)
    assert row["energy_j"] is None
    assert (row["n_calls"], row["energy_method"]) == (3, "nvml gpu")


def test_the_columns_are_those_of_the_schema() -> None:
    assert Machine().measure().keys() <= set(schema.ARROW.names)


def test_what_the_call_raises_comes_out_and_the_thread_ends() -> None:
    machine = Machine()
    machine.call = lambda: 1 / 0
    n_threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        machine.measure()
    assert threading.active_count() == n_threads


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
    source = energy.find(powercap=powercap)
    assert source.method == "rapl package-0+dram-0+package-1"
    begin_j = source.energy_j()
    for folder, energy_uj in (("0", 15_000_000), ("0:0", 790_000_000), ("0:2", 1_500_000), ("1", 3_250_000)):
        (powercap / f"intel-rapl:{folder}" / "energy_uj").write_text(f"{energy_uj}\n")
    assert source.energy_j() - begin_j == pytest.approx(10.0 + 0.5 + 0.25)


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 999_000, range_uj=999_999)
    source = energy.find(powercap=tmp_path)
    begin_j, told_j = source.energy_j(), []
    for energy_uj in (999_999, 0, 500_000, 400_000):  # + 0.000999, + 1 uJ, + 0.5, and once around less 0.1
        file.write_text(str(energy_uj))
        told_j.append(source.energy_j() - begin_j)
    assert told_j == pytest.approx([0.000999, 0.001, 0.501, 1.401])


def test_a_long_call_does_not_hide_a_counters_second_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=999_999)
    source, seen = energy.find(powercap=tmp_path), threading.Semaphore(0)
    read = source.energy_j
    monkeypatch.setattr(energy, "READ_EVERY_S", 0.001)
    monkeypatch.setattr(energy.EnergySource, "energy_j", lambda _: (read(), seen.release())[0])

    def call() -> None:
        for energy_uj in (600_000, 200_000, 800_000, 400_000):
            write_whole(file, energy_uj)
            while seen.acquire(blocking=False):
                pass
            for _ in range(2):  # the first look may have begun before the figure was there
                assert seen.acquire(timeout=10)

    row = energy.energy(call, source, lambda: None, window_s=0.0, idle_s=0.0, sleep=lambda _: None)
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
    assert energy.find(powercap=powercap) is None


def test_a_processor_taken_offline_stops_telling(powercap: Path) -> None:
    source = energy.find(powercap=powercap)
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert source.energy_j() is None


def test_a_machine_without_counters_has_no_source(tmp_path: Path) -> None:
    assert energy.find(powercap=tmp_path / "nowhere") is None


# ------------------------------------------------------------------ a GPU


class Gpu:
    def __init__(self, counted_j: float | None) -> None:
        self.counted_j = counted_j

    def energy_j(self) -> float | None:
        return self.counted_j


def test_a_gpu_alone(tmp_path: Path) -> None:
    source = energy.find(Gpu(12.5), "cuda:0", tmp_path)
    assert (source.method, source.energy_j()) == ("nvml gpu", 12.5)


def test_a_gpu_and_the_processor_that_feeds_it(powercap: Path) -> None:
    gpu = Gpu(12.5)
    source = energy.find(gpu, "cuda:0", powercap)
    begin_j = source.energy_j()
    gpu.counted_j = 20.0
    (powercap / "intel-rapl:0" / "energy_uj").write_text("6000000")
    assert source.method == "nvml gpu + rapl package-0+dram-0+package-1"
    assert source.energy_j() - begin_j == pytest.approx(7.5 + 1.0)


def test_a_gpu_that_does_not_count_leaves_no_source_of_another_kind(powercap: Path) -> None:
    assert energy.find(Gpu(None), "cuda:0", powercap) is None


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_an_accelerator_that_nobody_knows_is_not_charged_to_the_processor(powercap: Path, device: str) -> None:
    assert energy.find(None, device, powercap) is None
