"""Starting, finding and stopping: real small processes in Ray's place. Ray's own are in test_node_fleet.py."""

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet import network
from harness.fleet.driver import survey
from harness.fleet.nodes import daemon, node_setup, token
from harness.fleet.nodes.command import Command, Setup
from harness.fleet.nodes.daemon import Running
from harness.fleet.nodes.head import Head, Member
from harness.fleet.nodes.node_setup import NodeOptions
from harness.fleet.tags import Tags
from tests.conftest import CPU_DEVICE

SETUP = Setup("desk", "127.0.0.1", "127.0.0.1:6379", is_head=True)
TAGS = Tags("desk", (("cpu", 1),))


def shell(script: str) -> Command:
    return Command(("sh", "-c", script), {"MADE_BY": "a test"})


STARTED: list["subprocess.Popen[bytes]"] = []


def begin(folder: Path, script: str, setup: Setup = SETUP) -> tuple["subprocess.Popen[bytes]", Running]:
    process, node = daemon.begin(setup, TAGS, shell(script), folder)
    STARTED.append(process)
    return process, node


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    yield tmp_path / "state"
    for node in daemon.running(tmp_path / "state"):
        daemon.stop(node, tmp_path / "state", 0.1)
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def test_a_node_is_found_again_and_ended_with_all_that_it_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "LAST_S", 0.3)
    process, node = begin(folder, "sleep 60 & setsid sleep 60 & echo $MADE_BY $OMP_NUM_THREADS; wait")
    while len(family := psutil.Process(process.pid).children(recursive=True)) < 2:
        time.sleep(0.01)
    assert daemon.running(folder) == [node]
    assert (node.name, node.head, node.counts) == ("desk", "127.0.0.1:6379", {"cpu": 1})
    other = subprocess.Popen(["sleep", "60"])  # nobody else's process is touched
    try:
        assert daemon.stop(node, folder) == 3
        assert process.poll() is not None
        assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert daemon.running(folder) == []
    assert daemon.stop(node, folder) == 0
    assert Path(node.log).read_text().strip() == "a test"


def test_what_does_not_listen_is_ended_by_force(folder: Path) -> None:
    process, node = begin(folder, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    while not Path(node.log).read_text():
        time.sleep(0.01)
    assert daemon.stop(node, folder, patience_s=0.2) >= 1
    assert process.wait(5) == -signal.SIGKILL


def test_a_node_outlives_the_command_that_started_it(folder: Path) -> None:
    process, _ = begin(folder, "exec sleep 60")
    assert os.getsid(process.pid) == process.pid


def test_another_process_with_the_same_id_is_not_the_node(folder: Path) -> None:
    _, node = begin(folder, "exec sleep 60")
    assert replace(node, started_at=node.started_at - 60).process() is None
    daemon.stop(node, folder)
    reused = replace(node, pid=os.getpid())
    (folder / "nodes" / "20000.json").write_text(json.dumps(vars(reused)))
    (folder / "nodes" / "21000.json").write_text("{torn")
    assert daemon.running(folder) == []
    assert list((folder / "nodes").iterdir()) == []
    assert daemon.stop(reused, folder) == 0  # and we are still here


def test_the_file_that_would_mislead_ray_goes_with_its_head(tmp_path: Path, folder: Path) -> None:
    ray = tmp_path / "ray"
    ray.mkdir()
    known = ray / "ray_current_cluster"
    for output, stays in (("127.0.0.1:6379\n", False), ("another:6379", True)):
        known.write_text(output)
        _, node = begin(folder, "exec sleep 60", replace(SETUP, temp_dir=str(ray)))
        daemon.stop(node, folder)
        assert known.exists() == stays


def test_a_ray_that_ends_at_once_is_told_with_its_last_words(folder: Path) -> None:
    process, node = begin(folder, "echo 'Session name clash' >&2; exit 3")
    with pytest.raises(FleetUnreachableError, match="exit code 3") as refused:
        daemon.wait_until_up(process, SETUP, Path(node.log))
    assert "Session name clash" in refused.value.what
    assert node.log in refused.value.where


def test_a_node_is_up_when_its_head_lists_it(folder: Path) -> None:
    process, node = begin(folder, "exec sleep 60")
    with socket.create_server(("127.0.0.1", 0)) as raylet:
        setup = replace(SETUP, port_base=raylet.getsockname()[1] - 1)
        mine = Member("mine", "desk", "127.0.0.1", setup.node_port, "up", True, {"cpu": 1})
        others = [replace(mine, node_id="old", state="lost"), replace(mine, node_id="other", port=1)]
        answers = [None, others, [*others, mine]]
        request: list[str] = []

        def look(address: str) -> Head:
            request.append(address)
            members = answers[len(request) - 1]
            if members is None:
                raise FleetUnreachableError("not yet")
            return Head(address, {}, True, tuple(members))

        assert daemon.wait_until_up(process, setup, Path(node.log), look, sleep=lambda _s: None) == mine
    assert request == ["127.0.0.1:6379"] * 3


def test_a_node_that_never_comes_up_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "UP_S", 0.2)
    monkeypatch.setattr(network, "connect", lambda *_: (_ for _ in ()).throw(ConnectionRefusedError()))
    process, node = begin(folder, "exec sleep 60")
    with pytest.raises(FleetUnreachableError, match="did not start within"):
        daemon.wait_until_up(process, SETUP, Path(node.log), lambda _: pytest.fail("asked"))


def test_a_mac_is_kept_awake_as_long_as_its_node_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(daemon.sys, "platform", "darwin")
    real = subprocess.Popen

    def popen(argv: Any, **options: Any) -> Any:
        called.append(list(argv))
        return None if "caffeinate" in argv[0] else real(argv, **options)

    monkeypatch.setattr(daemon.subprocess, "Popen", popen)
    process, _ = begin(folder, "exec sleep 60")
    assert called[-1] == ["/usr/bin/caffeinate", "-is", "-w", str(process.pid)]


# ------------------------------------------------------------------ joining


@pytest.fixture
def lan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the address 10.0.0.9, on a network where desk is 10.0.0.5 and nobody knows elsewhere."""

    def resolve(host: str) -> str:
        known = {"desk": "10.0.0.5", "localhost": "127.0.0.1", "10.0.0.5": "10.0.0.5", "127.0.0.1": "127.0.0.1"}
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return known[host]

    monkeypatch.setattr(network, "own_ip", lambda towards=network.ELSEWHERE: "10.0.0.9")
    monkeypatch.setattr(network, "resolve", resolve)
    monkeypatch.setattr(network, "is_ours", lambda ip: ip in ("10.0.0.9", "127.0.0.1", "192.168.7.1"))
    monkeypatch.setattr(socket, "gethostname", lambda: "büro Mac.local")


@pytest.mark.usefixtures("lan")
def test_where_a_node_is_to_be(tmp_path: Path) -> None:
    setup = node_setup.place(NodeOptions(is_head=True))
    assert (setup.name, setup.ip, setup.head, setup.is_head) == ("b-ro-Mac.local", "10.0.0.9", "10.0.0.9:6379", True)
    setup = node_setup.place(NodeOptions(address="desk:7000", name="mac", port_base=21_000))
    assert (setup.name, setup.ip, setup.head) == ("mac", "10.0.0.9", "10.0.0.5:7000")
    assert setup.port_base == 21_000
    # Ray itself never takes loopback where there is another address.
    assert node_setup.place(NodeOptions(address="localhost:6379")).head == "10.0.0.9:6379"
    assert node_setup.place(NodeOptions(is_head=True, ip="127.0.0.1", port=7000)).head == "10.0.0.9:7000"
    assert node_setup.place(NodeOptions(is_head=True, ip="192.168.7.1")).head == "192.168.7.1:6379"
    assert node_setup.place(NodeOptions(address="elsewhere:6379")).head == "elsewhere:6379"
    config = tmp_path / "bootstrap.yaml"
    config.touch()
    assert node_setup.place(NodeOptions(is_head=True, autoscaling_config=str(config))).autoscaling_config == str(config)


@pytest.mark.usefixtures("lan")
@pytest.mark.parametrize(
    ("choice", "output"),
    [
        (NodeOptions(), "--head"), (NodeOptions(is_head=True, address="desk:6379"), "either"),
        (NodeOptions(address="desk"), "HOST:PORT"),
        (NodeOptions(address="desk:1", port=1), "--port"),
        (NodeOptions(is_head=True, ip="10.0.0.77"), "is not an address of this machine"),
        (NodeOptions(is_head=True, ip="nonsense"), "is not an address of this machine"),
        (NodeOptions(is_head=True, name="a b"), "a-b"),
        (NodeOptions(address="desk:1", autoscaling_config="x"), "head only"),
        (NodeOptions(is_head=True, autoscaling_config="/nowhere/x"), "no such file"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(choice: NodeOptions, output: str) -> None:
    with pytest.raises(CellbenchError) as refused:
        node_setup.place(choice)
    assert output in str(refused.value)
    assert refused.value.exit_code == 2


def test_options_survive_as_words() -> None:
    words = NodeOptions(address="desk:6379", name="mac", port_base=21_000, temp_dir="/tmp/r").words()
    assert words == ["--address", "desk:6379", "--name", "mac", "--port-base", "21000", "--temp-dir", "/tmp/r"]
    assert NodeOptions(is_head=True).words() == ["--head"]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """A worker's setup on a machine with a token and free ports, whose head answers."""
    token.found_or_made({}, Path.home())
    monkeypatch.setattr(network, "is_free", lambda _port: True)
    monkeypatch.setattr(network, "connect", lambda *_: None)
    return Setup("mac", "10.0.0.9", "10.0.0.5:6379", is_head=False, temp_dir=str(tmp_path / "ray"))


def check(setup: Setup, folder: Path, *members: Member, **there: str) -> list[str]:
    head = Head(setup.head, {**survey.versions_of(), **there}, True, members)
    return node_setup.check(setup, folder, {}, lambda _address: head)


def test_a_machine_that_fits_joins(setup: Setup, folder: Path) -> None:
    gone = Member("old", "mac", "10.0.0.9", 1, "lost", False, {})
    before = Member("before", "mac", "10.0.0.9", setup.node_port, "up", False, {})  # the head has not noticed yet
    assert check(setup, folder, gone, before) == []
    assert "torch" in check(setup, folder, torch="1.0")[0]


def test_a_name_is_given_once(setup: Setup, folder: Path) -> None:
    with pytest.raises(CellbenchError, match=r"a node mac already, at 10\.0\.0\.7") as refused:
        check(setup, folder, Member("id", "mac", "10.0.0.7", setup.node_port, "up", False, {}))
    assert "--name" in refused.value.fix


def test_nothing_is_started_that_would_not_work(
    setup: Setup, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CellbenchError, match="cannot join"):
        check(setup, folder, ray="1.0")
    with monkeypatch.context() as patch:
        patch.setattr(network, "is_free", lambda port: port != setup.node_port)
        with pytest.raises(CellbenchError, match=r"20001 \(node-manager-port\)"):
            check(setup, folder)
    with monkeypatch.context() as patch:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").touch()
        patch.setattr(node_setup.os, "access", lambda path, _how: Path(path).name != "ray_current_cluster")
        with pytest.raises(CellbenchError, match="belongs to another user"):
            check(setup, folder)
    with pytest.raises(CellbenchError, match="is a file"):
        (tmp_path / "file").touch()
        check(replace(setup, temp_dir=str(tmp_path / "file" / "ray")), folder)
    token.file({}, Path.home()).unlink()
    with pytest.raises(CellbenchError, match="no token"):
        check(setup, folder)


def test_a_second_node_on_a_machine_needs_other_ports_and_is_warned_of(setup: Setup, folder: Path) -> None:
    begin(folder, "exec sleep 60")
    with pytest.raises(CellbenchError, match="in a fleet already: desk") as refused:
        check(setup, folder)
    assert "--port-base" in refused.value.fix
    [warning] = check(replace(setup, port_base=21_000), folder)
    assert "measurements of the two can meet" in warning


def test_a_head_that_nobody_can_reach_is_told(setup: Setup, folder: Path) -> None:
    alone = replace(setup, is_head=True, ip="127.0.0.1", head="127.0.0.1:6379")
    assert "no other can join" in check(alone, folder)[0]


def test_tags_are_proved_unless_they_are_given() -> None:
    assert node_setup.tags("desk", None, lambda: [CPU_DEVICE])[0].resources() == {"bench_slot": 1, "bench_cpu": 1}
    given, [warning] = node_setup.tags("desk", "cpu,mps", lambda: pytest.fail("asked"))
    assert given.resources()["bench_mps"] == 1
    assert "not checked" in warning


def test_a_head_says_how_others_join() -> None:
    output = node_setup.welcome(replace(SETUP, ip="10.0.0.5", head="10.0.0.5:6379"), TAGS)
    assert "@10.0.0.5 && cellbench node start --address 10.0.0.5:6379\n" in output
    assert "6379, 20001-20006, 20100-20199" in output
    assert "node start" not in node_setup.welcome(replace(SETUP, is_head=False), TAGS)
