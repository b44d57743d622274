"""The command line that starts Ray on this machine, from facts about the machine: arguments and environment.

Pure. Everything that Ray would choose at random or by its own defaults is chosen here. So nodes find each other through
firewalls, no idle process disturbs a measurement, and two fleets on one machine stay separate.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import CellbenchError
from harness.fleet import network
from harness.fleet.ray_settings import ENVIRONMENT, OBJECT_STORE_BYTES
from harness.fleet.tags import Tags

GCS_PORT = 6379
PORT_BASE = 20_000
TEMP_DIR = "/tmp/ray"

# Ports of every node, counted from the base; other nodes send work to the first.
NODE_PORTS = {
    "node-manager-port": 1, "object-manager-port": 2, "runtime-env-agent-port": 3, "metrics-export-port": 4,
    "dashboard-agent-listen-port": 5, "dashboard-agent-grpc-port": 6,
}  # fmt: skip
CLIENT_PORT, DASHBOARD_PORT = 7, 8  # of the head only; `ray start` cannot leave the client's server out
EXPORTERS = {"AUTOSCALER_METRIC_PORT": 9, "DASHBOARD_METRIC_PORT": 10}  # of the head only; fixed if not given
WORKER_PORTS = (100, 199)
USUAL_DASHBOARD_PORT = 8265  # the default of `ray dashboard` and `ray job submit`

# A head declares a node dead after 5 failures of 3 s, each after a pause of 3 s. Ray's own 65 s are long for a Mac
# that fell asleep; below 20 s a node whose cores are all busy measuring might be declared dead.
HEALTH = {
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
}

# Not inherited: the first is 1 in the shells of `ray up`, the second would misdirect workers.
NOT_INHERITED = ("OMP_NUM_THREADS", "RAY_ADDRESS")

# The longest that Ray adds to its folder for a socket, and the longest path that a socket may have (sys/un.h).
SOCKET = "/session_2026-01-02_03-04-05_678901_4194304/sockets/plasma_store.1"
SOCKET_CHARACTERS = {"darwin": 103, "linux": 107}


@dataclass(frozen=True)
class Setup:
    """The place of a node: its name and address, its head, its ports and its folder."""

    name: str
    ip: str
    head: str  # HOST:PORT of the head's control service; this node's own if it is the head
    is_head: bool
    port_base: int = PORT_BASE
    temp_dir: str = TEMP_DIR
    autoscaling_config: str | None = None  # only `ray up` makes one, for the head

    @property
    def gcs_port(self) -> int:
        return network.split_address(self.head)[1]

    @property
    def node_port(self) -> int:
        """The port for work from other nodes; it answers as soon as the node runs."""
        return self.port_base + NODE_PORTS["node-manager-port"]

    @property
    def dashboard_port(self) -> int:
        return USUAL_DASHBOARD_PORT if self.port_base == PORT_BASE else self.port_base + DASHBOARD_PORT

    def fixed_ports(self) -> dict[str, int]:
        """Every port that this node needs for itself, by purpose; workers take theirs from a range."""
        ports = {name: self.port_base + offset for name, offset in NODE_PORTS.items()}
        if not self.is_head:
            return ports
        return {
            "port": self.gcs_port,
            **ports,
            "ray-client-server-port": self.port_base + CLIENT_PORT,
            "dashboard-port": self.dashboard_port,
            **{name: self.port_base + offset for name, offset in EXPORTERS.items()},
        }

    def open_ports(self) -> str:
        """The ports that the firewalls of a fleet's machines must open, as a text."""
        base, offsets = self.port_base, NODE_PORTS.values()
        own = f"{base + min(offsets)}-{base + max(offsets)}, {base + WORKER_PORTS[0]}-{base + WORKER_PORTS[1]}"
        return f"{self.gcs_port}, {own}" if self.is_head else own


@dataclass(frozen=True)
class Command:
    """A command, with the additions to and removals from its environment."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the process."""
        return {**{k: v for k, v in inherited.items() if k not in NOT_INHERITED}, **self.environ}

    def text(self) -> str:
        """The command for a shell, a line for each option."""
        unset = [f"-u {name}" for name in NOT_INHERITED]
        given = [f"{name}={shlex.quote(value)}" for name, value in self.environ.items()]
        program = shlex.join(self.argv[: self.argv.index("start") + 1])
        options = [shlex.quote(word) for word in self.argv[self.argv.index("start") + 1 :]]
        return " \\\n  ".join([f"env {' '.join(unset)}", *given, program, *options])


def check(setup: Setup, system: str) -> None:
    """Reject ports and folders that Ray cannot use; system: sys.platform."""
    if not 1024 <= setup.port_base <= 65_535 - WORKER_PORTS[1]:
        raise CellbenchError(
            f"{setup.port_base} cannot be the first of the ports", "--port-base",
            f"give one from 1024 to {65_535 - WORKER_PORTS[1]}",
        )  # fmt: skip
    taken = setup.port_base <= setup.gcs_port <= setup.port_base + WORKER_PORTS[1]
    if setup.is_head and (taken or not 1024 <= setup.gcs_port <= 65_535):
        raise CellbenchError(
            f"{setup.gcs_port} cannot be the port of a head", "--port",
            f"give one from 1024 to 65535 outside of {setup.port_base} to {setup.port_base + WORKER_PORTS[1]}",
        )  # fmt: skip
    longest = SOCKET_CHARACTERS.get(system, min(SOCKET_CHARACTERS.values())) - len(SOCKET)
    if len(setup.temp_dir.encode()) > longest:
        raise CellbenchError(
            "the path of Ray's folder is too long: sockets lie in it, whose paths are limited",
            f"--temp-dir {setup.temp_dir}", f"give one of at most {longest} characters, such as {TEMP_DIR}",
        )  # fmt: skip


def ray_start(setup: Setup, tags: Tags, system: str, ray: tuple[str, ...] = ("ray",)) -> Command:
    """The command that starts this node in the foreground; ray: the words that call `ray` here."""
    ports = setup.fixed_ports()
    options = [f"--{name}={ports[name]}" for name in NODE_PORTS]
    if setup.is_head:
        where = ["--head", f"--port={setup.gcs_port}"]
        # Jobs are submitted through the dashboard, so the head has one; any user who reaches it may run code there.
        options += [f"--ray-client-server-port={ports['ray-client-server-port']}", "--include-dashboard=true"]
        options += ["--dashboard-host=127.0.0.1", f"--dashboard-port={setup.dashboard_port}"]
        options += [f"--autoscaling-config={setup.autoscaling_config}"] if setup.autoscaling_config else []
    else:
        where = [f"--address={setup.head}"]
    return Command(
        argv=(
            *ray, "start", *where, "--block",
            f"--node-ip-address={setup.ip}",
            # Given on every node: Ray would use the head's folder, which a Mac may not have.
            f"--temp-dir={setup.temp_dir}",
            # Work that requests a processor and not the slot hardly finds room.
            "--num-cpus=1",
            f"--resources={json.dumps(tags.resources(), separators=(',', ':'))}",
            f"--labels={','.join(f'{key}={value}' for key, value in tags.labels().items())}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            "--include-log-monitor=false",
            "--log-color=false",
            *options,
            f"--min-worker-port={setup.port_base + WORKER_PORTS[0]}",
            f"--max-worker-port={setup.port_base + WORKER_PORTS[1]}",
        ),
        environ=_environ(setup, system),
    )  # fmt: skip


def _environ(setup: Setup, system: str) -> dict[str, str]:
    environ = {
        **ENVIRONMENT,
        # Ray would end the relay, and with it the block, where memory is full; the kernel ends the measuring process
        # itself, which becomes a row as without Ray.
        "RAY_memory_monitor_refresh_ms": "0",
    }
    if setup.is_head:
        environ |= HEALTH
        environ |= {name: str(setup.port_base + offset) for name, offset in EXPORTERS.items()}
        # The newer one never starts the workers of machines that are listed by address (ray-project/ray#59905).
        environ["RAY_enable_autoscaler_v2"] = "0"
    if system == "darwin":
        environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    return environ
