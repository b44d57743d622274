"""The NVIDIA adapter: facts and readings of one GPU from NVML; the only importer of pynvml."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# The driver's reasons for a lower clock, by NVML's bits (nvmlClocksEventReason*). Being idle is not throttling.
IDLE = 0x001
REASONS = {
    0x002: "applications_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal",
    0x040: "hw_thermal",
    0x080: "hw_power_brake",
    0x100: "display_clock",
}


def uuids() -> list[str]:
    """The UUIDs of all GPUs that NVML lists, whether or not this process may use them; none without NVML."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount()))
        return [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except pynvml.NVMLError:
        return []


def open_gpu(uuid: str) -> Gpu | None:
    """The GPU with this UUID (as torch gives it, with or without GPU-); None where NVML does not list it.

    Its index would not do: under CUDA_VISIBLE_DEVICES torch and NVML count differently.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    for prefix in ("GPU-", "MIG-"):  # torch omits it
        with suppress(pynvml.NVMLError):
            return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(prefix + bare), _family())
    return None


@dataclass(frozen=True)
class Gpu:
    """One GPU in NVML, read by a process that computes on it. Missing readings are None."""

    nvml: ModuleType
    handle: Any
    family: frozenset[int]  # this process and those it descends from
    name: str = "nvml"

    def facts(self) -> dict[str, Any]:
        """The facts that stay the same while a program runs."""
        cuda = self._call("nvmlSystemGetCudaDriverVersion_v2")
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        generation, width = self._ask("nvmlDeviceGetMaxPcieLinkGeneration"), self._ask("nvmlDeviceGetMaxPcieLinkWidth")
        ecc, mig = self._ask("nvmlDeviceGetEccMode"), self._ask("nvmlDeviceGetMigMode")  # [current, pending]
        persistence = self._ask("nvmlDeviceGetPersistenceMode")
        return {
            "gpu_name": self._ask("nvmlDeviceGetName"),
            "gpu_uuid": self._ask("nvmlDeviceGetUUID"),
            "gpu_driver_version": self._call("nvmlSystemGetDriverVersion"),
            "gpu_cuda_driver_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "gpu_memory_bytes": None if memory is None else memory.total,
            "gpu_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", self.nvml.NVML_CLOCK_SM),
            "gpu_power_limit_w": _from_milli(self._ask("nvmlDeviceGetEnforcedPowerLimit")),
            "gpu_pcie": None if generation is None or width is None else f"gen{generation} x{width}",
            "gpu_ecc": None if ecc is None else bool(ecc[0]),
            "gpu_mig": None if mig is None else bool(mig[0]),
            "gpu_persistence": None if persistence is None else bool(persistence),
        }

    def live(self) -> dict[str, Any]:
        """The current readings, as columns of a sample."""
        reasons = self._reasons()
        return {
            "gpu_mhz": self._ask("nvmlDeviceGetClockInfo", self.nvml.NVML_CLOCK_SM),
            "gpu_temperature_c": self._ask("nvmlDeviceGetTemperature", self.nvml.NVML_TEMPERATURE_GPU),
            "gpu_power_w": _from_milli(self._ask("nvmlDeviceGetPowerUsage")),
            "gpu_throttle": None if reasons is None else " ".join(n for bit, n in REASONS.items() if reasons & bit),
            "foreign_gpu_processes": self._foreign_processes(),
        }

    def is_idle(self) -> bool | None:
        """Whether nothing runs on the GPU, so that its clocks are free to fall."""
        reasons = self._reasons()
        return None if reasons is None else bool(reasons & IDLE)

    def energy_j(self) -> float | None:
        """Energy in J since the driver was loaded; only differences have a meaning."""
        return _from_milli(self._ask("nvmlDeviceGetTotalEnergyConsumption"))

    def _reasons(self) -> int | None:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        # Drivers before 535 have the same bits under their older name.
        return self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") if bits is None else bits

    def _foreign_processes(self) -> int | None:
        """The number of other processes that compute here; None where this process is not on the list.

        In a container NVML may list the host's process ids, or none at all.
        """
        # Not the unversioned function: with drivers before 510 it raises another error than NVMLError.
        running = self._ask("nvmlDeviceGetComputeRunningProcesses_v3")
        pids = {process.pid for process in running or ()}
        if os.getpid() not in pids:
            return None
        return sum(not _descends_from_us(pid) for pid in pids - self.family)

    def _ask(self, function: str, *arguments: Any) -> Any:
        return self._call(function, self.handle, *arguments)

    def _call(self, function: str, *arguments: Any) -> Any:
        """NVML's answer; an unsupported reading is null and must never fail a sample."""
        try:
            return getattr(self.nvml, function)(*arguments)
        except self.nvml.NVMLError:
            return None


def _from_milli(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _family() -> frozenset[int]:
    import psutil  # accelerate() does not need it

    return frozenset(process.pid for process in (psutil.Process(), *psutil.Process().parents()))


def _descends_from_us(pid: int) -> bool:
    import psutil

    try:
        return os.getpid() in {process.pid for process in psutil.Process(pid).parents()}
    except psutil.Error:  # it has just ended, or lives in another container
        return False
