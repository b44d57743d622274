"""A machine with a systemd that runs, made of Linux namespaces; its disk is this one's but for what services keep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("cron", "crontab", "ip", "mount", "nsenter", "setpriv", "unshare")
GROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--fork")
ADDRESS, GATEWAY = "10.77.1.1", "10.77.1.254"  # the gateway is nobody
# What a second systemd would do to the kernel, the devices and the disk that it shares with ours.
MASKED = (
    "proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service", "systemd-modules-load.service",
    "systemd-random-seed.service", "systemd-remount-fs.service", "systemd-sysctl.service", "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer", "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup.service",
    "systemd-udev-trigger.service", "systemd-udevd.service", "systemd-update-utmp.service",
)  # fmt: skip
OWN = (
    "/run", "/dev/shm", "/tmp/ray", "/etc/systemd/system", "/var/lib/systemd", "/var/log", "/var/spool/cron",
    str(GROUPS),
)  # fmt: skip
BOOT = f"""
set -e
mkdir -p /tmp/ray
for folder in {" ".join(OWN)}; do mount -t tmpfs tmpfs $folder; done
for unit in {" ".join(MASKED)}; do ln -s /dev/null /etc/systemd/system/$unit; done
if [ "$1" = 2 ]; then mount -t cgroup2 cgroup {GROUPS}
else mkdir {GROUPS}/systemd; mount -t cgroup -o none,name=systemd cgroup {GROUPS}/systemd; fi
mkdir -m 1730 /var/spool/cron/crontabs
chgrp crontab /var/spool/cron/crontabs
ip link set lo up
ip link add eth0 type veth peer name switch
ip address add {ADDRESS}/24 dev eth0
ip link set eth0 up
ip link set switch up
ip route add default via {GATEWAY}
export container=namespaces
exec {SYSTEMD} --system --unit=basic.target --log-target=console
"""


def why_not() -> str | None:
    """What this machine lacks to boot another one, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    if missing := [tool for tool in (str(SYSTEMD), *TOOLS) if not shutil.which(tool)]:
        return f"needs {', '.join(missing)}: apt-get install systemd cron iproute2"
    if subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, check=False).returncode:
        return "may not make namespaces"
    if not os.access(_parent_group(), os.W_OK):
        return "may not make a control group"
    return None


@dataclass(frozen=True)
class Machine:
    """A machine that is up; first: its systemd, as seen from here. home: of its root."""

    first: int
    home: Path
    console: Path

    def run(self, *words: object, may_fail: bool = False) -> str:
        """What a command says there, with an environment as after a login."""
        environ = [
            f"HOME={self.home}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PYTHONPATH={REPOSITORY}",
            "XDG_RUNTIME_DIR=/run/user/0",
        ]  # fmt: skip
        done = subprocess.run(
            ["nsenter", "--target", str(self.first), "--all", "--", "env", "-i", *environ, *map(str, words)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert may_fail or done.returncode == 0, f"{words}: {output}\n{self.console.read_text()}"
        return output

    def cellbench(self, *words: object, **options: bool) -> str:
        return self.run(sys.executable, "-m", "harness", *words, **options)

    def is_active(self, *unit: str) -> bool:
        return self.run("systemctl", "is-active", *unit, may_fail=True).strip() == "active"


@contextmanager
def booted(home: Path, console: Path) -> Iterator[Machine]:
    """A machine for as long as the context lasts; console: file for what its systemd says."""
    with _group() as group, console.open("w") as output:
        process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group),
                "unshare", *NAMESPACES, "--kill-child", "--mount-proc", "--", "sh", "-c", BOOT, "boot", str(_version()),
            ],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            until("its first process", lambda: process.poll() is not None or children.read_text(), 10)
            assert process.poll() is None, console.read_text()
            machine = Machine(int(children.read_text().split()[0]), home, console)
            until("systemd", lambda: machine.is_active("basic.target"), 60)
            yield machine
        finally:
            process.kill()  # and, by --kill-child, its systemd and all that this started
            process.wait()


def until(what: str, is_so: Callable[[], object], patience_s: float) -> None:
    """Wait until something is so; a test that waits in vain fails."""
    end_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end_s, f"waited {patience_s:g} s for {what}"
        time.sleep(0.2)


@contextmanager
def _group() -> Iterator[Path]:
    """A control group for the systemd to divide."""
    group = _parent_group() / f"cellbench-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        until("the last process to go", lambda: not any(_processes(group)), 20)
        for folder in sorted((path for path in [group, *group.rglob("*")] if path.is_dir()), reverse=True):
            folder.rmdir()


def _processes(group: Path) -> Sequence[str]:
    return [path.read_text() for path in group.rglob("cgroup.procs")]


def _version() -> int:
    return 2 if (GROUPS / "cgroup.controllers").exists() else 1


def _parent_group() -> Path:
    return GROUPS if _version() == 2 else GROUPS / "systemd"
