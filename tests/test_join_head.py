"""What a head says, told by made-up answers; its real answers are in test_node_fleet.py."""

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet import network
from harness.fleet.nodes import head, status
from harness.fleet.nodes.daemon import Running
from harness.fleet.nodes.head import Head, Member
from harness.machine.versions import versions

HERE = {
    "python": "3.11.7",
    "ray": "2.60.0",
    "numpy": "2.0.2",
    "torch": "2.13.0+cpu",
    "cellpose3": "3.1.1.3",
    "code": "a",
}


def compare(is_ours: bool = True, **there: str | None) -> list[str]:
    return head.compare(HERE, Head("desk:6379", {**HERE, **there}, is_ours, ()))


def member(name: str | None, state: str = "up", ip: str = "10.0.0.9", **more: Any) -> Member:
    return Member("id", name, ip, 20_001, state, **{"is_head": False, "counts": {"cpu": 1}, **more})


def test_an_address_where_nothing_answers(serve: Callable[..., int]) -> None:
    network.reach(f"127.0.0.1:{serve()}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(FleetUnreachableError, match="refused") as refused:
        network.reach(f"127.0.0.1:{port}")
    assert refused.value.exit_code == 4

    def blocked(_host: str, _port: int) -> None:
        raise TimeoutError

    with pytest.raises(FleetUnreachableError, match="no answer within 2 s") as refused:
        network.reach("desk:6379", blocked)
    assert "firewall" in refused.value.fix


@pytest.mark.parametrize("address", ["desk", "desk:", "desk:x", ":6379", ""])
def test_an_address_that_is_none_is_a_usage_error(address: str) -> None:
    with pytest.raises(CellbenchError, match="is not the address") as refused:
        network.reach(address, lambda *_: pytest.fail("connected"))
    assert refused.value.exit_code == 2


def test_the_same_versions_are_fine() -> None:
    assert compare() == []
    assert compare(torch="2.13.0+cu130") == []  # a CUDA machine never has the build of a Mac
    assert compare(python="3.11.9") == []


@pytest.mark.parametrize(
    ("there", "output"),
    [
        ({"ray": "2.59.1"}, '"ray[default]==2.59.1"'), ({"python": "3.12.7"}, "Python 3.12"),
        ({"numpy": "1.26.4"}, '"numpy==1.26.4"'),
    ],
)  # fmt: skip
def test_versions_that_cannot_work_together_are_refused_with_what_to_install(
    there: dict[str, str], output: str
) -> None:
    with pytest.raises(CellbenchError, match="cannot join") as refused:
        compare(**there)
    assert output in refused.value.fix
    assert refused.value.exit_code == 2
    name, version = next(iter(there.items()))
    assert f"{name} {HERE[name]} here, {version} there" in refused.value.what


def test_versions_that_explain_a_difference_are_told() -> None:
    assert "numpy==2.1.0" in compare(numpy="2.1.0")[0]
    [sentence] = compare(torch="2.12.1+cu130", cellpose3="3.1.1.2")
    assert '"torch==2.12.1" "cellpose==3.1.1.2"' in sentence
    assert "differ in cellpose3 cannot be compared" in sentence
    [sentence] = compare(code="b")
    assert "install the same cellbench" in sentence
    assert "pip" not in sentence


def test_a_head_that_is_not_ours_tells_less() -> None:
    plain = Head("desk:6379", {"ray": "2.60.0", "python": "3.11.7"}, False, ())
    assert "not started by cellbench" in head.compare(HERE, plain)[0]
    with pytest.raises(CellbenchError, match="cannot join"):
        head.compare(HERE, Head("desk:6379", {"ray": "2.58.0", "python": "3.11.7"}, False, ()))


def test_a_version_that_is_missing_here_is_named() -> None:
    with pytest.raises(CellbenchError, match=r"ray is missing here, 2\.60\.0 there"):
        head.compare({**HERE, "ray": None}, Head("desk:6379", HERE, True, ()))


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ({"refused": "InvalidAuthToken"}, "does not take this machine's token"),
        ({"failed": "RpcError"}, "does not answer"),
        (None, "does not answer"),
    ],
)
def test_what_the_child_says_is_told(monkeypatch: pytest.MonkeyPatch, answer: Any, output: str) -> None:
    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 0, json.dumps(answer) if answer else "", "killed by Ray")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FleetUnreachableError, match=output):
        head.look("desk:6379")


def test_something_that_is_no_head_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: (_ for _ in ()).throw(subprocess.TimeoutExpired(argv, 1)))
    with pytest.raises(FleetUnreachableError, match="does not answer like Ray's head"):
        head.look("desk:6379")


def test_the_head_publishes_what_it_has() -> None:
    output: list[Any] = []
    head.publish("desk:6379", versions(), lambda *args, **kwargs: output.append((args, kwargs)) or {})
    [(args, kwargs)] = output
    assert args == ("publish", "desk:6379")
    assert kwargs["versions"] == versions()


# ------------------------------------------------------------------ status

MINE = Running(1, 0.0, "mac", "10.0.0.9", "desk:6379", False, 20_000, "/tmp/ray", {"mps": 1})
LATER = Running(2, 60.0, "mac", "10.0.0.9", "tower:6379", False, 21_000, "/tmp/ray2", {"mps": 1})


@pytest.mark.parametrize(
    ("address", "here", "environ", "noted", "expected"),
    [
        ("box:1", [MINE], {"RAY_ADDRESS": "other:1"}, "last:1", "box:1"),
        (None, [MINE], {"RAY_ADDRESS": "other:1"}, "last:1", "other:1"),
        ("auto", [MINE], {"RAY_ADDRESS": "other:1"}, "last:1", "other:1"),
        ("auto", [MINE, LATER], {"RAY_ADDRESS": "auto"}, "last:1", "tower:6379"),
        ("auto", [LATER, MINE], {}, None, "tower:6379"),
        (None, [MINE], {}, "last:1", "desk:6379"),
        ("auto", [], {}, "last:1\n", "last:1"),
        ("auto", [], {}, "", None),
        (None, [], {"RAY_ADDRESS": "local"}, None, None),
    ],
)
def test_the_head_to_ask(
    tmp_path: Path, address: str | None, here: list[Running], environ: dict[str, str], noted: str | None, expected: str
) -> None:
    latest = tmp_path / "ray_current_cluster"
    if noted is not None:
        latest.write_text(noted)
    if expected:
        assert status.which_head(address, here, environ, latest) == expected
    else:
        with pytest.raises(FleetUnreachableError, match="is not a node of a fleet"):
            status.which_head(address, here, environ, latest)


def test_the_fleet_as_rows() -> None:
    members = (
        member("desk", ip="10.0.0.5", is_head=True, counts={"cuda": 2, "cpu": 1}, chip="i7"),
        member("mac", state="lost"), member("mac"), member("box", state="lost"), member("box", state="lost"),
        member("gone", state="stopped"), member(None, ip="10.0.0.8"),
    )  # fmt: skip
    fleet = Head("desk:6379", HERE, True, members)
    rows = {row["node"]: row for row in status.rows(fleet, [MINE])}
    assert list(rows) == ["desk", "mac", "box", "(not started by cellbench)"]
    assert [row["state"] for row in rows.values()] == ["up", "up", "lost", "up"]
    assert (rows["desk"]["tags"], rows["desk"]["role"]) == ("cuda 2, cpu", "head")
    assert [row["node"] for row in rows.values() if row["here"]] == ["mac"]
    assert status.sentence(fleet, [MINE]) == "3 nodes of the fleet of desk:6379; this machine is mac"
    assert "not one of them" in status.sentence(fleet, [])
    answer = json.loads(json.dumps(status.summary(fleet, [MINE])))
    assert (answer["head"], answer["here"][0]["name"], len(answer["nodes"])) == ("desk:6379", "mac", 7)
