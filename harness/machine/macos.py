"""Facts about a Mac, from sysctl, pmset and system_profiler; null where macOS does not report them.

The names of sysctl are described in Apple's "Determining system capabilities"; perflevel0 is the fastest kind of core,
and the names without a level stand for the slowest.
"""

from __future__ import annotations

import os
import re
from typing import Any

from harness.machine.probe_io import Sources

# The meaning of the kernel's switches in Linux's words, so that one fact holds both.
INSTRUCTIONS = {
    "hw.optional.avx2_0": "avx2", "hw.optional.fma": "fma", "hw.optional.avx512f": "avx512f",
    "hw.optional.AdvSIMD": "asimd", "hw.optional.neon": "asimd", "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.arm.FEAT_SME": "sme",
}  # fmt: skip
NAMES = (
    "machdep.cpu.brand_string", "hw.model", "hw.memsize", "hw.packages", "hw.physicalcpu", "hw.logicalcpu",
    "hw.perflevel0.physicalcpu", "hw.perflevel0.l1dcachesize", "hw.perflevel0.l2cachesize", "hw.l1dcachesize",
    "hw.l2cachesize", "hw.l3cachesize", "hw.cpufrequency", "hw.cpufrequency_max", "kern.hv_vmm_present",
    "kern.osproductversion", "kern.osrelease", "kern.osversion", *INSTRUCTIONS,
)  # fmt: skip

POWER_SOURCES = {"AC Power": "mains", "Battery Power": "battery", "UPS Power": "ups"}
POWER_MODES = {"0": "automatic", "1": "low", "2": "high"}

# Facts that only Linux reports.
LINUX_ONLY = (
    "cgroup_cpu_limit", "cgroup_memory_limit_bytes", "swap_bytes", "transparent_hugepages", "numa_nodes",
    "cpu_governor", "cpu_scaling_driver", "cpu_energy_preference", "turbo", "clock_source", "cpu_mhz",
    "cpu_temperature_c",
)  # fmt: skip


def facts(sources: Sources) -> dict[str, Any]:
    """Hardware, power and system."""
    kernel = _sysctl(sources)
    version = kernel.get("kern.osproductversion")
    return {
        "machine_model": kernel.get("hw.model"),
        "virtualisation": {"0": "none", "1": "unnamed"}.get(kernel.get("kern.hv_vmm_present", "")),
        "container": "none",
        "ram_bytes": _number(kernel, "hw.memsize"),
        **_processor(kernel),
        **_gpu(sources),
        "power_source": power_source(sources),
        "power_mode": power_mode(sources),
        "os_name": f"macOS {version}" if version else None,
        "os_kernel": kernel.get("kern.osrelease"),
        "os_build": kernel.get("kern.osversion"),
        **dict.fromkeys(LINUX_ONLY),
    }


def cpu_model(sources: Sources) -> str | None:
    """The processor's own name."""
    return sources.run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]) or None


def usable_cores(sources: Sources) -> int | None:
    """The performance cores of an Apple chip, else the physical cores; macOS binds no process to cores."""
    kernel = _sysctl(sources)
    performance = _number(kernel, "hw.perflevel0.physicalcpu")
    # torch takes them only where there are several (intraop_default_num_threads in ParallelCommon.cpp).
    return performance if performance and performance > 1 else _number(kernel, "hw.physicalcpu")


def instructions(sources: Sources) -> str | None:
    """The relevant vector and matrix extensions; spaced, or none."""
    return _instructions(_sysctl(sources))


def loaded_libraries(sources: Sources) -> list[str]:
    """Paths of the libraries in this process that are not part of macOS."""
    # -F n prints one field a line, the names behind an n; txt are the files that are mapped as code.
    command = ["/usr/sbin/lsof", "-w", "-a", "-p", str(os.getpid()), "-d", "txt", "-F", "n"]
    lines = (sources.run(command) or "").splitlines()
    return sorted({line[1:] for line in lines if line.startswith("n/")})


def power_source(sources: Sources) -> str | None:
    """mains, battery or ups."""
    found = re.search(r"drawing from '([^']+)'", sources.run(["/usr/bin/pmset", "-g", "batt"]) or "")
    return POWER_SOURCES.get(found[1]) if found else None


def power_mode(sources: Sources) -> str | None:
    """automatic, low or high; Macs without a high mode name the same setting lowpowermode."""
    found = re.search(r"^\s*(?:low)?powermode\s+(\d)", sources.run(["/usr/bin/pmset", "-g"]) or "", re.MULTILINE)
    return POWER_MODES.get(found[1]) if found else None


def _sysctl(sources: Sources) -> dict[str, str]:
    """The kernel's values by name; -i ignores names that are unknown to this Mac."""
    lines = (sources.run(["/usr/sbin/sysctl", "-i", *NAMES]) or "").splitlines()
    return {name: value for name, _, value in (line.partition(": ") for line in lines) if value}


def _number(kernel: dict[str, str], *names: str) -> int | None:
    """The first of these that is known; the kernel's zeros mean "none"."""
    return next((int(kernel[name]) for name in names if kernel.get(name, "0") != "0"), None)


def _instructions(kernel: dict[str, str]) -> str | None:
    known = {word for name, word in INSTRUCTIONS.items() if kernel.get(name) == "1"}
    return (" ".join(sorted(known)) or "none") if kernel else None


def _processor(kernel: dict[str, str]) -> dict[str, Any]:
    cores, logical = _number(kernel, "hw.physicalcpu"), _number(kernel, "hw.logicalcpu")
    fast = _number(kernel, "hw.perflevel0.physicalcpu")
    slow = cores - fast if cores is not None and fast is not None and fast < cores else None
    base_hz, max_hz = _number(kernel, "hw.cpufrequency"), _number(kernel, "hw.cpufrequency_max")
    return {
        "cpu_model": kernel.get("machdep.cpu.brand_string"),
        "cpu_sockets": _number(kernel, "hw.packages"),
        "cpu_physical_cores": cores,
        "cpu_logical_cores": logical,
        "cpu_usable": logical,  # macOS binds no process to cores
        "cpu_performance_cores": fast if slow else None,
        "cpu_efficiency_cores": slow,
        "cpu_l1d_bytes": _number(kernel, "hw.perflevel0.l1dcachesize", "hw.l1dcachesize"),
        "cpu_l2_bytes": _number(kernel, "hw.perflevel0.l2cachesize", "hw.l2cachesize"),
        "cpu_l3_bytes": _number(kernel, "hw.l3cachesize"),
        "cpu_base_mhz": base_hz // 10**6 if base_hz else None,
        "cpu_max_mhz": max_hz // 10**6 if max_hz else None,
        "cpu_instructions": _instructions(kernel),
        "smt": logical > cores if cores and logical else None,
    }


def _gpu(sources: Sources) -> dict[str, Any]:
    """The first GPU that macOS lists; an Apple chip has one, and its number of cores differs within a model."""
    text = sources.run(["/usr/sbin/system_profiler", "SPDisplaysDataType"]) or ""

    def first(label: str) -> str | None:
        found = re.search(rf"^\s*{label}: (.+?)\s*$", text, re.MULTILINE)
        return found[1] if found else None

    cores = first("Total Number of Cores")
    return {
        "gpu_name": first("Chipset Model"),
        "gpu_cores": int(cores) if cores and cores.isdigit() else None,
        "metal_support": first("Metal(?: Support| Family)?"),
    }
