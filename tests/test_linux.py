"""Linux machines from recorded files: what is read, and that what is not told stays null."""

from pathlib import Path

import pytest

from harness.machine import linux
from tests import recorded


def test_a_laptop_on_its_battery(tmp_path: Path) -> None:
    answer = linux.facts(recorded.linux(tmp_path, recorded.LAPTOP))
    expected = {
        "machine_model": "LENOVO 21AHCTO1WW ThinkPad T14 Gen 3",
        "cpu_model": "12th Gen Intel(R) Core(TM) i7-1260P",
        "cpu_sockets": 1,
        "cpu_physical_cores": 12,
        "cpu_logical_cores": 16,
        "cpu_usable": 16,
        "cpu_performance_cores": 4,
        "cpu_efficiency_cores": 8,
        "cpu_l1d_bytes": 48 * 1024,
        "cpu_l2_bytes": 1280 * 1024,
        "cpu_l3_bytes": 18 * 1024**2,
        "cpu_base_mhz": 2100,
        "cpu_max_mhz": 4700,
        "cpu_instructions": "avx2 fma avx_vnni",
        "smt": True,
        "numa_nodes": 1,
        "ram_bytes": 16069316 * 1024,
        "swap_bytes": 2097148 * 1024,
        "transparent_hugepages": "madvise",
        "power_source": "battery",
        "power_mode": "low-power",
        "cpu_governor": "powersave",
        "cpu_scaling_driver": "intel_pstate",
        "cpu_energy_preference": "balance_power",
        "turbo": True,
        "os_name": "Ubuntu 24.04.1 LTS",
        "os_kernel": "6.8.0-48-generic",
        "os_build": "#48-Ubuntu SMP PREEMPT_DYNAMIC Fri Sep 27 14:04:52 UTC 2024",
        "clock_source": "tsc",
        "virtualisation": "none",
        "container": "none",
        "cgroup_cpu_limit": None,
        "cgroup_memory_limit_bytes": None,
        "cpu_mhz": 1500.0,
        "cpu_temperature_c": 61.0,
        "gpu_name": None,
        "gpu_cores": None,
        "metal_support": None,
    }
    assert answer == expected


def test_a_server_of_two_sockets(tmp_path: Path) -> None:
    answer = linux.facts(recorded.linux(tmp_path, recorded.SERVER))
    assert (answer["cpu_sockets"], answer["cpu_physical_cores"], answer["numa_nodes"]) == (2, 4, 2)
    assert (answer["smt"], answer["turbo"], answer["swap_bytes"]) == (False, False, 0)
    assert answer["cpu_governor"] == "performance schedutil"
    assert "avx512_bf16 amx_tile" in answer["cpu_instructions"]
    assert (answer["cpu_performance_cores"], answer["cpu_efficiency_cores"]) == (None, None)
    assert (answer["power_source"], answer["cpu_base_mhz"], answer["cpu_max_mhz"]) == (None, None, None)


def test_cores_of_two_kinds_on_arm(tmp_path: Path) -> None:
    answer = linux.facts(recorded.linux(tmp_path, recorded.ARM))
    assert (answer["cpu_performance_cores"], answer["cpu_efficiency_cores"]) == (2, 2)
    assert answer["machine_model"] == "Apple Mac mini (M1, 2020)"
    assert answer["cpu_instructions"] == "asimd bf16 i8mm"
    assert (answer["cpu_model"], answer["virtualisation"], answer["cpu_base_mhz"]) == (None, None, 2064)


def test_cores_of_one_kind_are_not_divided(tmp_path: Path) -> None:
    alike = {f"{recorded.CPU}/cpu{n}/cpu_capacity": "1024" for n in range(4)}
    answer = linux.facts(recorded.linux(tmp_path, recorded.ARM | alike))
    assert (answer["cpu_performance_cores"], answer["cpu_efficiency_cores"]) == (None, None)


def test_a_machine_that_tells_nothing_has_nulls_and_no_zeros(tmp_path: Path) -> None:
    assert set(linux.facts(recorded.linux(tmp_path, {})).values()) == {None}


def test_files_without_sense_are_nulls(tmp_path: Path) -> None:
    files = {f"{recorded.CPU}/cpu0/cpufreq/cpuinfo_max_freq": "<unknown>", f"{recorded.CPU}/cpu0/cache/index0/size": ""}
    answer = linux.facts(recorded.linux(tmp_path, files))
    assert (answer["cpu_max_mhz"], answer["cpu_l1d_bytes"]) == (None, None)


@pytest.mark.parametrize(
    ("battery", "mains", "source"),
    [
        ("Discharging", "0", "battery"),
        ("Discharging", "1", "battery"),
        ("Charging", "1", "mains"),
        ("Full", None, "mains"),
        ("Unknown", "0", None),
        (None, "1", "mains"),
        (None, None, None),
    ],
)
def test_where_power_comes_from(tmp_path: Path, battery: str | None, mains: str | None, source: str | None) -> None:
    folder = "sys/class/power_supply"
    mouse = {"type": "Battery", "scope": "Device", "status": "Discharging"}
    files = {f"{folder}/hidpp_battery_0/{name}": text for name, text in mouse.items()}
    if battery:
        files |= {f"{folder}/BAT0/type": "Battery", f"{folder}/BAT0/status": battery}
    if mains:
        files |= {f"{folder}/AC/type": "Mains", f"{folder}/AC/online": mains}
    assert linux.power_source(recorded.linux(tmp_path, files)) == source


@pytest.mark.parametrize(
    ("files", "turbo"),
    [
        ({"intel_pstate/no_turbo": "1", "cpufreq/boost": "1"}, False),
        ({"cpufreq/boost": "1"}, True),
        ({"cpufreq/policy0/boost": "0"}, False),
        ({}, None),
    ],
)
def test_turbo(tmp_path: Path, files: dict[str, str], turbo: bool | None) -> None:
    sources = recorded.linux(tmp_path, {f"{recorded.CPU}/{path}": text for path, text in files.items()})
    assert linux.facts(sources)["turbo"] is turbo


def test_the_profile_is_asked_for_where_the_firmware_has_none(tmp_path: Path) -> None:
    answers = {("powerprofilesctl", "get"): "power-saver"}
    sources = recorded.linux(tmp_path, {}, run=lambda command: answers.get(tuple(command)))
    assert linux.facts(sources)["power_mode"] == "power-saver"


def test_libraries_in_the_process(tmp_path: Path) -> None:
    sources = recorded.linux(tmp_path, recorded.LAPTOP)
    assert linux.loaded_libraries(sources) == ["/opt/venv/torch/lib/libgomp-a34b3233.so.1"]
