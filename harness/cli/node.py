"""Commands that make this machine a node of a fleet: start, stop, status, token, install, uninstall."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.help import Group
from harness.cli.options import Json
from harness.errors import CellbenchError

app = typer.Typer(name="node", cls=Group, no_args_is_help=True, help="Make this machine a node of a fleet.")

Head = Annotated[bool, typer.Option("--head", help="Make this machine the head of a fleet.")]
Address = Annotated[str | None, typer.Option("--address", help="HOST:PORT of the head of the fleet to join.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the head; 6379 if not given.", show_default=False)]
Ip = Annotated[str | None, typer.Option("--ip", help="Address of this machine that the others use.")]
Name = Annotated[
    str | None, typer.Option("--name", help="Name of this node in the results; the host name if not given.")
]
Tags = Annotated[
    str | None, typer.Option("--tags", help="Devices of this node, such as cpu,cuda=2; all that compute if not given.")
]
PortBase = Annotated[
    int, typer.Option("--port-base", help="First of this node's 200 ports; change it for a second fleet.")
]
TempDir = Annotated[str, typer.Option("--temp-dir", help="Folder of Ray's sockets and logs.")]
Scope = Annotated[str, typer.Option("--scope", help="system, or user (Linux only; needs no root).")]
User = Annotated[
    str | None, typer.Option("--as", help="User that the service runs as; you if not given, also with sudo.")
]
Print = Annotated[bool, typer.Option("--print", help="Print the command or the service, and stop.")]
PORT_BASE, TEMP_DIR = 20_000, "/tmp/ray"


@app.command("start")
def start_(
    head: Head = False,
    address: Address = None,
    port: Port = None,
    ip: Ip = None,
    name: Name = None,
    tags: Tags = None,
    port_base: PortBase = PORT_BASE,
    temp_dir: TempDir = TEMP_DIR,
    autoscaling_config: Annotated[str | None, typer.Option(help="File that `ray up` leaves for the head.")] = None,
    block: Annotated[bool, typer.Option("--block", help="Stay in the foreground, for a service manager.")] = False,
    print_: Print = False,
) -> None:
    """Start a node here: the head of a fleet, or one that joins.

    Ray is started, tagged with the devices that compute.
    """
    import os
    import sys

    from harness.fleet import network
    from harness.fleet.nodes import command, node_setup
    from harness.machine import folders

    options = node_setup.NodeOptions(head, address, port, ip, name, port_base, temp_dir, autoscaling_config)
    if address and not head and not print_:
        network.reach(address)  # bounded, while looking up a name is not
    setup = node_setup.place(options)
    command.check(setup, sys.platform)
    folder = folders.home()
    if not print_:
        _warn(node_setup.check(setup, folder, os.environ))
    its_tags, warnings = node_setup.tags(setup.name, tags)
    _warn(warnings)
    ray_start = command.ray_start(setup, its_tags, sys.platform, node_setup.ray())
    if print_:
        typer.echo(ray_start.text())
    elif block:
        node_setup.hold(
            setup, its_tags, ray_start, folder, lambda: typer.echo(node_setup.welcome(setup, its_tags), err=True)
        )
    else:
        node_setup.start(setup, its_tags, ray_start, folder)
        typer.echo(node_setup.welcome(setup, its_tags))


@app.command("stop")
def stop_(
    port_base: Annotated[
        int | None, typer.Option("--port-base", help="First port of the node to stop, if several run here.")
    ] = None,
) -> None:
    """Stop the node that was started here.

    Other Ray processes are not touched.
    """
    from harness.fleet.nodes import daemon, service_setup
    from harness.machine import folders
    from harness.services import manager

    folder = folders.home()
    nodes = [node for node in daemon.running(folder) if port_base in (None, node.port_base)]
    if not nodes:
        typer.echo("no node runs here that was started with cellbench", err=True)
        return
    if len(nodes) > 1:
        several = "; ".join(f"{node.name} of {node.head}: --port-base {node.port_base}" for node in nodes)
        raise CellbenchError("several nodes run here", several, "choose one with --port-base")
    node = nodes[0]
    if node.service:
        fix = service_setup.how_to_stop(node.port_base, manager.this_machine())
        raise CellbenchError(
            f"{node.name} is kept up by the service {node.service}, which would start it again", f"process {node.pid}",
            f"{fix}; or for good: cellbench node uninstall",
        )  # fmt: skip
    n_ended = daemon.stop(node, folder)
    typer.echo(f"{node.name} has left the fleet of {node.head}; {n_ended} processes ended", err=True)


@app.command("status")
def status_(address: Address = None, json: Json = False) -> None:
    """Show the state of this node and of the fleet."""
    import os
    from json import dumps

    from harness.fleet import network
    from harness.fleet.nodes import daemon, status
    from harness.fleet.nodes import head as its_head
    from harness.machine import folders

    here = daemon.running(folders.home())
    of = status.which_head(address, here, os.environ)
    network.reach(of)
    fleet = its_head.look(of)
    if json:
        typer.echo(dumps(status.summary(fleet, here), indent=2))
        return
    import pyarrow as pa

    from harness.terminal import run_tables
    from harness.terminal.table_printer import stderr

    stderr().print(status.sentence(fleet, here), markup=False)
    run_tables.print_table(pa.Table.from_pylist(status.rows(fleet, here)))


@app.command("token")
def token_(
    to: Annotated[
        list[str] | None, typer.Option("--to", help="USER@HOST to copy the token to; may be repeated.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="USER@HOST to copy the token from, usually the head.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another token that is already there.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the token itself.")] = False,
) -> None:
    """Print or set the token that admits nodes to the fleet.

    It is created where there is none.
    """
    import os

    from harness.fleet.nodes import token

    home = Path.home()
    if source is not None:
        found = token.fetch(source, token.file(os.environ, home), replace)
        typer.echo(f"the token of {source} is in {found.place}", err=True)
    else:
        found, is_new = token.found_or_made(os.environ, home)
        typer.echo(f"{'a new token' if is_new else 'the token'} is in {found.place}", err=True)
    for host in to or []:
        token.send(found, host, replace)
        typer.echo(f"it is in ~/.ray/auth_token of {host}, too", err=True)
    if show:
        typer.echo(found.text)


@app.command("install")
def install_(
    head: Head = False,
    address: Address = None,
    port: Port = None,
    ip: Ip = None,
    name: Name = None,
    tags: Tags = None,
    port_base: PortBase = PORT_BASE,
    temp_dir: TempDir = TEMP_DIR,
    scope: Scope = "system",
    user: User = None,
    print_: Print = False,
) -> None:
    """Install a service that starts the node at boot.

    The service belongs to systemd or launchd and restarts a node that ends.
    """
    from harness.fleet.nodes import node_setup, service_setup
    from harness.services import manager

    options, machine = (
        node_setup.NodeOptions(head, address, port, ip, name, port_base, temp_dir),
        manager.this_machine(),
    )
    unit, again = service_setup.service_for(options, tags, scope, user, machine, only_shown=print_)
    if print_:
        typer.echo(f"# {unit.path}", err=True)
        typer.echo(unit.files[unit.path], nl=False)
        return
    service_setup.install(unit, again, machine)
    typer.echo(f"{unit.path} is written, and the node starts now and at every boot", err=True)
    for line in unit.job.environment.lines():
        typer.echo(f"  {line}", err=True)


@app.command("uninstall")
def uninstall_(port_base: PortBase = PORT_BASE, scope: Scope = "system", user: User = None) -> None:
    """Remove the service and stop its node."""
    from harness.fleet.nodes import service_setup
    from harness.services import manager

    machine = manager.this_machine()
    unit, again = service_setup.service_to_remove(port_base, scope, user, machine)
    is_gone = service_setup.uninstall(unit, again, machine)
    typer.echo(f"{unit.path} is gone" if is_gone else f"there is no {unit.path}: nothing is installed", err=True)


def _warn(sentences: list[str]) -> None:
    for sentence in sentences:
        typer.echo(f"cellbench: {sentence}", err=True)
