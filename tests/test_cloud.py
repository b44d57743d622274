"""Rented machines: the cluster files, the plan with hours and money, and a run on types that an autoscaler starts."""

import copy
import itertools
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
import yaml
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.errors import CellbenchError
from harness.fleet import cloud, network, tags
from harness.fleet.driver import cluster as driver
from harness.fleet.driver import node_types
from harness.plan import config
from harness.store import Store, journal
from tests.conftest import REPOSITORY
from tests.test_node_fleet import Machine, free_base
from tests.test_slurm import until

FILES = sorted((REPOSITORY / "clusters").glob("*.yaml"))
FAKE_HEAD = "ray.head.default"  # as Ray's simulated provider calls it


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text())


# ---------------------------------------------------------------- the files


def test_ray_accepts_the_files(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    for mistake in ({"max_worker": 1}, {"idle_timeout_minutes": "soon"}):
        with pytest.raises(Exception, match=re.escape(str(next(iter(mistake.values()))))):
            validate_config({**prepared, **mistake})


def test_nothing_is_paid_that_nobody_asked_for(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert all(each.get("min_workers", 0) == 0 for each in types.values())
    assert cluster["idle_timeout_minutes"] <= 5
    assert cluster["provider"]["cache_stopped_nodes"] is False
    assert cluster["max_workers"] == len(types) - 1
    spot = [re.search("spot", json.dumps(each["node_config"]), re.IGNORECASE) for each in types.values()]
    assert [bool(each) for each in spot] == [name != "head" for name in types]
    assert cluster["metadata"]["prices"] == {}  # none that would be old one day


def test_every_type_but_the_head_can_be_rented_by_its_name(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    for name, each in types.items():
        mine = {key for key in each["resources"] if key.startswith(tags.type_resource(""))}
        assert mine == ({tags.type_resource(name)} if name != "head" else set())
        assert each["resources"].get(tags.SLOT, 0) == (name != "head")
        assert set(each["resources"]) <= {"CPU", tags.SLOT, *mine, *map(tags.resource, tags.BACKENDS)}
    assert cluster["metadata"]["cores"].keys() == types.keys() - {"head"}


# ---------------------------------------------------------------- the plan


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.tif"
    tifffile.imwrite(file, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    return str(file)


@pytest.fixture
def plan(small: str) -> Callable[..., Result]:
    """`cellbench cloud plan` for a small image."""
    what = ("--models", "sleep", "--image", small, "--crops", "64")
    return lambda *words, file=FILES[0]: CliRunner().invoke(app, ["cloud", "plan", str(file), *what, *words])


def test_the_head_is_paid_as_long_as_the_last_machine(plan: Callable[..., Result]) -> None:
    done = plan("--json", "--types", "t4,intel", "--price", "t4=0.5", "--price", "head=0.1")
    found = {each["name"]: each for each in json.loads(done.stdout)["machines"]}
    assert list(found) == ["t4", "intel", "head"]
    assert sorted(found["t4"]["devices"]) == ["cpu", "cuda:0"]
    assert found["t4"]["about"] == pytest.approx(0.5 * found["t4"]["about_s"] / 3600)
    assert found["intel"]["most"] is None
    for kind in ("about_s", "most_s"):
        assert found["head"][kind] == cloud.START_S + max(found["t4"][kind], found["intel"][kind])
    assert all(each["about_s"] < each["most_s"] for each in found.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--types", "t5"], "no type is called t5"),
        (["--price", "t5=1"], "no type is called t5"),
        (["--price", "t4=cheap"], "is no price"),
        (["--budget", "5"], "without the price of t4, head"),
        (["--budget", "5", "--price", "t4=0.5"], "without the price of head"),
        (["--budget", "0.01", "--price", "t4=0.5", "--price", "head=0.1"], "the run may cost"),
        (["--budget", "50", "--price", "t4=0.5", "--price", "head=0.1"], None),
    ],
)
def test_a_plan_above_its_budget_fails(plan: Callable[..., Result], words: list[str], message: str | None) -> None:
    done = plan(*words, *([] if "--types" in words else ["--types", "t4"]))
    assert (done.exit_code == 0) == (message is None)
    if message:
        assert isinstance(done.exception, CellbenchError)
        assert message in str(done.exception)


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "available_node_types: 3", "available_node_types: {t4: {resources: {CPU: 1}}}", "\0"]
)
def test_another_file_is_rejected_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(text)
    with pytest.raises(CellbenchError) as error:
        cloud.read(str(file))
    assert str(file) in str(error.value)


def test_prices_of_the_file_keep_their_origin(plan: Callable[..., Result], tmp_path: Path) -> None:
    content = yaml.safe_load(FILES[0].read_text())
    content["metadata"] |= {"prices": {"t4": 0.25, "l4": 1}, "prices_from": "a list of 2026-11-28"}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    offer = cloud.read(str(file), {"l4": 2.0})
    assert (offer.prices, offer.origin) == ({"t4": 0.25, "l4": 2.0}, "a list of 2026-11-28")
    assert "2026-11-28" in plan(file=file).stderr
    assert "unknown age" in cloud.read(str(FILES[0])).origin


def test_a_gpu_of_the_file_is_planned_and_a_device_that_no_type_has_is_not(small: str) -> None:
    offer = cloud.read(str(FILES[0]))
    chosen = config.load("quick", {"models": ("sleep",), "devices": ("cuda:0",), "image": small, "crops": (64,)})
    assert [item.name for item in cloud.plan(chosen, offer, ["a100", "intel"])] == ["a100", "head"]
    assert len(offer.types["a100"].devices) == 9


# ---------------------------------------------------------------- the types of a cluster


@pytest.mark.parametrize(
    ("content", "head", "error"),
    [
        (FILES[0].read_text(), "10.0.0.1:6379", "the cluster file has t4, "),
        (FILES[0].read_text(), "10.0.0.2:6379", ""),  # another machine is the head
        *((text, "10.0.0.1:6379", "") for text in ("", "[]", "a: [", "available_node_types: {t4: 3}", "\0")),
        (None, "10.0.0.1:6379", ""),
    ],
)
def test_a_type_that_the_cluster_file_lacks_is_rejected_where_the_file_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, head: str, error: str
) -> None:
    file = tmp_path / "cluster.yaml"
    if content is not None:
        file.write_text(content)
    monitor = ["python", "monitor.py", "--gcs-address=10.0.0.1:6379", f"--autoscaling-config={file}"]
    found = [SimpleNamespace(info={"cmdline": words}) for words in (None, [], ["cat", str(file)], monitor)]
    monkeypatch.setattr(node_types.psutil, "process_iter", lambda _: found)
    node_types.check(["t4"], head)
    if error:
        with pytest.raises(CellbenchError, match="no type is called t5") as caught:
            node_types.check(["t4", "t5"], head)
        assert error in caught.value.fix
        assert "head" not in caught.value.fix
    else:
        node_types.check(["t5"], head)


@pytest.mark.parametrize("n_lost", [0, 1, 2])
def test_a_rented_node_that_is_lost_before_it_answers_is_asked_for_once_more(
    monkeypatch: pytest.MonkeyPatch, n_lost: int
) -> None:
    class LostError(Exception): ...

    answers = [*[LostError("gone")] * n_lost, {"host": "x", "devices": [], "threads": 1, "versions": {}, "facts": {}}]

    def get(answer: Any) -> Any:
        if isinstance(answer, LostError):
            raise answer
        return answer

    def relay(*_: object) -> Any:
        asked = SimpleNamespace(remote=lambda *_: number.append(len(number)) or number[-1])
        return SimpleNamespace(survey=asked)

    number: list[int] = []
    ray = SimpleNamespace(
        wait=lambda refs, timeout: (refs, []), get=lambda ref: get(answers[ref]),
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "here"),
        exceptions=SimpleNamespace(RayError=LostError, RayActorError=LostError),
    )  # fmt: skip
    monkeypatch.setattr(driver, "_relay", relay)
    monkeypatch.setattr(driver, "_started", lambda _, node: driver._Tagged("id", node.name, {}))
    relays = {"t4": relay()}
    first = relays["t4"]
    found, absent = driver._surveyed(ray, [driver._Rented("t4")], relays, lambda _: None, (), None, None)
    assert [each.name for each in found] == ["t4"] * (n_lost < 2)
    assert [each.why for each in absent] == ["gone"] * (n_lost == 2)
    assert (relays["t4"] is first) == (n_lost == 0)


# ---------------------------------------------------------------- a run, with Ray's own autoscaler and raylets


@pytest.fixture
def rented() -> Iterator[tuple[Machine, list[str]]]:
    """A head whose autoscaler starts the types of clusters/aws.yaml as raylets of this machine."""
    from ray.autoscaler._private.util import prepare_config

    content = prepare_config(yaml.safe_load((REPOSITORY / "clusters/aws.yaml").read_text()))
    content |= {key: [] for key in content if key.endswith("commands")}
    types = {name: {**each, "node_config": {}} for name, each in content["available_node_types"].items()}
    types[FAKE_HEAD] = types.pop("head")
    with tempfile.TemporaryDirectory(prefix="cb") as root:  # a short path, because sockets lie in it
        first = free_base()
        machine = Machine(Path(root) / "m", first + 50, first + 400)
        provider = {
            "type": "fake_multinode", "gcs_address": f"{network.own_ip() or '127.0.0.1'}:{machine.gcs_port}",
            "disable_node_updaters": True, "use_node_id_as_ip": True,
        }  # fmt: skip
        content |= {"provider": provider, "available_node_types": types, "head_node_type": FAKE_HEAD}
        content |= {"file_mounts": {}, "idle_timeout_minutes": 0.3}
        file = machine.folder / "cluster.json"
        file.write_text(json.dumps(content))
        (machine.folder / "script.json").write_text(json.dumps({"devices": {"cuda": 1}}))
        machine.environ |= {
            "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "CELLBENCH_SIMULATED": str(machine.folder),
            "AUTOSCALER_HEARTBEAT_TIMEOUT_S": "5", "RAY_health_check_period_ms": "1500",
        }  # fmt: skip
        assert machine.node("token").returncode == 0
        head = ("--head", "--port", machine.gcs_port, "--tags", "cpu", "--autoscaling-config", file)
        started = machine.start(*head)
        assert started.returncode == 0, started.stderr
        yield machine, [name for name in types if name != FAKE_HEAD]
        machine.node("stop")
        for process in machine.processes():  # the simulated machines are no children of the head's
            process.kill()


WORDS = ("--models", "sleep", "--crops", "64,96", "--repeats", "2", "--blocks", "1", "--devices", "cpu", "--out")


@pytest.mark.slow
def test_every_type_is_rented_measured_and_let_go(rented: tuple[Machine, list[str]]) -> None:
    machine, types = rented
    own, out = raylets(machine), machine.folder / "results"
    words = (*WORDS, out)
    unknown = machine.harness("run", "--address", "auto", "--rent", f"{types[0]},t5", *words)
    assert unknown.returncode == 2
    assert "no type is called t5" in unknown.stderr
    assert types[0] in unknown.stderr
    assert (raylets(machine), out.exists()) == (own, False)
    done = machine.harness("run", "--address", "auto", "--rent", ",".join(types), *words)
    assert done.returncode == 0, done.stderr
    rows = Store.at(out).table().to_pylist()
    assert {row["node"] for row in rows} == set(types)
    _, alive = psutil.wait_procs(raylets(machine) - own, timeout=60)
    assert alive == []
    report = machine.harness("report", "--out", out)
    assert report.returncode == 0, report.stderr
    page = Path(report.stdout.strip()).read_text()
    assert [name for name in types if name not in page] == []


@pytest.mark.slow
@pytest.mark.parallel
def test_a_spot_machine_that_is_lost_is_rented_again_for_its_missing_cases(rented: tuple[Machine, list[str]]) -> None:
    machine, types = rented
    out, (lost, other) = machine.folder / "results", types[:2]
    (machine.folder / "script.json").write_text(json.dumps({"call_s": 0.5}))
    words = machine.argv("run", "--address", "auto", "--rent", f"{lost},{other}", *WORDS, out)
    with subprocess.Popen(words, env=machine.environ, stderr=subprocess.PIPE, text=True) as run:
        until(lambda: "timed" in roles(out, lost))
        [gone] = [each for each in raylets(machine) if tags.type_resource(lost) in " ".join(each.cmdline())]
        for process in (gone, *gone.children(recursive=True)):
            process.kill()
        _, errors = run.communicate(timeout=90)
    assert run.returncode == 3, errors
    rows = Store.at(out).table().to_pylist()
    assert {row["node"] for row in rows if row["status"] == "node_lost"} == {lost}
    n_good = {name: sum(row["node"] == name and row["status"] == "ok" for row in rows) for name in (lost, other)}
    again = machine.harness("resume", "--retry-failed", "--rent", lost, "--out", out)
    assert again.returncode == 0, again.stderr
    rows = Store.at(out).table().to_pylist()
    ends = Counter((row["node"], row["crop"]) for row in rows if row["role"] == "timed" and row["stop_reason"])
    assert ends == Counter(itertools.product((lost, other), ("64", "96")))
    assert sum(row["node"] == other and row["status"] == "ok" for row in rows) == n_good[other]


def roles(out: Path, node: str) -> set[str]:
    """The roles of the samples of a node in the journal of a run."""
    found = [row for path in out.glob("journal/*.arrows") for row in journal.read(path).to_pylist()]
    return {row["role"] for row in found if row["node"] == node}


def raylets(machine: Machine) -> set[psutil.Process]:
    return {process for process in machine.processes() if process.name() == "raylet"}
