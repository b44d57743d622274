"""Macs from recorded command output; no Mac was at hand."""

from pathlib import Path

import pytest

from harness.machine import linux, macos
from tests import recorded


def test_an_apple_laptop(tmp_path: Path) -> None:
    answer = macos.facts(recorded.mac(recorded.MAC, tmp_path))
    expected = {
        "machine_model": "MacBookPro18,3",
        "virtualisation": "none",
        "container": "none",
        "ram_bytes": 16 * 2**30,
        "cpu_model": "Apple M1 Pro",
        "cpu_sockets": 1,
        "cpu_physical_cores": 10,
        "cpu_logical_cores": 10,
        "cpu_usable": 10,
        "cpu_performance_cores": 8,
        "cpu_efficiency_cores": 2,
        "cpu_l1d_bytes": 128 * 1024,
        "cpu_l2_bytes": 12 * 2**20,
        "cpu_l3_bytes": None,
        "cpu_base_mhz": None,
        "cpu_max_mhz": None,
        "cpu_instructions": "asimd",
        "smt": False,
        "gpu_name": "Apple M1 Pro",
        "gpu_cores": 14,
        "metal_support": "Metal 3",
        "power_source": "battery",
        "power_mode": "high",
        "os_name": "macOS 15.1",
        "os_kernel": "24.1.0",
        "os_build": "24B83",
    }
    assert answer == expected | dict.fromkeys(macos.LINUX_ONLY)


def test_an_intel_mac(tmp_path: Path) -> None:
    outputs = {
        "/usr/sbin/sysctl -i": "hw.packages: 1\nhw.physicalcpu: 6\nhw.logicalcpu: 12\nhw.l1dcachesize: 32768\n"
        "hw.l2cachesize: 262144\nhw.l3cachesize: 12582912\nhw.cpufrequency: 2600000000\n"
        "hw.cpufrequency_max: 2600000000\nhw.optional.avx2_0: 1\nhw.optional.fma: 1\nhw.optional.avx512f: 0\n"
        "kern.hv_vmm_present: 1",
        "/usr/bin/pmset -g": " lowpowermode         1\n standby              1",
        "/usr/bin/pmset -g batt": "Now drawing from 'AC Power'\nNo batteries available.",
        "/usr/sbin/system_profiler": "      Chipset Model: Intel UHD Graphics 630\n      Bus: Built-In\n"
        "      Metal Family: Supported, Metal GPUFamily macOS 2\n      Chipset Model: AMD Radeon Pro 5300M\n",
    }
    answer = macos.facts(recorded.mac(outputs, tmp_path))
    assert (answer["smt"], answer["cpu_performance_cores"], answer["cpu_efficiency_cores"]) == (True, None, None)
    assert (answer["cpu_l1d_bytes"], answer["cpu_l2_bytes"], answer["cpu_l3_bytes"]) == (
        32 * 1024,
        256 * 1024,
        12 * 2**20,
    )
    assert (answer["cpu_base_mhz"], answer["cpu_instructions"]) == (2600, "avx2 fma")
    assert (answer["power_mode"], answer["power_source"], answer["virtualisation"]) == ("low", "mains", "unnamed")
    assert (answer["gpu_name"], answer["gpu_cores"]) == ("Intel UHD Graphics 630", None)
    assert answer["metal_support"] == "Supported, Metal GPUFamily macOS 2"


@pytest.mark.parametrize(("line", "mode"), [("lowpowermode 0", "automatic"), ("powermode 1", "low"), ("sleep 1", None)])
def test_power_mode(tmp_path: Path, line: str, mode: str | None) -> None:
    assert macos.power_mode(recorded.mac({"/usr/bin/pmset -g": f"Currently in use:\n {line}\n"}, tmp_path)) == mode


def test_a_mac_without_its_tools_has_nulls_and_no_zeros(tmp_path: Path) -> None:
    answer = macos.facts(recorded.mac({}, tmp_path))
    assert {name for name, value in answer.items() if value is not None} == {"container"}


def test_both_systems_tell_the_same_facts(tmp_path: Path) -> None:
    assert macos.facts(recorded.mac({}, tmp_path)).keys() == linux.facts(recorded.linux(tmp_path, {})).keys()


def test_libraries_in_the_process(tmp_path: Path) -> None:
    answer = macos.loaded_libraries(recorded.mac(recorded.MAC, tmp_path))
    assert answer == ["/opt/venv/torch/lib/libomp.dylib", "/usr/lib/dyld"]
