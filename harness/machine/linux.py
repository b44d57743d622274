"""Facts about a Linux machine, from /proc and /sys; null where the kernel does not report them.

The files are described in the kernel's Documentation/ABI and Documentation/admin-guide/pm.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from harness.machine import virtualization
from harness.machine.probe_io import Sources

CPU = "sys/devices/system/cpu"
INSTRUCTIONS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8",
    "asimd", "bf16", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip

# Kernel drivers of processor sensors; the first input of each is the package, as hot as its hottest core.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

# The nominal clock where only the highest is known, as a part of it: makers of servers specify 0.6 to 0.8.
NOMINAL_PART = 0.6


def facts(sources: Sources) -> dict[str, Any]:
    """Hardware, power and system."""
    return {
        **_machine(sources),
        **virtualization.facts(sources, _cpuinfo(sources).get("flags")),
        **_processor(sources),
        **_power(sources),
        **_system(sources),
        **dict.fromkeys(("gpu_name", "gpu_cores", "metal_support")),  # from NVIDIA's driver, elsewhere
        "cpu_mhz": cpu_mhz(sources),
        "cpu_temperature_c": cpu_temperature_c(sources),
    }


def cpu_model(sources: Sources) -> str | None:
    """The processor's own name; ARM kernels do not give one."""
    return _cpuinfo(sources).get("model name")


def usable_cores(sources: Sources) -> int | None:
    """The physical cores of which this process may use at least one hardware thread; all kinds of cores count."""
    allowed = _allowed(sources)
    numbers = re.findall(r"^processor\s*:\s*(\d+)", sources.text("proc/cpuinfo") or "", re.MULTILINE)
    cores = _cores(sources) or [frozenset((int(number),)) for number in numbers]
    return sum(allowed is None or not core.isdisjoint(allowed) for core in cores) or None


def instructions(sources: Sources) -> str | None:
    """The relevant vector and matrix extensions of the first processor; spaced, or none."""
    info = _cpuinfo(sources)
    words = (info.get("flags") or info.get("Features") or "").split()
    return (" ".join(word for word in INSTRUCTIONS if word in words) or "none") if words else None


def loaded_libraries(sources: Sources) -> list[str]:
    """Paths of the files that are mapped into this process."""
    lines = (sources.text("proc/self/maps") or "").splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in lines if "/" in line})


def power_source(sources: Sources) -> str | None:
    """battery while one is being emptied, else mains; None without a battery or a connected adapter."""
    # The batteries of mice and headsets have the scope Device.
    supplies = [path for path in sources.paths("sys/class/power_supply/*") if sources.text(path / "scope") != "Device"]
    kinds = {path: sources.text(path / "type") for path in supplies}
    states = {sources.text(path / "status") for path, kind in kinds.items() if kind == "Battery"}
    if "Discharging" in states:
        return "battery"
    plugged = any(kind == "Mains" and sources.number(path / "online") == 1 for path, kind in kinds.items())
    return "mains" if plugged or states & {"Charging", "Full", "Not charging"} else None


def cpu_mhz(sources: Sources) -> float | None:
    """Mean clock of the processors at this moment."""
    # Not from /proc/cpuinfo: a virtual machine shows a constant there.
    readings = [sources.number(path) for path in sources.paths(f"{CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    clocks_khz = [khz for khz in readings if khz]
    return statistics.fmean(clocks_khz) / 1000 if clocks_khz else None


def cpu_temperature_c(sources: Sources) -> float | None:
    """The hottest sensor of the processor at this moment."""
    readings = [sources.number(path) for path in cpu_sensors(sources)]
    milli_c = [reading for reading in readings if reading is not None]
    return max(milli_c) / 1000 if milli_c else None


def cpu_sensors(sources: Sources) -> list[Path]:
    """The files with the processors' temperatures in thousandths of a degree Celsius."""
    chips = sources.paths("sys/class/hwmon/hwmon*/name")
    return [path.with_name("temp1_input") for path in chips if sources.text(path) in CPU_SENSORS]


def nominal_khz(sources: Sources, cpu: Path) -> float | None:
    """The maker's nominal clock of a processor; cpu: its folder below sys/devices/system/cpu."""
    if base_khz := sources.number(cpu / "cpufreq/base_frequency"):  # intel_pstate
        return base_khz
    if nominal_mhz := sources.number(cpu / "acpi_cppc/nominal_freq"):  # AMD's and ARM's firmware; 0 is unknown
        return 1000 * nominal_mhz
    highest_khz = sources.number(cpu / "cpufreq/cpuinfo_max_freq")
    return NOMINAL_PART * highest_khz if highest_khz else None


def _machine(sources: Sources) -> dict[str, Any]:
    meminfo = dict(re.findall(r"^(\w+):\s+(\d+) kB$", sources.text("proc/meminfo") or "", re.MULTILINE))
    huge = re.search(r"\[(\w+)\]", sources.text("sys/kernel/mm/transparent_hugepage/enabled") or "")
    maker = [sources.text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name", "product_version")]
    return {
        "machine_model": " ".join(filter(None, maker)) or sources.text("proc/device-tree/model"),
        "ram_bytes": int(meminfo["MemTotal"]) * 1024 if "MemTotal" in meminfo else None,
        "swap_bytes": int(meminfo["SwapTotal"]) * 1024 if "SwapTotal" in meminfo else None,
        "transparent_hugepages": huge[1] if huge else None,
    }


def _system(sources: Sources) -> dict[str, Any]:
    release = sources.text("etc/os-release") or sources.text("usr/lib/os-release") or ""
    name = re.search(r"""^PRETTY_NAME=["']?([^"'\n]+)""", release, re.MULTILINE)
    return {
        "os_name": name[1] if name else None,
        "os_kernel": sources.text("proc/sys/kernel/osrelease"),
        "os_build": sources.text("proc/sys/kernel/version"),
        "clock_source": sources.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def _power(sources: Sources) -> dict[str, Any]:
    no_turbo = sources.number(f"{CPU}/intel_pstate/no_turbo")
    boosts = (sources.number(f"{CPU}/cpufreq/{name}boost") for name in ("", "policy0/"))
    boost = next((number for number in boosts if number is not None), None)
    turbo = no_turbo == 0 if no_turbo is not None else (boost == 1 if boost is not None else None)

    def distinct(name: str) -> str | None:
        values = {sources.text(path) for path in sources.paths(f"{CPU}/cpu[0-9]*/cpufreq/{name}")}
        return " ".join(sorted(each for each in values if each is not None)) or None

    mode = sources.text("sys/firmware/acpi/platform_profile") or sources.run(["powerprofilesctl", "get"])
    return {
        "power_source": power_source(sources),
        "power_mode": mode or None,
        "cpu_governor": distinct("scaling_governor"),
        "cpu_scaling_driver": distinct("scaling_driver"),
        "cpu_energy_preference": distinct("energy_performance_preference"),
        "turbo": turbo,
    }


def _processor(sources: Sources) -> dict[str, Any]:
    cores = _cores(sources)
    packages = {sources.number(path) for path in sources.paths(f"{CPU}/cpu[0-9]*/topology/physical_package_id")}
    logical = len(set().union(*cores)) or (sources.text("proc/cpuinfo") or "").count("processor\t") or None
    active = sources.number(f"{CPU}/smt/active")
    performance, efficiency = _kinds(sources, cores)
    usable = _allowed(sources)
    max_khz = [sources.number(path) for path in sources.paths(f"{CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq")]
    base_khz = sources.number(f"{CPU}/cpu0/cpufreq/base_frequency")
    return {
        "cpu_model": cpu_model(sources),
        "cpu_sockets": len(packages - {None, -1}) or None,
        "cpu_physical_cores": len(cores) or None,
        "cpu_logical_cores": logical,
        "cpu_usable": len(usable) if usable is not None else None,
        "cpu_performance_cores": performance,
        "cpu_efficiency_cores": efficiency,
        **_caches(sources),
        # The second file is that of AMD's and ARM's firmware, in MHz; 0 stands for unknown there.
        "cpu_base_mhz": base_khz // 1000 if base_khz else sources.number(f"{CPU}/cpu0/acpi_cppc/nominal_freq") or None,
        "cpu_max_mhz": max((khz // 1000 for khz in max_khz if khz), default=None),
        "cpu_instructions": instructions(sources),
        "smt": bool(active) if active is not None else None,
        "numa_nodes": len(sources.paths("sys/devices/system/node/node[0-9]*")) or None,
    }


def _cpuinfo(sources: Sources) -> dict[str, str]:
    """The fields of the first processor."""
    first = (sources.text("proc/cpuinfo") or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _cores(sources: Sources) -> list[frozenset[int]]:
    """The physical cores that are online, each as the numbers of its hardware threads."""
    names = ("core_cpus_list", "thread_siblings_list")  # kernels before 5.3 have only the second
    lists = [
        next(filter(None, (sources.text(path / name) for name in names)), None)
        for path in sources.paths(f"{CPU}/cpu[0-9]*/topology")
    ]
    return list({frozenset(_cpu_list(text)) for text in lists if text})


def _allowed(sources: Sources) -> set[int] | None:
    """The hardware threads that this process may run on."""
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)", sources.text("proc/self/status") or "", re.MULTILINE)
    return _cpu_list(found[1]) if found else None


def _kinds(sources: Sources, cores: list[frozenset[int]]) -> tuple[int | None, int | None]:
    """Cores of the fastest kind and the others: Intel lists the first, ARM gives each a capacity."""
    fast = _cpu_list(sources.text("sys/devices/cpu_core/cpus") or "")
    if not fast:
        capacities = {int(p.parent.name[3:]): sources.number(p) for p in sources.paths(f"{CPU}/cpu[0-9]*/cpu_capacity")}
        highest = max(filter(None, capacities.values()), default=None)
        fast = {cpu for cpu, capacity in capacities.items() if capacity == highest}
    performance = sum(bool(core & fast) for core in cores)
    efficiency = len(cores) - performance
    return (performance, efficiency) if performance and efficiency else (None, None)


def _caches(sources: Sources) -> dict[str, int | None]:
    sizes_bytes: dict[int | None, int] = {}
    for path in sources.paths(f"{CPU}/cpu0/cache/index[0-9]*"):
        size = re.fullmatch(r"(\d+)([KM])", sources.text(path / "size") or "")
        if size and sources.text(path / "type") != "Instruction":
            sizes_bytes[sources.number(path / "level")] = int(size[1]) * {"K": 2**10, "M": 2**20}[size[2]]
    return {name: sizes_bytes.get(n) for n, name in enumerate(("cpu_l1d_bytes", "cpu_l2_bytes", "cpu_l3_bytes"), 1)}


def _cpu_list(text: str) -> set[int]:
    """The kernel's lists of numbers: '0-2,8' is 0, 1, 2 and 8."""
    ranges = [part.split("-") for part in text.split(",") if part]
    return {n for first, *last in ranges for n in range(int(first), int(last[0] if last else first) + 1)}
