"""From what a user asks of `cellbench node install` to the service of this machine, with everything checked."""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import CellbenchError
from harness.fleet.nodes import command, daemon, node_setup, service, token
from harness.fleet.nodes.node_setup import Asked
from harness.fleet.nodes.service import Owner, Service
from harness.fleet.tags import promised
from harness.machine import folders

PROGRAM = (sys.executable, "-m", "harness")


def service_for(
    asked: Asked, tags: str | None, scope: str, user: str | None, only_shown: bool = False
) -> tuple[Service, list[str]]:
    """The service that keeps a node up as it is asked for, and the command that installs it."""
    setup = node_setup.place(asked)  # refuses what could not be started
    command.check(setup, sys.platform)
    if tags is not None:
        promised(setup.name, tags)
    owner = owner_of(user)
    words = [*replace(asked, temp_dir=setup.temp_dir).words(), *(["--tags", tags] if tags is not None else [])]
    its_service = service.make(sys.platform, _scope(scope), owner, PROGRAM, words, setup.port_base, os.environ)
    if not only_shown:
        _check(owner, setup.port_base)
    return its_service, _again("install", [*words, "--scope", scope, "--as", owner.name])


def _check(owner: Owner, port_base: int) -> None:
    """Refuse what would keep the service from ever starting its node."""
    is_caller = owner.name == getpass.getuser()
    token.required(os.environ if is_caller else {}, owner.home)  # another user's variables are not known here
    for node in daemon.running(folders.home() if is_caller else owner.home / ".cellbench"):
        if node.port_base == port_base and node.service is None:
            raise CellbenchError(
                f"{node.name} was started by hand and has the ports that the service needs", f"process {node.pid}",
                "stop it first: cellbench node stop",
            )  # fmt: skip


def service_to_remove(port_base: int, scope: str, user: str | None) -> tuple[Service, list[str]]:
    """The service of a node here, and the command that removes it."""
    owner = owner_of(user)
    its_service = service.make(sys.platform, _scope(scope), owner, PROGRAM, [], port_base, {})
    words = [*Asked(port_base=port_base).words(), "--scope", scope, "--as", owner.name]
    return its_service, _again("uninstall", words)


def owner_of(user: str | None) -> Owner:
    """Who the node is to run as: the one named, else whoever called sudo, else who calls."""
    name = user or os.environ.get("SUDO_USER") or getpass.getuser()
    try:
        home = Path(pwd.getpwnam(name).pw_dir)
    except KeyError:
        raise CellbenchError(f"this machine has no user {name!r}", "--as", "name one that it has") from None
    return Owner(name, Path.home() if name == getpass.getuser() else home)


def _scope(text: str) -> str:
    if text not in ("system", "user"):
        raise CellbenchError(f"{text!r} is no scope", "--scope", "give system or user")
    return text


def _again(what: str, words: Sequence[str]) -> list[str]:
    return [*PROGRAM, "node", what, *words]
