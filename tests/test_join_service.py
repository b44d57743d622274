"""The service that keeps a node: what it starts, what it keeps, and how it is installed. Its files: test_services."""

import plistlib
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CellbenchError
from harness.fleet.nodes import service_setup
from harness.fleet.nodes.node_setup import NodeOptions
from harness.fleet.nodes.service_setup import Owner
from harness.services.manager import Machine
from harness.services.units import Unit
from tests.test_services import machine, settings

WORDS = ["--address", "10.0.0.5:6379", "--name", "mac"]
AGAIN = [*service_setup.PROGRAM, "node", "install", *WORDS]
ALICE = Owner("alice", Path("/home/alice"))


def made(here: Machine, scope: str = "system", port_base: int = 20_000, **environ: str) -> Unit:
    return service_setup.make(WORDS, scope, ALICE, port_base, replace(here, environment=environ))


def test_a_unit_starts_the_node_as_its_owner(tmp_path: Path) -> None:
    service = made(machine(tmp_path, root=Path("/")), CELLBENCH_HOME="/data/cellbench", UNRELATED="x", HOME="/root")
    assert service.path == Path("/etc/systemd/system/cellbench-node.service")
    unit = settings(service.files[service.path])
    assert (unit["User"], unit["WorkingDirectory"]) == (["alice"], ["/home/alice"])
    assert [shlex.split(line) for line in unit["ExecStart"]] == [
        [sys.executable, "-m", "harness", "node", "start", "--block", *WORDS]
    ]
    environ = {word for line in unit["Environment"] for word in shlex.split(line)}
    assert {"HOME=/home/alice", "CELLBENCH_HOME=/data/cellbench", "CELLBENCH_SERVICE=cellbench-node"} < environ
    assert not any("UNRELATED" in each for each in environ)


def test_a_unit_of_the_user_lingers(tmp_path: Path) -> None:
    service = made(machine(tmp_path), "user", 21_000)
    assert service.path == Path("/home/alice/.config/systemd/user/cellbench-node-21000.service")
    assert service.start[0] == ("loginctl", "enable-linger", "alice")
    assert "WantedBy=default.target" in service.files[service.path]


def test_a_mac_has_a_daemon_that_finds_its_programs(tmp_path: Path) -> None:
    service = made(machine(tmp_path, platform="darwin", root=Path("/")), PYTHONPATH="/src", PATH="/opt/bin:/usr/bin")
    assert service.path == Path("/Library/LaunchDaemons/org.cellbench.node.plist")
    environ = plistlib.loads(service.files[service.path].encode())["EnvironmentVariables"]
    assert (environ["HOME"], environ["PYTHONPATH"]) == ("/home/alice", "/src")
    folders = environ["PATH"].split(":")
    assert folders[:2] == ["/opt/bin", "/usr/bin"]
    assert {"/usr/sbin", str(Path(sys.executable).parent)} < set(folders)  # system_profiler and sysctl
    assert len(folders) == len(set(folders))


def test_a_mac_has_no_agents_of_a_user(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="local network"):
        made(machine(tmp_path, platform="darwin"), "user")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_token_is_not_written_where_anybody_can_read_it(tmp_path: Path, platform: str) -> None:
    with pytest.raises(CellbenchError, match="RAY_AUTH_TOKEN"):
        made(machine(tmp_path, platform=platform), RAY_AUTH_TOKEN="secret")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_install_and_uninstall(tmp_path: Path, platform: str) -> None:
    calls: list[Any] = []
    here = machine(tmp_path, calls, platform=platform)
    service = made(here)
    service_setup.install(service, AGAIN, here)
    assert service.path.read_text() == service.files[service.path]
    assert [command for command, _ in calls] == list(service.start)
    with pytest.raises(CellbenchError, match="with these options") as refused:
        service_setup.install(service, AGAIN, here)
    assert service.begin in refused.value.fix
    with pytest.raises(CellbenchError, match="with other options"):
        service_setup.install(made(here, PATH="/other"), AGAIN, here)
    assert service_setup.uninstall(service, AGAIN, here)
    assert not service.path.exists()
    assert not service_setup.uninstall(service, AGAIN, here)


def test_without_rights_the_command_for_sudo_is_told(tmp_path: Path) -> None:
    calls: list[Any] = []
    here = machine(tmp_path, calls, is_root=False)
    with pytest.raises(CellbenchError, match="rights of root") as refused:
        service_setup.install(made(here), AGAIN, here)
    assert refused.value.fix == f"sudo {sys.executable} -m harness node install {' '.join(WORDS)}"
    assert calls == []
    assert not made(here).path.exists()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize(("port_base", "name"), [(20_000, "cellbench-node"), (21_000, "cellbench-node-21000")])
def test_how_to_stop_what_runs(tmp_path: Path, platform: str, port_base: int, name: str) -> None:
    answer = service_setup.how_to_stop(port_base, machine(tmp_path, platform=platform))
    if platform == "darwin":
        assert answer == f"sudo launchctl bootout system/org.{name.replace('-', '.', 1)}"
    else:
        assert answer == f"sudo systemctl stop {name}.service, or systemctl --user stop {name}.service"


def test_what_is_asked_for_reaches_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    here = machine(tmp_path, environment={"PYTHONPATH": "/src"})
    request = NodeOptions(address="127.0.0.1:6379", name="box", port_base=21_000)
    with pytest.raises(CellbenchError, match="no token"):
        service_setup.service_for(request, None, "system", None, here)
    shown, again = service_setup.service_for(request, "cpu,cuda=2", "system", None, here, only_shown=True)
    words = ["--address", "127.0.0.1:6379", "--name", "box", "--port-base", "21000", "--tags", "cpu,cuda=2"]
    [line] = settings(shown.files[shown.path])["ExecStart"]
    assert shlex.split(line)[-len(words) :] == words
    assert again[: 5 + len(words)] == [*service_setup.PROGRAM, "node", "install", *words]
    assert service_setup.service_to_remove(21_000, "system", None, here)[0].path == shown.path
    for bad in ({"scope": "galaxy"}, {"user": "no-such-user-here"}):
        known = {"scope": "system", "user": None, **bad}
        with pytest.raises(CellbenchError):
            service_setup.service_for(request, None, machine=here, only_shown=True, **known)
