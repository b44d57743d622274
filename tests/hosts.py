"""Hosts made of Linux namespaces: for ssh, Ray and Cellbench each is a machine of its own.

A host has its own network, processes, mounts, host name and shared memory, hence its own HOME, /tmp/ray and
/dev/shm, and its own sshd; the project and its Python are there read-only, at their usual paths. All hosts are on
one bridge, 10.77.0.0/24, in a network namespace without a way out. Only processors and disk are shared.

When the process that made them ends, however it ends, so does everything that runs on them: the first process of
each host is killed with its parent, and its process namespace goes with it.

This file is also that first process: `python hosts.py` reads a Setup from stdin, becomes the host and reaps.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount", "ssh", "ssh-keygen", "rsync", "bash")
SSHD = Path("/usr/sbin/sshd")
SUBNET = "10.77.0"
MASKED = ("/tmp", "/run", "/dev/shm")  # a host's own, and empty at first; so is its HOME
NAMESPACES = ("--net", "--pid", "--mount", "--uts", "--ipc")
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}


def why_not() -> str | None:
    """What this machine lacks to make hosts, or None."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    if missing := [tool for tool in TOOLS if not shutil.which(tool)] + [str(SSHD)] * (not SSHD.is_file()):
        return f"needs {', '.join(missing)}: apt-get install openssh-server iproute2 rsync"
    if subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, check=False).returncode:
        return "may not make namespaces"
    bridge = ["unshare", "--net", "ip", "link", "add", "br0", "type", "bridge"]
    if subprocess.run(bridge, capture_output=True, check=False).returncode:
        return "may not make a network bridge"
    return None


@dataclass(frozen=True)
class Setup:
    """What a host is when it starts: its name, the names of all hosts, and files as path → (mode, text)."""

    name: str
    hosts: Mapping[str, str]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """A command that has ended on a host; text is both its outputs as they came."""

    code: int
    text: str


@dataclass(frozen=True)
class Host:
    """A host that is up; init_pid is its first process as seen from here."""

    name: str
    ip: str
    init_pid: int
    scratch: Path

    @property
    def root(self) -> Path:
        """Its file system, seen from here."""
        return Path(f"/proc/{self.init_pid}/root")

    @property
    def home(self) -> Path:
        return self.root / home().relative_to("/")

    def start(self, command: str) -> Running:
        """Begin a shell command in the host's HOME, in a login shell with an empty environment."""
        output = self.scratch / f"{self.name}-{time.monotonic_ns()}.txt"
        words = [f"{name}={value}" for name, value in {**CLEAN, "HOME": str(home()), "USER": "root"}.items()]
        inside = ["env", "-i", *words, "bash", "--login", "-c", f"cd; {command}"]
        # Into a file: daemons that the command leaves behind would hold a pipe open.
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*_enter(self.init_pid, *NAMESPACES), *inside],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return Running(process, output)

    def run(self, command: str, timeout_s: float = 120) -> Done:
        return self.start(command).wait(timeout_s)

    def count(self, word: str) -> int:
        """How many processes on the host were started with this word in their command line, as the kernel tells.

        What such a process forks has its command line until it becomes another program, and is not counted: on a busy
        machine that moment can last.
        """
        mine = (Path(f"/proc/{self.init_pid}") / "ns/pid").readlink()
        parents: dict[int, int] = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                if word.encode() in (process / "cmdline").read_bytes() and (process / "ns/pid").readlink() == mine:
                    fields = (process / "stat").read_text().rpartition(")")[2].split()
                    parents[int(process.name)] = int(fields[1])
        return sum(parent not in parents for parent in parents.values())

    def processes(self) -> list[str]:
        """Command lines of what runs on the host, its first process and its sshd left out."""
        listed = self.run("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done").text
        ours = ("sshd", "hosts.py", "bash --login", "tr ")
        return [line for line in listed.splitlines() if line.strip() and not any(word in line for word in ours)]


@dataclass(frozen=True)
class Running:
    """A command that goes on on a host."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait(self, timeout_s: float) -> Done:
        """Its end; a command that takes longer fails the test with what it said so far."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end after {timeout_s} s:\n{self.text}") from None
        return Done(code, self.text)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace").replace("\r\n", "\n")


@contextmanager
def lan(
    names: list[str], scratch: Path, files: Mapping[str, Mapping[str, tuple[int, str]]]
) -> Iterator[dict[str, Host]]:
    """Hosts of these names at 10.77.0.1, .2, …, with a key that lets each into every other by ssh."""
    addresses = {name: f"{SUBNET}.{i}" for i, name in enumerate(names, 1)}
    keys = _keys(scratch)
    with ExitStack() as stack:
        switch = stack.enter_context(_namespaces(["--net"], ["sleep", "infinity"]))
        for words in ("link add br0 type bridge", "link set br0 up", "link set lo up"):
            _ip(switch, words)
        hosts = {}
        for name, ip in addresses.items():
            setup = Setup(name, addresses, {**keys, **_installation(), **files.get(name, {})}, _kept())
            pid = stack.enter_context(
                _namespaces([*NAMESPACES, "--mount-proc"], [sys.executable, "-I", __file__], setup)
            )
            _plug_in(switch, pid, name, ip)
            hosts[name] = Host(name, ip, pid, scratch)
        for host in hosts.values():
            _until_up(host)
        yield hosts


def home() -> Path:
    """HOME of root on every host, as sshd finds it."""
    return Path(pwd.getpwuid(0).pw_dir)


# ---------------------------------------------------------------- from outside


@contextmanager
def _namespaces(which: list[str], command: list[str], setup: Setup | None = None) -> Iterator[int]:
    """A process in new namespaces, for as long as the context lasts; yields its pid."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *which, "--fork", "--kill-child", "--", *command],
        stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = None
    try:
        process.stdin.write(json.dumps(asdict(setup)) if setup else "")
        process.stdin.close()
        yield (first := _child_of(process.pid))
    finally:
        process.kill()  # and, by --kill-child, the first process of the namespaces: everything in them ends
        process.wait()
        end_s = time.monotonic() + 20
        while first and Path(f"/proc/{first}").exists() and time.monotonic() < end_s:
            time.sleep(0.05)


def _child_of(pid: int, patience_s: float = 10) -> int:
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.02)
    raise TimeoutError("the namespaces did not start")


def _enter(pid: int, *which: str) -> list[str]:
    return ["nsenter", "--target", str(pid), *which, "--"]


def _ip(pid: int, words: str) -> None:
    subprocess.run([*_enter(pid, "--net"), "ip", *words.split()], check=True)


def _plug_in(switch: int, pid: int, name: str, ip: str) -> None:
    """A cable from the host to the switch. The gateway is nobody: as in any network there is a way out to try."""
    _ip(switch, f"link add v-{name} type veth peer name eth0 netns {pid}")
    _ip(switch, f"link set v-{name} master br0 up")
    for words in ("link set lo up", f"addr add {ip}/24 dev eth0", "link set eth0 up"):
        _ip(pid, words)
    _ip(pid, f"route add default via {SUBNET}.254")


def _until_up(host: Host, patience_s: float = 20) -> None:
    """Wait for its sshd."""
    end_s = time.monotonic() + patience_s
    while host.run("exec 3<>/dev/tcp/127.0.0.1/22").code:
        if time.monotonic() > end_s:
            raise TimeoutError(f"host {host.name} did not start its sshd")
        time.sleep(0.2)


def _keys(scratch: Path) -> dict[str, tuple[int, str]]:
    """One key pair that is every host's own and its user's."""
    private = scratch / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)], check=True)
    public = private.with_suffix(".pub").read_text()
    ssh = home() / ".ssh"
    return {
        "/run/host_key": (0o600, private.read_text()),
        str(ssh / "fleet_key"): (0o600, private.read_text()),
        str(ssh / "authorized_keys"): (0o600, public),
    }


def _installation() -> dict[str, tuple[int, str]]:
    """~/cellbench/.venv/bin as an installation has it; it leads to this checkout and this Python."""
    python = f"exec env PYTHONPATH={REPOSITORY} {sys.executable}"
    folder = home() / "cellbench/.venv/bin"
    lines = {"python": python, "cellbench": f"{python} -m harness", "ray": f"{python} -m ray.scripts.scripts"}
    return {str(folder / name): (0o755, f'#!/bin/sh\n{line} "$@"\n') for name, line in lines.items()}


def _kept() -> tuple[str, ...]:
    """What every host shares, read-only: the project and the Python that runs it."""
    return tuple(sorted({str(REPOSITORY), sys.prefix, sys.base_prefix} - {"/usr", "/usr/local"}))


# ---------------------------------------------------------------- the first process of a host


def become(setup: Setup) -> None:
    """Turn the new namespaces into the host."""
    socket.sethostname(setup.name)
    _mask([*MASKED, str(home())], setup.kept)
    for path, (mode, text) in setup.files.items():
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    hosts = Path("/run/hosts")
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in setup.hosts.items()))
    _mount("--bind", "/run/hosts", "/etc/hosts")
    Path("/run/sshd").mkdir(mode=0o755)
    Path("/run/sshd_config").write_text(
        "HostKey /run/host_key\nAuthorizedKeysFile .ssh/authorized_keys\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nUsePAM no\nUseDNS no\nStrictModes no\nPidFile none\n"
    )
    with Path("/run/sshd.log").open("w") as log:
        subprocess.Popen([str(SSHD), "-D", "-e", "-f", "/run/sshd_config"], stderr=log)


def _mask(folders: list[str], kept: tuple[str, ...]) -> None:
    """Put an empty folder of memory over each of these; what is kept shines through, read-only."""
    hold = Path("/mnt")
    _mount("-t", "tmpfs", "tmpfs", str(hold))
    for i, path in enumerate(kept):
        (hold / str(i)).mkdir()
        _mount("--bind", path, str(hold / str(i)))
    for folder in folders:
        _mount("-t", "tmpfs", "-o", f"mode={'1777' if folder in ('/tmp', '/dev/shm') else '755'}", "tmpfs", folder)
    for i, path in enumerate(kept):
        Path(path).mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(hold / str(i)), path)
        _mount("-o", "remount,bind,ro", path)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def main() -> None:
    """Process 1: become the host, then take care of orphans until killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = json.load(sys.stdin)
    become(Setup(**{**output, "kept": tuple(output["kept"])}))
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
