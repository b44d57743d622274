"""`cellbench node` for real: a head and a second node on this machine, beside each other, and what a head refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.fleet import network
from harness.fleet.nodes import head
from harness.machine.versions import versions

pytestmark = pytest.mark.slow


def free_base() -> int:
    """The first of 200 ports, of which at least the fixed ones are free."""
    for base in range(40_000 + os.getpid() % 50 * 200, 60_000, 200):
        if all(network.is_free(base + offset) for offset in range(12)):
            return base
    raise AssertionError("no free ports")


class Machine:
    """One user's machine: a home of its own; everything else it shares."""

    def __init__(self, folder: Path, gcs_port: int, base: int) -> None:
        folder.mkdir()
        self.folder, self.gcs_port, self.base = folder, gcs_port, base
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "CELLBENCH_"))}
        self.environ |= {"HOME": str(folder), "OMP_NUM_THREADS": "1"}

    def node(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.harness("node", *words)

    def harness(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words), env=self.environ, capture_output=True, text=True, timeout=150, check=False
        )

    def argv(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "harness", *map(str, words)]

    def start(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.node("start", *self.where(), *words)

    def where(self) -> list[object]:
        return ["--port-base", self.base, "--temp-dir", self.folder / "r"]

    def processes(self) -> list[psutil.Process]:
        """Every process that has this machine's folder on its command line: Ray's daemons, workers, agents."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if any(str(self.folder) in word for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found


@pytest.fixture
def machines() -> Iterator[Callable[[str], Machine]]:
    import tempfile

    # A short path, because sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="cb") as root:
        made: list[Machine] = []
        first = free_base()

        def machine(name: str) -> Machine:
            made.append(Machine(Path(root) / name, first + 50, first + 400 * (len(made) + 1)))
            return made[-1]

        yield machine
        for each in made:
            each.node("stop")
        left = [process for each in made for process in each.processes()]
        for process in left:
            process.kill()
        assert left == [], "stop left processes behind"


def test_a_fleet_comes_together_and_apart(machines: Callable[[str], Machine]) -> None:
    desk, mac, stranger = machines("desk"), machines("mac"), machines("stranger")

    refused = desk.start("--head", "--port", desk.gcs_port, "--tags", "cpu")
    assert refused.returncode == 2
    assert "no token" in refused.stderr
    assert desk.node("token").returncode == 0
    started = desk.start("--head", "--port", desk.gcs_port, "--name", "desk")  # the tags are found out by computing
    assert started.returncode == 0, started.stderr
    assert "not checked" not in started.stderr
    address = started.stdout.split("fleet: ")[1].split("\n")[0]
    assert f"cellbench node start --address {address}" in started.stdout
    assert "already" in desk.start("--head", "--port", desk.gcs_port, "--tags", "cpu").stderr
    daemons = " ".join(word for process in desk.processes() for word in process.cmdline())
    assert "gcs_server" in daemons
    assert "raylet" in daemons
    ray_start = psutil.Process(json.loads(next(desk.folder.glob(".cellbench/nodes/*.json")).read_text())["pid"])
    assert "OMP_NUM_THREADS" not in ray_start.environ()
    assert ray_start.environ()["RAY_AUTH_MODE"] == "token"

    # A stranger: no token of ours, or another one.
    assert "no token" in stranger.start("--address", address, "--tags", "cpu").stderr
    stranger.node("token")
    for refused in (
        stranger.start("--address", address, "--tags", "cpu"),
        stranger.node("status", "--address", address),
    ):
        assert refused.returncode == 4
        assert "does not take this machine's token" in refused.stderr
    assert stranger.processes() == []

    # Nothing there, and something there that is no head.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused = mac.start("--address", f"127.0.0.1:{port}", "--tags", "cpu")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "refused" in refused.stderr

    # Another service of the head's Ray, which speaks the same protocol: it takes not much longer than a closed port.
    wrong, durations_s = address.replace(f":{desk.gcs_port}", f":{desk.base + 1}"), []
    assert wrong != address
    for asked, cause in ((f"127.0.0.1:{port}", "refused"), (wrong, "check host and port")):
        begin_s = time.monotonic()
        done = desk.harness("run", "--address", asked, "--models", "sleep", "--out", desk.folder / "out")
        durations_s.append(time.monotonic() - begin_s)
        assert (done.returncode, done.stderr.count("\n")) == (4, 3), done.stderr
        assert cause in done.stderr
    assert durations_s[1] < durations_s[0] + 12

    # The token is carried by hand, as ssh would.
    (mac.folder / ".ray").mkdir()
    token = mac.folder / ".ray" / "auth_token"
    token.write_bytes((desk.folder / ".ray" / "auth_token").read_bytes())
    token.chmod(0o600)
    assert "already, at" in mac.start("--address", address, "--tags", "cpu", "--name", "desk").stderr

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:  # a head with other versions
        patch.setenv("HOME", str(desk.folder))
        head.publish(address, {**versions(), "numpy": "1.26.4"})
        refused = mac.start("--address", address, "--tags", "cpu,mps", "--name", "mac")
        assert refused.returncode == 2
        assert '"numpy==1.26.4"' in refused.stderr
        head.publish(address, versions())
    assert mac.processes() == []

    joined = mac.start("--address", address, "--tags", "cpu,mps", "--name", "mac")
    assert joined.returncode == 0, joined.stderr
    answer = json.loads(mac.node("status", "--json").stdout)
    assert answer["head"] == address
    assert answer["versions"]["code"] == versions()["code"]
    nodes = {node["name"]: node for node in answer["nodes"]}
    assert {name: (node["state"], node["is_head"]) for name, node in nodes.items()} == {
        "desk": ("up", True), "mac": ("up", False),
    }  # fmt: skip
    assert nodes["mac"]["counts"] == {"mps": 1, "cpu": 1}
    assert nodes["mac"]["port"] == mac.base + 1
    assert nodes["desk"]["counts"]["cpu"] == 1
    assert {node["name"] for node in answer["here"]} == {"mac"}

    stopped = mac.node("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert mac.processes() == []
    assert "gcs_server" in " ".join(word for process in desk.processes() for word in process.cmdline())
    assert mac.node("status").returncode == 4
    rows = json.loads(desk.node("status", "--json").stdout)["nodes"]
    assert {node["name"]: node["state"] for node in rows} == {"desk": "up", "mac": "stopped"}
    assert mac.node("stop").returncode == 0  # there is nothing to do, as wished

    # In the foreground, as a service manager runs it.
    log = (mac.folder / "log").open("w")
    with log, subprocess.Popen(
        mac.argv("node", "start", *mac.where(), "--address", address, "--tags", "cpu", "--name", "mac", "--block"),
        env=mac.environ, stdout=log, stderr=log,
    ) as held:  # fmt: skip
        end_s = time.monotonic() + 60
        while "is a node of the fleet" not in (mac.folder / "log").read_text():
            assert held.poll() is None, (mac.folder / "log").read_text()
            assert time.monotonic() < end_s
            time.sleep(0.2)
        held.send_signal(signal.SIGTERM)
        assert held.wait(60) == 0
    assert mac.processes() == []

    assert desk.node("stop").returncode == 0
    assert desk.processes() == []
    assert not (desk.folder / "r" / "ray_current_cluster").exists()
