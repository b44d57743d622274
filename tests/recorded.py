"""Machines as they describe themselves: files of Linux and output of macOS commands, after their documentation
and public records; only the container is cut down from a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.machine.probe_io import Sources

CPU = "sys/devices/system/cpu"


def linux(
    root: Path,
    files: Mapping[str, str],
    environ: Mapping[str, str] | None = None,
    run: Callable[[Sequence[str]], str | None] = lambda _: None,
) -> Sources:
    """A Linux machine with exactly these files."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n" if text else "")
    return Sources(root, "linux", run, environ or {})


def mac(outputs: Mapping[str, str], root: Path) -> Sources:
    """A Mac whose commands print this; a command is found by its beginning, the longest first."""

    def run(command: Sequence[str]) -> str | None:
        line = " ".join(command)
        known = [begin for begin in sorted(outputs, key=len, reverse=True) if line.startswith(begin)]
        return outputs[known[0]].strip() if known else None

    return Sources(root, "darwin", run, {})


def processors(siblings: Sequence[str], sockets: int = 1) -> dict[str, str]:
    """The topology files of these hardware threads, in the order of their numbers; sockets take equal parts."""
    files = {}
    for number, listed in enumerate(siblings):
        files[f"{CPU}/cpu{number}/topology/core_cpus_list"] = listed
        files[f"{CPU}/cpu{number}/topology/physical_package_id"] = str(number * sockets // len(siblings))
    return files


def caches(*sizes: str) -> dict[str, str]:
    """The cache files of the first core: level 1 data, level 1 instructions, level 2, level 3."""
    kinds = (("1", "Data"), ("1", "Instruction"), ("2", "Unified"), ("3", "Unified"))
    files = {}
    for index, ((level, kind), size) in enumerate(zip(kinds, sizes, strict=False)):
        folder = f"{CPU}/cpu0/cache/index{index}"
        files |= {f"{folder}/level": level, f"{folder}/type": kind, f"{folder}/size": size}
    return files


SYSTEM = {
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nNAME="Ubuntu"\nID=ubuntu',
    "proc/sys/kernel/osrelease": "6.8.0-48-generic",
    "proc/sys/kernel/version": "#48-Ubuntu SMP PREEMPT_DYNAMIC Fri Sep 27 14:04:52 UTC 2024",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
}


def processor(driver: str, **clocks: int) -> dict[str, str]:
    """The clock files of a machine with two processors; cppc_mhz stands for what the firmware promises."""
    nominal_mhz = clocks.pop("cppc_mhz", None)
    files = {}
    for cpu in ("cpu0", "cpu1"):
        files |= {f"{CPU}/{cpu}/cpufreq/{name}": str(khz) for name, khz in clocks.items()}
        files[f"{CPU}/{cpu}/cpufreq/scaling_driver"] = driver
        if nominal_mhz is not None:
            files[f"{CPU}/{cpu}/acpi_cppc/nominal_freq"] = str(nominal_mhz)
    return files


# How drivers tell the clocks of processors; scaling_cur_freq is left to the tests.
CLOCKS = {
    "Intel, intel_pstate": processor("intel_pstate", base_frequency=3_400_000, cpuinfo_max_freq=5_000_000),
    "AMD, acpi-cpufreq": processor("acpi-cpufreq", cpuinfo_max_freq=3_529_052, cppc_mhz=2450),
    "AMD, acpi-cpufreq without CPPC": processor("acpi-cpufreq", cpuinfo_max_freq=3_600_000),
    "AMD, amd-pstate": processor("amd-pstate-epp", cpuinfo_max_freq=5_759_000, cppc_mhz=4501),
    "ARM, cppc_cpufreq": processor("cppc_cpufreq", cpuinfo_max_freq=3_000_000, cppc_mhz=3000),
    "ARM, cpufreq-dt": processor("cpufreq-dt", cpuinfo_max_freq=2_400_000),
    "ARM, firmware that knows no nominal clock": processor("cppc_cpufreq", cpuinfo_max_freq=2_600_000, cppc_mhz=0),
}

# A hybrid laptop that draws on its battery, with a wireless mouse: 4 cores with two threads each and 8 small ones.
LAPTOP = {
    **SYSTEM,
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: 12th Gen Intel(R) Core(TM) i7-1260P\ncpu MHz\t\t: 400.000\n"
    "flags\t\t: fpu sse2 fma avx avx2 avx_vnni\n\nprocessor\t: 1\nmodel name\t: another\n",
    "proc/meminfo": "MemTotal:       16069316 kB\nMemFree:         1069316 kB\nSwapTotal:       2097148 kB\n",
    "proc/self/status": "Name:\tpython\nCpus_allowed:\tffff\nCpus_allowed_list:\t0-15\n",
    "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope",
    "proc/self/maps": "7f00-7f01 r-xp 00000000 08:01 1  /opt/venv/torch/lib/libgomp-a34b3233.so.1\n"
    "7f02-7f03 rw-p 00000000 00:00 0",
    "proc/self/mountinfo": "30 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n"
    "99 30 0:50 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw",
    "sys/class/dmi/id/sys_vendor": "LENOVO",
    "sys/class/dmi/id/product_name": "21AHCTO1WW",
    "sys/class/dmi/id/product_version": "ThinkPad T14 Gen 3",
    **processors(["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7", *map(str, range(8, 16))]),
    "sys/devices/cpu_core/cpus": "0-7",
    "sys/devices/cpu_atom/cpus": "8-15",
    **caches("48K", "32K", "1280K", "18432K"),
    f"{CPU}/smt/active": "1",
    f"{CPU}/cpu0/cpufreq/base_frequency": "2100000",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "4700000",
    f"{CPU}/cpu8/cpufreq/cpuinfo_max_freq": "3400000",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "2000000",
    f"{CPU}/cpu8/cpufreq/scaling_cur_freq": "1000000",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave",
    f"{CPU}/cpu8/cpufreq/scaling_governor": "powersave",
    f"{CPU}/cpu0/cpufreq/scaling_driver": "intel_pstate",
    f"{CPU}/cpu0/cpufreq/energy_performance_preference": "balance_power",
    f"{CPU}/intel_pstate/no_turbo": "0",
    "sys/firmware/acpi/platform_profile": "low-power",
    "sys/devices/system/node/node0/cpulist": "0-15",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/AC/online": "0",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/power_supply/hidpp_battery_0/type": "Battery",
    "sys/class/power_supply/hidpp_battery_0/scope": "Device",
    "sys/class/power_supply/hidpp_battery_0/status": "Discharging",
    "sys/class/hwmon/hwmon3/name": "coretemp",
    "sys/class/hwmon/hwmon3/temp1_input": "61000",
    "sys/class/hwmon/hwmon1/name": "nvme",
    "sys/class/hwmon/hwmon1/temp1_input": "80000",
}

# A server of two sockets, 2 × 2 cores without threads, bare metal that is rented out.
SERVER = {
    **SYSTEM,
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: INTEL(R) XEON(R) PLATINUM 8581C\n"
    "flags\t\t: fma avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8\n",
    "proc/meminfo": "MemTotal:       528280000 kB\nSwapTotal:             0 kB\n",
    "proc/self/cgroup": "0::/system.slice/slurmd.service/job_7",
    "sys/fs/cgroup/system.slice/slurmd.service/job_7/cpu.max": "max 100000",
    "sys/fs/cgroup/system.slice/slurmd.service/cpu.max": "250000 100000",
    "sys/fs/cgroup/system.slice/slurmd.service/job_7/memory.max": "68719476736",
    "sys/fs/cgroup/system.slice/memory.max": "max",
    "sys/class/dmi/id/sys_vendor": "Amazon EC2",
    "sys/class/dmi/id/product_name": "m7i.metal-24xl",
    **processors(["0", "1", "2", "3"], sockets=2),
    f"{CPU}/smt/active": "0",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
    f"{CPU}/cpu1/cpufreq/scaling_governor": "schedutil",
    f"{CPU}/cpu0/acpi_cppc/nominal_freq": "0",
    f"{CPU}/cpufreq/boost": "0",
    "sys/devices/system/node/node0/cpulist": "0-1",
    "sys/devices/system/node/node1/cpulist": "2-3",
}

# Docker in a small virtual machine, with the older control groups that know nothing of its name.
CONTAINER = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fma avx2 hypervisor\n\nprocessor\t: 1\n",
    "proc/meminfo": "MemTotal:       24682416 kB\n",
    "proc/self/cgroup": "4:memory:/jobs/7\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    ".dockerenv": "",
}

# A Mac's chip under Linux: no model name, no DMI, two kinds of cores told apart by their capacity.
ARM = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd bf16 i8mm\nCPU implementer\t: 0x61\n",
    "proc/device-tree/model": "Apple Mac mini (M1, 2020)\0",
    "proc/self/cgroup": "0::/",
    **processors(["0", "1", "2", "3"]),
    **{f"{CPU}/cpu{n}/cpu_capacity": capacity for n, capacity in enumerate(("459", "459", "1024", "1024"))},
    f"{CPU}/cpu0/acpi_cppc/nominal_freq": "2064",
}

MAC = {
    "/usr/sbin/sysctl -n machdep.cpu.brand_string": "Apple M1 Pro",
    "/usr/sbin/sysctl -i": """
machdep.cpu.brand_string: Apple M1 Pro
hw.model: MacBookPro18,3
hw.memsize: 17179869184
hw.packages: 1
hw.physicalcpu: 10
hw.logicalcpu: 10
hw.perflevel0.physicalcpu: 8
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.l1dcachesize: 65536
hw.l2cachesize: 4194304
kern.hv_vmm_present: 0
kern.osproductversion: 15.1
kern.osrelease: 24.1.0
kern.osversion: 24B83
hw.optional.AdvSIMD: 1
hw.optional.neon: 1
hw.optional.arm.FEAT_BF16: 0
""",
    "/usr/bin/pmset -g": """
System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 powermode            2
 sleep                1 (sleep prevented by powerd)
""",
    "/usr/bin/pmset -g batt": """
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=1234567)\t84%; discharging; 5:05 remaining present: true
""",
    "/usr/sbin/system_profiler SPDisplaysDataType": """
Graphics/Displays:

    Apple M1 Pro:

      Chipset Model: Apple M1 Pro
      Type: GPU
      Bus: Built-In
      Total Number of Cores: 14
      Vendor: Apple (0x106b)
      Metal Support: Metal 3
      Displays:
        Color LCD:
          Display Type: Built-in Liquid Retina XDR Display
""",
    "/usr/sbin/ioreg -rd1 -c IOPlatformExpertDevice": """
+-o J314sAP  <class IOPlatformExpertDevice, id 0x100000100, registered, matched, active, busy 0 (8 ms), retain 38>
    {
      "IOPlatformSerialNumber" = "C02XXXXXXXXX"
      "IOPlatformUUID" = "6B29FC40-CA47-1067-B31D-00DD010662DA"
      "model" = <"MacBookPro18,3">
    }
""",
    "/usr/sbin/lsof": "p77\nftxt\nn/opt/venv/torch/lib/libomp.dylib\nftxt\nn/usr/lib/dyld\n",
}
