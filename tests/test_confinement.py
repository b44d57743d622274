"""Hypervisors, containers and limits from recorded files."""

from pathlib import Path

import pytest

from harness.machine import virtualization
from tests import recorded

DMI = "sys/class/dmi/id"


@pytest.mark.parametrize(
    ("flags", "files", "found"),
    [
        ("avx2", {f"{DMI}/sys_vendor": "Amazon EC2", f"{DMI}/product_name": "m7i.metal-24xl"}, "none"),
        ("avx2 hypervisor", {f"{DMI}/sys_vendor": "Amazon EC2", f"{DMI}/product_name": "m7i.large"}, "amazon"),
        ("avx2 hypervisor", {f"{DMI}/product_name": "Google Compute Engine"}, "google"),
        ("hypervisor", {f"{DMI}/sys_vendor": "QEMU", f"{DMI}/product_name": "Standard PC (Q35 + ICH9)"}, "qemu"),
        (
            "hypervisor",
            {f"{DMI}/sys_vendor": "Microsoft Corporation", f"{DMI}/product_name": "Virtual Machine"},
            "microsoft",
        ),
        ("avx2", {f"{DMI}/sys_vendor": "Microsoft Corporation", f"{DMI}/product_name": "Surface Laptop 5"}, "none"),
        ("avx2 hypervisor", {}, "unnamed"),
        ("avx2 hypervisor", {"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2"}, "wsl"),
        ("avx2", {"sys/hypervisor/type": "xen"}, "xen"),
        (None, {"proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "linux,kvm"),
        (None, {f"{DMI}/sys_vendor": "Amazon EC2", f"{DMI}/product_name": "c7g.large"}, "amazon"),
        (None, {f"{DMI}/sys_vendor": "Amazon EC2", f"{DMI}/product_name": "c7g.metal"}, "none"),
        (None, {}, None),
    ],
)
def test_virtualisation(tmp_path: Path, flags: str | None, files: dict[str, str], found: str | None) -> None:
    assert virtualization.virtualisation(recorded.linux(tmp_path, files), flags) == found


@pytest.mark.parametrize(
    ("files", "environ", "found"),
    [
        ({}, {}, "none"),
        ({".dockerenv": ""}, {}, "docker"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"proc/1/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope"}, {}, "kubernetes"),
        ({"run/.containerenv": ""}, {}, "podman"),
        ({".singularity.d/env": "x"}, {}, "apptainer"),
        ({"proc/self/mountinfo": "9 8 0:5 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw"}, {}, "lxc"),
        ({"proc/self/mountinfo": "9 8 0:5 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw"}, {}, "none"),
        ({"proc/1/cgroup": "0::/lxc.payload.node1/init.scope"}, {}, "lxc"),
        ({"proc/1/environ": "HOME=/\0container=systemd-nspawn\0TERM=x"}, {}, "systemd-nspawn"),
        ({"run/systemd/container": "lxc"}, {}, "lxc"),
    ],
)
def test_container(tmp_path: Path, files: dict[str, str], environ: dict[str, str], found: str) -> None:
    sources = recorded.linux(tmp_path, {"proc/self/cgroup": "0::/"} | files, environ)
    assert virtualization.container(sources) == found


def test_where_nothing_is_told_the_container_is_unknown(tmp_path: Path) -> None:
    assert virtualization.container(recorded.linux(tmp_path, {})) is None


def test_the_tightest_limit_up_the_tree_counts(tmp_path: Path) -> None:
    sources = recorded.linux(tmp_path, recorded.SERVER)
    assert virtualization.cpu_limit(sources) == 2.5
    assert virtualization.memory_limit_bytes(sources) == 64 * 2**30


def test_limits_of_older_control_groups(tmp_path: Path) -> None:
    sources = recorded.linux(tmp_path, recorded.CONTAINER)
    assert (virtualization.cpu_limit(sources), virtualization.memory_limit_bytes(sources)) == (None, None)
    tighter = {
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
        "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": "1073741824",
    }
    sources = recorded.linux(tmp_path, tighter)
    assert (virtualization.cpu_limit(sources), virtualization.memory_limit_bytes(sources)) == (1.5, 2**30)


def test_docker_in_a_virtual_machine(tmp_path: Path) -> None:
    assert virtualization.facts(recorded.linux(tmp_path, recorded.CONTAINER), "avx2 hypervisor") == {
        "virtualisation": "unnamed",
        "container": "docker",
        "cgroup_cpu_limit": None,
        "cgroup_memory_limit_bytes": None,
    }
