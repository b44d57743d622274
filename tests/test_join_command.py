"""Tags and the line that starts Ray: pure functions of made-up machines, a Mac among them."""

import json
import shlex
from dataclasses import replace

import pytest

from harness.errors import CellbenchError
from harness.fleet import tags
from harness.fleet.nodes import command
from harness.fleet.nodes.command import Setup
from harness.fleet.ray_settings import ENVIRONMENT
from harness.machine.accelerators import Device

GPU = "NVIDIA GeForce RTX 4090"
TWO_GPUS = [
    Device("cuda", 0, GPU), Device("cuda", 1, GPU), Device("cpu", 0, "Intel(R) Core(TM) i7-8086K CPU @ 4.00GHz"),
]  # fmt: skip
MAC = [Device("mps", 0, "Apple M1 GPU"), Device("cpu", 0, "Apple M1")]
HEAD = Setup("desk", "10.0.0.5", "10.0.0.5:6379", is_head=True)
WORKER = Setup("mac", "10.0.0.9", "10.0.0.5:6379", is_head=False)


def started(setup: Setup, its_tags: tags.Tags | None = None, system: str = "linux") -> tuple[dict[str, str], dict]:
    """Options and added environment of the node's command; an option without a value holds ''."""
    made = command.ray_start(setup, its_tags or tags.detected(setup.name, TWO_GPUS), system)
    assert made.argv[:2] == ("ray", "start")
    pairs = [word.partition("=") for word in made.argv[2:]]
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return {name: value for name, _, value in pairs}, dict(made.environ)


def test_tags_count_the_devices_that_compute() -> None:
    found = tags.detected("desk", TWO_GPUS, "Intel(R) Core(TM) i7")
    assert found.resources() == {"bench_slot": 1, "bench_cuda": 2, "bench_cpu": 1}
    assert found.labels() == {
        "bench/host": "desk", "bench/backend-cuda": "1", "bench/backend-cpu": "1",
        "bench/accelerator": "NVIDIA-GeForce-RTX-4090", "bench/chip": "Intel-R-Core-TM-i7",
    }  # fmt: skip
    assert found.text() == "cuda 2, cpu"
    only_cpu = tags.detected("box", TWO_GPUS[2:])
    assert only_cpu.resources() == {"bench_slot": 1, "bench_cpu": 1}
    assert "bench/accelerator" not in only_cpu.labels()


def test_tags_can_be_given() -> None:
    assert tags.promised("mac", "cpu, mps").resources() == {"bench_slot": 1, "bench_mps": 1, "bench_cpu": 1}
    assert tags.promised("x", "cuda=4").resources() == {"bench_slot": 1, "bench_cuda": 4}


@pytest.mark.parametrize("text", ["", ",", "gpu", "cuda:1", "cuda=0", "cuda=x", "cpu,cpu", "cuda=-1"])
def test_tags_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(CellbenchError, match=r"tag|once"):
        tags.promised("x", text)


@pytest.mark.parametrize("text", ["RTX 4090", "-x-", "ä", "", "x" * 80, "a" * 62 + "-b", "MacBook Pro (Büro)"])
def test_a_slug_is_a_kubernetes_label(text: str) -> None:
    slug = tags.slug(text)
    assert len(slug) <= 63
    assert slug == "" or (slug[0].isalnum() and slug[-1].isalnum() and slug.isascii() and " " not in slug)
    assert tags.slug(slug) == slug


def test_names_must_fit_a_label() -> None:
    assert tags.checked_name("desk-1.lab") == "desk-1.lab"
    for bad in ("a b", "", "-x", "x" * 64, "büro"):
        with pytest.raises(CellbenchError, match="name"):
            tags.checked_name(bad)


def test_every_node_has_its_slot_and_its_ports_and_hides_no_thread_setting() -> None:
    for setup in (HEAD, WORKER):
        options, environ = started(setup)
        assert json.loads(options["--resources"]) == {"bench_slot": 1, "bench_cuda": 2, "bench_cpu": 1}
        assert f"bench/host={setup.name}" in options["--labels"].split(",")
        assert options["--num-cpus"] == "1"
        assert "--num-gpus" not in options  # Ray's own look at the hardware is free metadata
        assert options["--node-ip-address"] == setup.ip
        assert options["--temp-dir"] == "/tmp/ray"
        assert options["--object-store-memory"] == "100000000"
        assert options["--include-log-monitor"] == "false"
        assert "--block" in options
        assert environ.items() >= ENVIRONMENT.items()
        assert environ["RAY_AUTH_MODE"] == "token"
        assert {f"--{name}" for name in command.NODE_PORTS} < options.keys()
        made = command.ray_start(setup, tags.detected("x", MAC), "linux")
        inherited = {
            "OMP_NUM_THREADS": "1",
            "RAY_ADDRESS": "elsewhere:1",
            "HOME": "/home/u",
            "RAY_AUTH_MODE": "disabled",
        }
        environ = made.environment(inherited)
        assert environ.keys().isdisjoint({"OMP_NUM_THREADS", "RAY_ADDRESS"})
        assert (environ["HOME"], environ["RAY_AUTH_MODE"]) == ("/home/u", "token")


def test_only_the_head_has_a_dashboard_and_on_loopback() -> None:
    options, environ = started(replace(HEAD, autoscaling_config="/home/u/ray_bootstrap_config.yaml"))
    assert (options["--include-dashboard"], options["--dashboard-host"]) == ("true", "127.0.0.1")
    assert (options["--port"], options["--dashboard-port"]) == ("6379", "8265")
    assert options["--autoscaling-config"] == "/home/u/ray_bootstrap_config.yaml"
    assert environ["RAY_enable_autoscaler_v2"] == "0"
    assert environ.items() >= command.HEALTH.items()
    assert "--address" not in options
    options, environ = started(WORKER)
    assert options["--address"] == "10.0.0.5:6379"
    # Ray refuses these on a node that joins.
    assert options.keys().isdisjoint({"--include-dashboard", "--port", "--dashboard-port", "--head"})
    assert "RAY_enable_autoscaler_v2" not in environ


def test_a_dead_node_is_noticed_in_half_a_minute() -> None:
    period_ms, timeout_ms, failures = (int(value) for value in command.HEALTH.values())
    assert 20_000 <= failures * (period_ms + timeout_ms) <= 40_000


def test_a_mac_says_that_it_wants_to() -> None:
    options, environ = started(WORKER, tags.detected("mac", MAC, "Apple M1"), "darwin")
    assert environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1"
    assert json.loads(options["--resources"]) == {"bench_slot": 1, "bench_mps": 1, "bench_cpu": 1}
    assert "bench/accelerator=Apple-M1-GPU" in options["--labels"]
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in started(WORKER)[1]


def test_two_fleets_on_one_host_share_no_port() -> None:
    first, second = HEAD, replace(HEAD, head="10.0.0.5:6479", port_base=21_000)
    ports = [set(each.fixed_ports().values()) for each in (first, second)]
    assert ports[0].isdisjoint(ports[1])
    assert len(ports[0]) == len(HEAD.fixed_ports())
    options = started(second)[0]
    assert all(not 20_000 <= int(value) < 21_000 for name, value in options.items() if name.endswith("-port"))
    assert (options["--min-worker-port"], options["--max-worker-port"]) == ("21100", "21199")
    assert second.open_ports() == "6479, 21001-21006, 21100-21199"


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"port_base": 80}, "--port-base"), ({"port_base": 65_500}, "--port-base"),
        ({"head": "10.0.0.5:20001"}, "--port"), ({"head": "10.0.0.5:80"}, "--port"),
        ({"temp_dir": "/x" * 25}, "too long"),
    ],
)  # fmt: skip
def test_ports_and_folders_that_ray_cannot_use_are_refused(change: dict, output: str) -> None:
    with pytest.raises(CellbenchError) as refused:
        command.check(replace(HEAD, **change), "linux")
    assert output in str(refused.value)
    command.check(HEAD, "linux")


def test_a_path_may_be_shorter_on_a_mac() -> None:
    longest = 107 - len(command.SOCKET)
    setup = replace(HEAD, temp_dir="/" + "x" * (longest - 1))
    command.check(setup, "linux")
    with pytest.raises(CellbenchError, match="too long"):
        command.check(setup, "darwin")


def test_the_printed_line_is_what_a_shell_would_run() -> None:
    made = command.ray_start(HEAD, tags.detected("desk", TWO_GPUS), "linux", ("/opt/my env/bin/ray",))
    words = shlex.split(made.text().replace("\\\n", ""))
    assert words[: 1 + 2 * len(command.NOT_INHERITED)] == ["env", "-u", "OMP_NUM_THREADS", "-u", "RAY_ADDRESS"]
    assert tuple(words[-len(made.argv) :]) == made.argv


@pytest.mark.parametrize(
    ("host", "name"), [("desk-1.lab", "desk-1.lab"), ("Anna's Mac (2)", "Anna-s-Mac-2"), ("日本", "node")]
)
def test_a_machine_without_a_name_is_called_like_its_host(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags.socket, "gethostname", lambda: host)
    assert tags.host_name() == name
