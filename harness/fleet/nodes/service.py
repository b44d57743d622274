"""Keeping a machine in the fleet: a service of systemd or a daemon of launchd that starts its node at boot and again.

Sources: systemd.service(5), systemd.unit(5), systemd.kill(5); launchd.plist(5), launchctl(1) Apple's TN3179.
"""

from __future__ import annotations

import os
import plistlib
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CellbenchError
from harness.fleet.nodes.command import PORT_BASE

STOP_S = 45  # longer than `cellbench node stop` needs at most
PAUSE_S = 10
LAUNCHD_PREFIX = "org.cellbench"

# What the node's process needs to know of the user's own environment. A token is not among it: anybody can read a unit.
HANDED_ON = ("PYTHONPATH", "CELLBENCH_HOME", "RAY_AUTH_TOKEN_PATH", "CELLPOSE_LOCAL_MODELS_PATH")

Call = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Service:
    """A file that a service manager reads, and the commands by which it takes notice. mode: of the file."""

    name: str
    path: Path
    text: str
    enable: tuple[tuple[str, ...], ...]
    disable: tuple[tuple[str, ...], ...]
    forget: tuple[tuple[str, ...], ...]  # after the file is gone
    start: str  # what a user types
    is_of_system: bool


@dataclass(frozen=True)
class Owner:
    """The user that the node runs as."""

    name: str
    home: Path


def unit_name(port_base: int) -> str:
    return "cellbench-node" if port_base == PORT_BASE else f"cellbench-node-{port_base}"


def make(
    system: str, scope: str, owner: Owner, program: Sequence[str], words: Sequence[str], port_base: int,
    environ: Mapping[str, str],
) -> Service:  # fmt: skip
    """The service for `cellbench node start`; program: how cellbench is called, words: the options of node start."""
    argv = [*program, "node", "start", "--block", *words]
    name = unit_name(port_base)
    given = {key: environ[key] for key in HANDED_ON if environ.get(key)}
    given |= {"HOME": str(owner.home), "CELLBENCH_SERVICE": name, "PYTHONUNBUFFERED": "1"}
    if environ.get("RAY_AUTH_TOKEN"):
        raise CellbenchError(
            "the token is in RAY_AUTH_TOKEN, where a service does not see it", "environment",
            "put it into ~/.ray/auth_token: cellbench node token --from USER@HEAD, without the variable",
        )  # fmt: skip
    if system == "darwin":
        if scope == "user":
            raise CellbenchError(
                "macOS keeps agents of a user out of the local network, and stops them at logout", "--scope user",
                "leave it out: the daemon of the system runs as you, too",
            )  # fmt: skip
        return _launchd(name, owner, argv, given)
    return _systemd(name, scope, owner, argv, given)


def _systemd(name: str, scope: str, owner: Owner, argv: Sequence[str], environ: Mapping[str, str]) -> Service:
    is_of_system = scope == "system"
    lines = [
        "[Unit]",
        "Description=Node of a Cellbench fleet (Ray)",
        # A boot that is faster than the driver would find no GPU.
        *(["Wants=network-online.target", "After=network-online.target nvidia-persistenced.service"] * is_of_system),
        # The head may be away for days: never give up.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=simple",
        *([f"User={owner.name}"] * is_of_system),
        *[f"Environment={_quoted(f'{key}={value}')}" for key, value in environ.items()],
        f"ExecStart={' '.join(_quoted(word, is_command=True) for word in argv)}",
        "Restart=always",
        f"RestartSec={PAUSE_S}",
        # Ours is told, and ends Ray's processes in their order.
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_S}",
        "LimitNOFILE=65536",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if is_of_system else 'default'}.target",
        "",
    ]
    folder = Path("/etc/systemd/system") if is_of_system else owner.home / ".config/systemd/user"
    ctl = ("systemctl",) if is_of_system else ("systemctl", "--user")
    unit = f"{name}.service"
    # Without lingering, a user's services end when he logs out.
    linger = () if is_of_system else (("loginctl", "enable-linger", owner.name),)
    sudo = "sudo " if is_of_system else ""
    return Service(
        name, folder / unit, "\n".join(lines),
        enable=(*linger, (*ctl, "daemon-reload"), (*ctl, "enable", "--now", unit)),
        disable=((*ctl, "disable", "--now", unit),),
        forget=((*ctl, "daemon-reload"),),
        start=f"{sudo}{' '.join(ctl)} start {name}",
        is_of_system=is_of_system,
    )  # fmt: skip


def _launchd(name: str, owner: Owner, argv: Sequence[str], environ: Mapping[str, str]) -> Service:
    label = f"{LAUNCHD_PREFIX}.{name}"
    path = Path("/Library/LaunchDaemons") / f"{label}.plist"
    log = str(owner.home / "Library/Logs" / f"{name}.log")
    folders = dict.fromkeys((str(Path(argv[0]).parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"))
    content = {
        "Label": label,
        "UserName": owner.name,
        "ProgramArguments": list(argv),  # it keeps the Mac awake itself (daemon)
        "EnvironmentVariables": {**environ, "PATH": ":".join(folders)},  # launchd's own is shorter
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": PAUSE_S,
        # Else the system throttles processor and disk, which would be measured.
        "ProcessType": "Interactive",
        "ExitTimeOut": STOP_S,
        "SoftResourceLimits": {"NumberOfFiles": 65536},
        "HardResourceLimits": {"NumberOfFiles": 65536},
        "WorkingDirectory": str(owner.home),
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    return Service(
        name, path, plistlib.dumps(content, sort_keys=False).decode(),
        enable=(("launchctl", "bootstrap", "system", str(path)),),
        disable=(("launchctl", "bootout", f"system/{label}"),),
        forget=(),
        start=f"sudo launchctl bootstrap system {path}",
        is_of_system=True,
    )  # fmt: skip


def _quoted(text: str, is_command: bool = False) -> str:
    """A word of a unit: % and, in a command, $ stand for something else there unless they are doubled."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    if is_command:
        text = text.replace("$", "$$")
    return f'"{text}"' if not text or any(each.isspace() or each in "'\";" for each in text) else text


def _call(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def install(service: Service, again: Sequence[str], call: Call = _call, root: Path = Path("/")) -> Path:
    """Write the service's file and enable it; again: this very command, told with sudo where rights are missing."""
    path = _below(root, service.path)
    _need_rights(service, path.parent, again)
    if path.exists():
        if path.read_text() == service.text:
            raise CellbenchError("this node is installed already", str(path), f"if it does not run: {service.start}")
        raise CellbenchError(
            "a node is installed already, with other options", str(path), "remove it first: cellbench node uninstall"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(service.text)
    new.chmod(0o644)
    new.replace(path)
    try:
        for argv in service.enable:
            _succeed(argv, call)
    except CellbenchError:
        path.unlink()  # nothing half-installed
        _try(service.forget, call)
        raise
    return path


def uninstall(service: Service, again: Sequence[str], call: Call = _call, root: Path = Path("/")) -> Path | None:
    """Stop the service and remove its file; the file's path, or None if there was none."""
    path = _below(root, service.path)
    if not path.exists():
        return None
    _need_rights(service, path.parent, again)
    _try(service.disable, call)  # one that is not loaded is no reason to keep the file
    path.unlink()
    _try(service.forget, call)
    return path


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _need_rights(service: Service, folder: Path, again: Sequence[str]) -> None:
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if service.is_of_system and not os.access(nearest, os.W_OK):
        raise CellbenchError(
            "a service of the system needs the rights of root", str(folder), f"sudo {shlex.join(again)}"
        )


def _try(commands: Sequence[Sequence[str]], call: Call) -> None:
    for argv in commands:
        with suppress(OSError):
            call(argv)


def _succeed(argv: Sequence[str], call: Call) -> None:
    try:
        done = call(argv)
    except OSError as error:
        raise CellbenchError(
            f"{argv[0]} cannot be called: {error.strerror}", shlex.join(argv),
            "this machine has no such service manager: run cellbench node start --block under the one it has",
        ) from error  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CellbenchError(f"{argv[0]} failed: {said}", shlex.join(argv), "mend that, and install again")


def how_to_stop(name: str) -> str:
    """What a user types to stop a service of this machine until the next boot."""
    if Path("/Library/LaunchDaemons").is_dir():
        return f"sudo launchctl bootout system/{LAUNCHD_PREFIX}.{name}"
    return f"sudo systemctl stop {name} (or systemctl --user stop {name})"
