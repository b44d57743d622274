"""`cellbench node install`: a node as a service of this machine, with everything checked before."""

from __future__ import annotations

import getpass
import os
import pwd
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import CellbenchError
from harness.fleet.nodes import command, daemon, node_setup, token
from harness.fleet.nodes.command import PORT_BASE
from harness.fleet.nodes.node_setup import NodeOptions
from harness.fleet.tags import promised
from harness.machine import folders
from harness.services import environment, manager
from harness.services.manager import Machine
from harness.services.units import Job, Unit

PROGRAM = (sys.executable, "-m", "harness")
STOP_S = 45  # longer than `cellbench node stop` needs at most
MAC_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")  # launchd's own PATH is shorter


@dataclass(frozen=True)
class Owner:
    """The user that the node runs as."""

    name: str
    home: Path


def unit_name(port_base: int) -> str:
    """The name of the service that keeps the node with these ports."""
    return "cellbench-node" if port_base == PORT_BASE else f"cellbench-node-{port_base}"


def service_for(
    options: NodeOptions, tags: str | None, scope: str, user: str | None, machine: Machine, only_shown: bool = False
) -> tuple[Unit, list[str]]:
    """The service that keeps the requested node up, and the command that installs it."""
    setup = node_setup.place(options)  # rejects what could not be started
    command.check(setup, machine.platform)
    if tags is not None:
        promised(setup.name, tags)
    owner = owner_of(user)
    words = [*replace(options, temp_dir=setup.temp_dir).words(), *(["--tags", tags] if tags is not None else [])]
    unit = make(words, scope, owner, setup.port_base, machine)
    if not only_shown:
        _check(owner, setup.port_base)
    return unit, [*PROGRAM, "node", "install", *words, "--scope", scope, "--as", owner.name]


def service_to_remove(port_base: int, scope: str, user: str | None, machine: Machine) -> tuple[Unit, list[str]]:
    """The service of a node here, and the command that removes it."""
    owner = owner_of(user)
    words = [*NodeOptions(port_base=port_base).words(), "--scope", scope, "--as", owner.name]
    unit = make([], scope, owner, port_base, replace(machine, environment={}))
    return unit, [*PROGRAM, "node", "uninstall", *words]


def make(words: Sequence[str], scope: str, owner: Owner, port_base: int, machine: Machine) -> Unit:
    """The service for `cellbench node start` with these options."""
    name, kind = unit_name(port_base), _kind(scope, machine.platform)
    if machine.environment.get("RAY_AUTH_TOKEN"):
        raise CellbenchError(
            "the token is in RAY_AUTH_TOKEN, where a service does not see it", "environment",
            "put it into ~/.ray/auth_token: cellbench node token --from USER@HEAD, without the variable",
        )  # fmt: skip
    more = {"HOME": str(owner.home), "CELLBENCH_SERVICE": name, "PYTHONUNBUFFERED": "1"}
    if kind == "launchd":
        theirs = machine.environment.get("PATH", "").split(os.pathsep)
        wanted = (*theirs, str(Path(PROGRAM[0]).parent), *MAC_FOLDERS)
        more["PATH"] = os.pathsep.join(filter(None, dict.fromkeys(wanted)))
    job = Job(
        name=name,
        description="Node of a Cellbench fleet (Ray)",
        argv=(*PROGRAM, "node", "start", "--block", *words),  # it keeps a Mac awake itself (daemon)
        environment=environment.job_environment(machine.environment, **more),
        folder=str(owner.home),
        log=owner.home / "Library/Logs" / f"{name}.log",
        stop_s=STOP_S,
        user=None if kind == "systemd-user" else owner.name,
    )
    unit = manager.unit(job, kind, replace(machine, home=owner.home))
    if kind == "systemd-user":  # whose services end when their user logs out, without this
        unit = replace(unit, start=(("loginctl", "enable-linger", owner.name), *unit.start))
    return unit


def install(unit: Unit, again: Sequence[str], machine: Machine) -> None:
    """Write the service's file and start it; again: this very command, for sudo."""
    manager.check_rights(unit, machine, f"sudo {shlex.join(again)}")
    if unit.path.exists():
        is_same = unit.path.read_text() == unit.files[unit.path]
        raise CellbenchError(
            f"a node is installed already, with {'these' if is_same else 'other'} options", str(unit.path),
            f"if it does not run: {unit.begin}" if is_same else "remove it first: cellbench node uninstall",
        )  # fmt: skip
    manager.install(unit, machine)


def uninstall(unit: Unit, again: Sequence[str], machine: Machine) -> bool:
    """Stop the service and remove its file; False if there was none."""
    if unit.path.exists():
        manager.check_rights(unit, machine, f"sudo {shlex.join(again)}")
    return manager.remove(unit, machine)


def how_to_stop(port_base: int, machine: Machine) -> str:
    """The command that stops the service of a node here until the next boot."""
    owner, bare = Owner(machine.user, machine.home), replace(machine, environment={})
    scopes = ("system",) if machine.platform == "darwin" else ("system", "user")
    return ", or ".join(make([], scope, owner, port_base, bare).end for scope in scopes)


def owner_of(user: str | None) -> Owner:
    """The user for the node: the one named, else the caller of sudo, else the caller."""
    name = user or os.environ.get("SUDO_USER") or getpass.getuser()
    try:
        home = Path(pwd.getpwnam(name).pw_dir)
    except KeyError:
        raise CellbenchError(f"this machine has no user {name!r}", "--as", "name one that it has") from None
    return Owner(name, Path.home() if name == getpass.getuser() else home)


def _check(owner: Owner, port_base: int) -> None:
    """Reject a service that could never start its node."""
    is_caller = owner.name == getpass.getuser()
    token.required(os.environ if is_caller else {}, owner.home)  # another user's variables are unknown here
    for node in daemon.running(folders.home() if is_caller else owner.home / ".cellbench"):
        if node.port_base == port_base and node.service is None:
            raise CellbenchError(
                f"{node.name} was started by hand and has the ports that the service needs", f"process {node.pid}",
                "stop it first: cellbench node stop",
            )  # fmt: skip


def _kind(scope: str, platform: str) -> str:
    """The service manager of a scope."""
    if scope not in ("system", "user"):
        raise CellbenchError(f"{scope!r} is not a scope", "--scope", "give system or user")
    if platform != "darwin":
        return "systemd" if scope == "system" else "systemd-user"
    if scope == "user":
        raise CellbenchError(
            "macOS keeps agents of a user out of the local network, and stops them at logout", "--scope user",
            "leave it out: the daemon of the system runs as your user, too",
        )  # fmt: skip
    return "launchd"
