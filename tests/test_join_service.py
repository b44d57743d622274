"""Services of systemd and launchd: their files as those programs read them, their commands recorded."""

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import CellbenchError
from harness.fleet.nodes import service, service_setup
from harness.fleet.nodes.node_setup import Asked
from harness.fleet.nodes.service import Owner, Service

PROGRAM = (sys.executable, "-m", "harness")
WORDS = ["--address", "10.0.0.5:6379", "--name", "mac"]
AGAIN = [*PROGRAM, "node", "install", *WORDS]


def made(system: str = "linux", scope: str = "system", port_base: int = 20_000, **environ: str) -> Service:
    return service.make(system, scope, Owner("alice", Path("/home/alice")), PROGRAM, WORDS, port_base, environ)


class Recorder:
    """Takes the place of systemctl and launchctl; fails at the command that has this word."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.calls = failing, []

    def __call__(self, argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.calls.append(list(argv))
        bad = bool(self.failing) and self.failing in argv
        return subprocess.CompletedProcess(argv, int(bad), "", "not today" if bad else "")


def settings(unit: str) -> dict[str, list[str]]:
    pairs = [line.partition("=") for line in unit.splitlines() if "=" in line]
    return {key: [value for name, _, value in pairs if name == key] for key, _, _ in pairs}


def test_a_unit_never_gives_up_and_stops_in_order() -> None:
    its_service = made(CELLBENCH_HOME="/data/cellbench", UNRELATED="x")
    assert its_service.path == Path("/etc/systemd/system/cellbench-node.service")
    told = settings(its_service.text)
    assert told["Type"] == ["simple"]
    assert told["Restart"] == ["always"]
    assert told["RestartSec"] == ["10"]
    assert told["StartLimitIntervalSec"] == ["0"]
    assert told["TimeoutStopSec"] == ["45"]
    assert told["KillMode"] == ["mixed"]
    assert told["User"] == ["alice"]
    assert told["ExecStart"] == [f"{sys.executable} -m harness node start --block {' '.join(WORDS)}"]
    assert {"HOME=/home/alice", "CELLBENCH_HOME=/data/cellbench"} < set(told["Environment"])
    assert not any("UNRELATED" in each for each in told["Environment"])
    unit = its_service.text.split("[Service]")[0]
    assert "StartLimitIntervalSec" in unit  # elsewhere systemd passes over it


def test_a_unit_of_the_user_lingers() -> None:
    its_service = made(scope="user", port_base=21_000)
    assert its_service.path == Path("/home/alice/.config/systemd/user/cellbench-node-21000.service")
    assert "User=" not in its_service.text
    assert "WantedBy=default.target" in its_service.text
    assert ("loginctl", "enable-linger", "alice") in its_service.enable


@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_itself_finds_no_fault(tmp_path: Path, scope: str) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd here")
    its_service = made(scope=scope, RAY_AUTH_TOKEN_PATH='/home/alice/a "quoted" 100% $folder')
    path = tmp_path / its_service.path.name
    path.write_text(its_service.text.replace("User=alice", "User=root"))
    mode = ["--user"] if scope == "user" else []
    done = subprocess.run(
        ["systemd-analyze", *mode, "verify", path], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_words_of_a_unit_mean_themselves() -> None:
    unit = service.make(
        "linux", "system", Owner("a", Path("/h")), ("/opt/my env/python",), ["--name", "5%$x"], 20_000, {}
    )
    assert 'ExecStart="/opt/my env/python" node start --block --name 5%%$$x' in unit.text


def test_a_daemon_of_launchd_is_a_plist() -> None:
    its_service = made("darwin", PYTHONPATH="/src")
    told = plistlib.loads(its_service.text.encode())
    assert its_service.path == Path("/Library/LaunchDaemons/org.cellbench.cellbench-node.plist")
    assert told["Label"] == its_service.path.stem
    assert told["ProgramArguments"] == [*PROGRAM, "node", "start", "--block", *WORDS]
    assert told["UserName"] == "alice"
    assert told["KeepAlive"] is True
    assert told["RunAtLoad"] is True
    assert told["ProcessType"] == "Interactive"
    assert (told["ThrottleInterval"], told["ExitTimeOut"]) == (10, 45)
    environ = told["EnvironmentVariables"]
    assert (environ["HOME"], environ["PYTHONPATH"], environ["CELLBENCH_SERVICE"]) == (
        "/home/alice",
        "/src",
        "cellbench-node",
    )
    assert "/usr/sbin" in environ["PATH"].split(":")  # system_profiler and sysctl
    assert its_service.enable == (("launchctl", "bootstrap", "system", str(its_service.path)),)


def test_a_mac_has_no_agents_of_a_user() -> None:
    with pytest.raises(CellbenchError, match="local network"):
        made("darwin", "user")


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_a_token_is_not_written_where_anybody_can_read_it(system: str) -> None:
    with pytest.raises(CellbenchError, match="RAY_AUTH_TOKEN"):
        made(system, RAY_AUTH_TOKEN="secret")


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_install_and_uninstall(tmp_path: Path, system: str) -> None:
    its_service, calls = made(system), Recorder()
    path = service.install(its_service, AGAIN, calls, tmp_path)
    assert path == tmp_path / its_service.path.relative_to("/")
    assert path.read_text() == its_service.text
    assert path.stat().st_mode & 0o777 == 0o644
    assert calls.calls == [list(argv) for argv in its_service.enable]
    with pytest.raises(CellbenchError, match="installed already"):
        service.install(its_service, AGAIN, calls, tmp_path)
    calls = Recorder(failing="disable")  # a service that does not run is no reason to keep its file
    assert service.uninstall(its_service, AGAIN, calls, tmp_path) == path
    assert not path.exists()
    assert calls.calls[: len(its_service.disable)] == [list(argv) for argv in its_service.disable]
    assert service.uninstall(its_service, AGAIN, calls, tmp_path) is None


def test_nothing_stays_half_installed(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="systemctl failed: not today"):
        service.install(made(), AGAIN, Recorder(failing="enable"), tmp_path)
    assert not list(tmp_path.rglob("*.service"))

    def missing(argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        raise FileNotFoundError(2, "No such file or directory", argv[0])

    with pytest.raises(CellbenchError, match="systemctl cannot be called"):
        service.install(made(), AGAIN, missing, tmp_path)
    assert not list(tmp_path.rglob("*.service"))


def test_without_rights_the_command_for_sudo_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.os, "access", lambda *_: False)
    calls = Recorder()
    with pytest.raises(CellbenchError, match="rights of root") as refused:
        service.install(made(), AGAIN, calls, tmp_path)
    assert refused.value.fix == f"sudo {sys.executable} -m harness node install {' '.join(WORDS)}"
    assert calls.calls == []
    assert not list(tmp_path.rglob("*.service"))
    service.install(made(scope="user"), AGAIN, calls, tmp_path)  # needs none


def test_what_is_asked_for_reaches_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/src")
    monkeypatch.delenv("SUDO_USER", raising=False)
    asked = Asked(address="127.0.0.1:6379", name="box", port_base=21_000)
    with pytest.raises(CellbenchError, match="no token"):
        service_setup.service_for(asked, None, "system", None)
    shown, again = service_setup.service_for(asked, "cpu,cuda=2", "system", None, only_shown=True)
    words = "--address 127.0.0.1:6379 --name box --port-base 21000 --tags cpu,cuda=2"
    assert words in shown.text
    assert " ".join(again).startswith(f"{sys.executable} -m harness node install {words} --scope system --as ")
    removed, _ = service_setup.service_to_remove(21_000, "system", None)
    assert removed.path == shown.path
    for bad in ({"scope": "galaxy"}, {"user": "no-such-user-here"}):
        with pytest.raises(CellbenchError):
            service_setup.service_for(asked, None, **{"scope": "system", "user": None, **bad}, only_shown=True)
