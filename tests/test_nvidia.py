"""The NVIDIA adapter, against recorded answers behind the real library's names and signatures."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from harness import schema
from harness.machine import nvidia
from harness.machine.accelerators.base import LIVE

UUID = "GPU-5f0b1c2d-0000-1111-2222-333344445555"
FOREIGN_PID = 2**22 + 7  # above the largest that Linux gives

ANSWERS: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlSystemGetDriverVersion": "580.82.07",
    "nvmlSystemGetCudaDriverVersion_v2": 13000,
    "nvmlDeviceGetName": "NVIDIA GeForce RTX 4070",
    "nvmlDeviceGetUUID": UUID,
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=12_878_610_432, free=1, used=2),
    "nvmlDeviceGetMaxClockInfo": 3105,
    "nvmlDeviceGetEnforcedPowerLimit": 200_000,
    "nvmlDeviceGetMaxPcieLinkGeneration": 4,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetEccMode": pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
    "nvmlDeviceGetMigMode": [0, 1],
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetClockInfo": 2715,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetPowerUsage": 187_450,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetComputeRunningProcesses_v3": [SimpleNamespace(pid=os.getpid())],
    "nvmlDeviceGetTotalEnergyConsumption": 123_456_789,
}
REFUSED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


class FakeNvml:
    """NVML with recorded answers; an answer that is an error is raised, one that is a function is called."""

    def __init__(self, **answers: Any) -> None:
        self.answers = ANSWERS | answers

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if not name.startswith("nvml"):
            return real

        def answer(*arguments: Any) -> Any:
            inspect.signature(real).bind(*arguments)
            given = self.answers[name]
            if isinstance(given, Exception):
                raise given
            return given(*arguments) if callable(given) else given

        return answer


def gpu(**answers: Any) -> nvidia.Gpu:
    return nvidia.Gpu(FakeNvml(**answers), "handle", frozenset({os.getpid(), os.getppid()}))


def running(*pids: int) -> dict[str, Any]:
    return {"nvmlDeviceGetComputeRunningProcesses_v3": [SimpleNamespace(pid=pid) for pid in pids]}


def test_facts_are_in_units_and_what_the_gpu_lacks_is_null() -> None:
    assert gpu().facts() == {
        "gpu_name": "NVIDIA GeForce RTX 4070",
        "gpu_uuid": UUID,
        "gpu_driver_version": "580.82.07",
        "gpu_cuda_driver_version": "13.0",
        "gpu_memory_bytes": 12_878_610_432,
        "gpu_max_mhz": 3105,
        "gpu_power_limit_w": 200.0,
        "gpu_pcie": "gen4 x16",
        "gpu_ecc": None,
        "gpu_mig": False,
        "gpu_persistence": True,
    }


def test_a_gpu_that_tells_nothing_gives_nulls() -> None:
    silent = gpu(**dict.fromkeys(ANSWERS, REFUSED), nvmlDeviceGetCurrentClocksThrottleReasons=REFUSED)
    assert set(silent.facts().values()) == {None}
    assert set(silent.live().values()) == {None}
    assert (silent.is_idle(), silent.energy_j()) == (None, None)


def test_all_gpus_of_the_machine_are_known_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"nvmlDeviceGetCount": 2, "nvmlDeviceGetHandleByIndex": lambda i: i, "nvmlDeviceGetUUID": "GPU-{}".format}
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(**two))
    assert nvidia.uuids() == ["GPU-0", "GPU-1"]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(**two, nvmlInit=REFUSED))
    assert nvidia.uuids() == []


def test_live_readings_are_columns() -> None:
    assert gpu().live() == {
        "gpu_mhz": 2715,
        "gpu_temperature_c": 61,
        "gpu_power_w": 187.45,
        "gpu_throttle": "",
        "foreign_gpu_processes": 0,
    }
    assert tuple(gpu().live()) == LIVE
    assert set(LIVE) <= set(schema.ARROW.names)


def test_energy_is_in_joules() -> None:
    assert gpu().energy_j() == 123_456.789


@pytest.mark.parametrize(("bits", "names", "idle"), [
    (0x000, "", False),
    (0x001, "", True),
    (0x004, "sw_power_cap", False),
    (0x048, "hw_slowdown hw_thermal", False),
    (0x1FE, "applications_clocks sw_power_cap hw_slowdown sync_boost sw_thermal hw_thermal hw_power_brake "
            "display_clock", False),
])  # fmt: skip
def test_reasons_have_names_and_idle_is_none_of_them(bits: int, names: str, idle: bool) -> None:
    slowed = gpu(nvmlDeviceGetCurrentClocksEventReasons=bits)
    assert slowed.live()["gpu_throttle"] == names
    assert slowed.is_idle() is idle


def test_the_bits_are_nvmls() -> None:
    names = {
        "applications_clocks": "ApplicationsClocksSetting", "sw_power_cap": "SwPowerCap", "sync_boost": "SyncBoost",
        "hw_slowdown": "HwSlowdown", "sw_thermal": "SwThermalSlowdown", "hw_thermal": "HwThermalSlowdown",
        "hw_power_brake": "HwPowerBrakeSlowdown", "display_clock": "DisplayClockSetting",
    }  # fmt: skip
    real = {getattr(pynvml, f"nvmlClocksEventReason{name}"): ours for ours, name in names.items()}
    assert real == nvidia.REASONS
    assert pynvml.nvmlClocksEventReasonGpuIdle == nvidia.IDLE


def test_an_old_driver_is_asked_by_the_older_name() -> None:
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    old = gpu(nvmlDeviceGetCurrentClocksEventReasons=missing, nvmlDeviceGetCurrentClocksThrottleReasons=0x20)
    assert old.live()["gpu_throttle"] == "sw_thermal"


def test_other_processes_are_counted_but_not_our_family() -> None:
    assert gpu(**running(os.getpid(), os.getppid())).live()["foreign_gpu_processes"] == 0
    assert gpu(**running(os.getpid(), FOREIGN_PID)).live()["foreign_gpu_processes"] == 1


def test_our_own_child_is_not_foreign() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert gpu(**running(os.getpid(), child.pid)).live()["foreign_gpu_processes"] == 0
        child.communicate(b"\n")


@pytest.mark.parametrize("pids", [(), (FOREIGN_PID,)])
def test_where_we_are_not_listed_ourselves_nothing_is_said_about_others(pids: tuple[int, ...]) -> None:
    assert gpu(**running(*pids)).live()["foreign_gpu_processes"] is None


def known(*uuids: str) -> Callable[[str], str]:
    def by_uuid(uuid: str) -> str:
        if uuid not in uuids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    return by_uuid


@pytest.mark.parametrize("choice", [UUID, UUID.removeprefix("GPU-")])
def test_a_gpu_is_found_by_uuid_with_and_without_prefix(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(nvmlDeviceGetHandleByUUID=known(UUID)))
    found = nvidia.open_gpu(choice)
    assert found is not None
    assert found.handle == UUID
    assert {os.getpid(), os.getppid()} <= found.family


def test_a_part_of_a_gpu_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(nvmlDeviceGetHandleByUUID=known("MIG-1234")))
    found = nvidia.open_gpu("1234")
    assert found is not None
    assert found.handle == "MIG-1234"


def test_an_unknown_gpu_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(nvmlDeviceGetHandleByUUID=known(UUID)))
    assert nvidia.open_gpu("GPU-another") is None


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(nvmlInit=missing))
    assert nvidia.open_gpu(UUID) is None


def test_the_real_library_does_not_know_a_made_up_gpu() -> None:
    assert nvidia.open_gpu(UUID) is None
