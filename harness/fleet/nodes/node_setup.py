"""The way of a machine into a fleet: place() ─▶ check() ─▶ tags() ─▶ command.ray_start() ─▶ start() or hold()."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet import network
from harness.fleet.driver import survey
from harness.fleet.nodes import daemon, head, token
from harness.fleet.nodes.command import GCS_PORT, PORT_BASE, TEMP_DIR, Command, Setup
from harness.fleet.tags import Tags, checked_name, detected, host_name, promised
from harness.machine import probe
from harness.machine.accelerators import Device
from harness.measure import parent


@dataclass(frozen=True)
class NodeOptions:
    """The user's options for the node; None where this machine finds the value."""

    is_head: bool = False
    address: str | None = None
    port: int | None = None
    ip: str | None = None
    name: str | None = None
    port_base: int = PORT_BASE
    temp_dir: str = TEMP_DIR
    autoscaling_config: str | None = None

    def words(self) -> list[str]:
        """The same as options of `cellbench node start`, without default values."""
        options = {
            "--address": self.address, "--port": self.port, "--ip": self.ip, "--name": self.name,
            "--port-base": None if self.port_base == PORT_BASE else self.port_base,
            "--temp-dir": None if self.temp_dir == TEMP_DIR else self.temp_dir,
            "--autoscaling-config": self.autoscaling_config,
        }  # fmt: skip
        given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        return (["--head"] if self.is_head else []) + given


def place(options: NodeOptions) -> Setup:
    """Decide the place of the node; only the name service is used."""
    if options.is_head == bool(options.address):
        raise CellbenchError(
            "a node is either the head of a fleet or joins one", "--head, --address",
            "give --head on one machine, and --address HOST:PORT of that one on all others",
        )  # fmt: skip
    for option, value in (("--port", options.port), ("--autoscaling-config", options.autoscaling_config)):
        if value is not None and not options.is_head:
            raise CellbenchError(f"{option} is for the head only", f"{option} {value}", "leave it out here")
    ip, head_address = _addresses(options)
    config = options.autoscaling_config and files.expanded(options.autoscaling_config).absolute()
    if config and not config.is_file():
        raise CellbenchError("there is no such file", f"--autoscaling-config {config}", "only `ray up` makes one")
    return Setup(
        name=checked_name(options.name) if options.name is not None else host_name(),
        ip=ip,
        head=head_address,
        is_head=options.is_head,
        port_base=options.port_base,
        temp_dir=str(files.expanded(options.temp_dir).absolute()),
        autoscaling_config=str(config) if config else None,
    )


def _addresses(options: NodeOptions) -> tuple[str, str]:
    """This node's address and its head's HOST:PORT; never loopback where there is another, as Ray does it itself."""
    if options.ip is not None and (not _is_ip(options.ip) or not network.is_ours(options.ip)):
        raise CellbenchError(
            f"{options.ip!r} is not an address of this machine", "--ip", "see them with: ip address, ifconfig"
        )
    outwards = network.own_ip() or "127.0.0.1"
    if options.ip is not None and not network.is_loopback(options.ip):
        outwards = options.ip
    if options.is_head:
        return outwards, network.join_address(outwards, options.port or GCS_PORT)
    try:
        host, port = network.split_address(options.address or "")
    except ValueError:
        raise CellbenchError(
            f"{options.address!r} is not the address of a head",
            "--address",
            "give it as HOST:PORT; the usual port is 6379",
        ) from None
    try:
        host = network.resolve(host)
    except (OSError, UnicodeError):
        return outwards, network.join_address(host, port)
    if network.is_loopback(host):
        return outwards, network.join_address(outwards, port)
    seen = options.ip or network.own_ip(host) or outwards
    return seen, network.join_address(host, port)


def _is_ip(text: str) -> bool:
    try:
        network.is_loopback(text)
    except ValueError:
        return False
    return True


def check(
    setup: Setup, folder: Path, environ: Mapping[str, str], look: Callable[[str], head.Head] = head.look
) -> list[str]:
    """Reject what would not work, before anything is started; returns warnings as sentences."""
    token.required(environ, Path.home())
    warnings = _check_machine(setup, daemon.running(folder))
    if setup.is_head:
        if network.is_loopback(setup.ip):
            warnings.append(f"this machine has only the address {setup.ip}, so no other can join; --ip sets another")
        return warnings
    network.reach(setup.head)
    fleet = look(setup.head)
    warnings += head.compare(survey.versions_of(), fleet)
    for member in fleet.members:
        # One at this address and port cannot be alive, since the port is free: the head has not noticed yet.
        if member.is_up and member.name == setup.name and (member.ip, member.port) != (setup.ip, setup.node_port):
            raise CellbenchError(
                f"the fleet has a node {setup.name} already, at {member.ip}", f"the head at {setup.head}",
                "give this one another name: --name; if it was this machine, it is off the list half a minute after "
                "it went away",
            )  # fmt: skip
    return warnings


def _check_machine(setup: Setup, nodes: list[daemon.Running]) -> list[str]:
    for node in nodes:
        if node.port_base == setup.port_base:
            raise CellbenchError(
                f"this machine is in a fleet already: {node.name}, whose head is {node.head}", f"process {node.pid}",
                "stop it first: cellbench node stop; or start a second one with other ports: --port-base",
            )  # fmt: skip
    ports = setup.fixed_ports()
    if taken := [f"{port} ({name})" for name, port in ports.items() if not network.is_free(port)]:
        raise CellbenchError(
            f"ports are in use: {', '.join(taken)}", "this machine",
            "see who has them: ss -ltnp, or lsof -iTCP -sTCP:LISTEN; or give others: --port-base"
            + (", --port" if setup.is_head else ""),
        )  # fmt: skip
    _check_folder(Path(setup.temp_dir))
    if not nodes:
        return []
    others = ", ".join(f"{node.name} of {node.head}" for node in nodes)
    return [
        f"another node runs on this machine ({others}): measurements of the two can meet, so run only one at a time; "
        "and address auto means the one that was started last"
    ]


def _check_folder(folder: Path) -> None:
    """Check that Ray can write into its folder; often it belongs to another user, or to root."""
    known = folder / "ray_current_cluster"
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    for path in (nearest, known):
        if path.exists() and not os.access(path, os.W_OK):
            raise CellbenchError(
                "Ray's folder belongs to another user", str(path),
                f"if no Ray of that user runs: sudo rm -r {shlex.quote(str(folder))}; or give another: --temp-dir",
            )  # fmt: skip
    if not nearest.is_dir():
        raise CellbenchError("Ray's folder is a file", str(nearest), "give another: --temp-dir")


def tags(name: str, wanted: str | None, devices: Callable[[], list[Device]] = parent.devices) -> tuple[Tags, list[str]]:
    """The tags of devices that compute here, or the user's tags, with a sentence about them."""
    chip = probe.cpu_model()
    if wanted is None:
        return detected(name, devices(), chip), []
    given = promised(name, wanted, chip)
    return given, [f"the tags {given.text()} are not checked: cases on a device that is missing here will fail"]


def ray() -> tuple[str, ...]:
    """The words that call `ray` here: the one of this environment, not the first in the PATH."""
    script = Path(sys.executable).with_name("ray")
    return (str(script),) if script.exists() else (sys.executable, "-m", "ray.scripts.scripts")


def start(setup: Setup, its_tags: Tags, command: Command, folder: Path) -> daemon.Running:
    """Start the node in the background and return when its head lists it."""
    process, node = daemon.begin(setup, its_tags, command, folder)
    try:
        daemon.wait_until_up(process, setup, Path(node.log) if node.log else None)
        _publish(setup)
    except BaseException:
        daemon.stop(node, folder)
        raise
    return node


def hold(setup: Setup, its_tags: Tags, command: Command, folder: Path, on_up: Callable[[], None]) -> None:
    """Start the node, call on_up() when its head lists it, and stay until it ends; SIGTERM and Ctrl-C end it.

    Raises FleetUnreachableError if Ray ends by itself, so that a service manager starts it again.
    """
    process, node = daemon.begin(setup, its_tags, command, folder, foreground=True)
    signals: list[int] = []

    def end(number: int, _frame: object) -> None:
        signals.append(number)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    try:
        daemon.wait_until_up(process, setup, None)
        _publish(setup)
        on_up()
        process.wait()
        if not signals:
            raise FleetUnreachableError(
                f"Ray ended by itself, with exit code {process.returncode}", f"the head is {setup.head}",
                "see what it printed above; usually the head stopped",
            )  # fmt: skip
    except FleetUnreachableError:
        if not signals:
            raise
    finally:
        daemon.stop(node, folder)


def _publish(setup: Setup) -> None:
    if setup.is_head:
        head.publish(setup.head, survey.versions_of())


def welcome(setup: Setup, its_tags: Tags) -> str:
    """The message when a node is up; a head's contains the command for others to join."""
    if not setup.is_head:
        return (
            f"{setup.name} ({its_tags.text()}) is a node of the fleet of {setup.head}.\n"
            f"The fleet's machines must reach this one's TCP ports {setup.open_ports()}; others must not."
        )
    return (
        f"{setup.name} ({its_tags.text()}) is the head of a fleet: {setup.head}\n"
        "To join another machine, Linux or Mac, with the same cellbench installed, run there:\n"
        f"  cellbench node token --from {getpass.getuser()}@{setup.ip} && cellbench node start --address {setup.head}\n"
        f"The fleet's machines must reach this one's TCP ports {setup.open_ports()}; others must not."
    )
