"""The layers between this process and a Linux machine: hypervisor, container, limits of control groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from harness.machine.probe_io import Sources

# Virtual machines in the words of firmware, with the names of systemd-detect-virt (systemd, src/basic/virt.c).
HYPERVISORS = {
    "Amazon EC2": "amazon", "Google Compute Engine": "google", "KVM": "kvm", "OpenStack": "kvm", "KubeVirt": "kvm",
    "QEMU": "qemu", "VMware": "vmware", "VMW": "vmware", "innotek GmbH": "oracle", "VirtualBox": "oracle",
    "Xen": "xen", "Bochs": "bochs", "Parallels": "parallels", "BHYVE": "bhyve", "Hyper-V": "microsoft",
    "Virtual Machine": "microsoft", "Apple Virtualization": "apple",
}  # fmt: skip
NO_LIMIT_BYTES = 2**60  # version 1 of control groups has the largest number of pages for "none"


def facts(sources: Sources, cpu_flags: str | None) -> dict[str, Any]:
    """Hypervisor, container, limits; cpu_flags: those of /proc/cpuinfo on x86, else None."""
    return {
        "virtualisation": virtualisation(sources, cpu_flags),
        "container": container(sources),
        "cgroup_cpu_limit": cpu_limit(sources),
        "cgroup_memory_limit_bytes": memory_limit_bytes(sources),
    }


def virtualisation(sources: Sources, cpu_flags: str | None) -> str | None:
    """The hypervisor, "unnamed" if only the processor reports one, "none", or None where nothing reports it."""
    if "microsoft" in (sources.text("proc/sys/kernel/osrelease") or "").lower():
        return "wsl"
    # The processor's flag comes before the firmware's name: rented bare metal carries the names of virtual machines.
    if cpu_flags is not None and "hypervisor" not in cpu_flags.split():
        return sources.text("sys/hypervisor/type") or "none"
    names = ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version")
    firmware = " ".join(filter(None, (sources.text(f"sys/class/dmi/id/{name}") for name in names)))
    for word, name in HYPERVISORS.items():
        if word in firmware and ".metal" not in firmware:
            return name
    named = sources.text("sys/hypervisor/type") or sources.text("proc/device-tree/hypervisor/compatible")
    if named or cpu_flags is not None:
        return named or "unnamed"
    return "none" if firmware else None


def container(sources: Sources) -> str | None:
    """The kind of container that this process runs in, or "none"; None without control groups."""
    own = sources.text("proc/self/cgroup")
    if own is None:
        return None
    groups = own + (sources.text("proc/1/cgroup") or "")
    variable = re.search(r"(?:^|\0)container=([\w-]+)", sources.text("proc/1/environ") or "")
    manager = sources.text("run/systemd/container") or (variable[1] if variable else None)
    # LXC mounts its own files over some of /proc; the same file system on another folder is that of its host.
    lxcfs = re.search(r" /proc/\w+ .* lxcfs ", sources.text("proc/self/mountinfo") or "")
    kinds = {
        "kubernetes": "KUBERNETES_SERVICE_HOST" in sources.environ or "kubepods" in groups,
        "apptainer": sources.exists(".singularity.d"),
        "docker": sources.exists(".dockerenv"),
        "podman": sources.exists("run/.containerenv"),
        "lxc": lxcfs or re.search(r"/lxc[./]", groups),
    }
    return next((name for name, found in kinds.items() if found), manager or "none")


def cpu_limit(sources: Sources) -> float | None:
    """Processors' worth of time that the tightest quota allows; None where there is none."""
    limits = [tuple(text.split()) for text in _up_the_tree(sources, "cpu", "cpu.max")]
    quotas = _up_the_tree(sources, "cpu", "cpu.cfs_quota_us")
    limits += zip(quotas, _up_the_tree(sources, "cpu", "cpu.cfs_period_us"), strict=False)
    return min((int(quota) / int(period) for quota, period in limits if quota not in ("max", "-1")), default=None)


def memory_limit_bytes(sources: Sources) -> int | None:
    """The tightest memory limit; None where there is none."""
    limits = [*_up_the_tree(sources, "memory", "memory.max"), *_up_the_tree(sources, "memory", "memory.limit_in_bytes")]
    numbers = [int(text) for text in limits if text != "max"]
    return min((number for number in numbers if number < NO_LIMIT_BYTES), default=None)


def cpu_statistics(sources: Sources) -> list[PurePosixPath]:
    """The files cpu.stat of this process's control group and of every group around it, below the root."""
    return [path for group in _groups(sources, "cpu") if sources.exists(str(path := group / "cpu.stat"))]


def _up_the_tree(sources: Sources, controller: str, name: str) -> Iterator[str]:
    """The content of a file in this process's control group and in every group around it."""
    return filter(None, (sources.text(group / name) for group in _groups(sources, controller)))


def _groups(sources: Sources, controller: str) -> Iterator[PurePosixPath]:
    """The folders of this process's control group and of every group around it, the innermost first."""
    for line in (sources.text("proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree and no names of controllers; version 1 has a tree for each.
        root = PurePosixPath("sys/fs/cgroup", controller if controllers else "")
        group = PurePosixPath(path.lstrip("/"))
        yield from (root / folder for folder in (group, *group.parents))
