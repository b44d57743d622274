"""The shipped cluster.yaml and scripts on four hosts and a desk: from nothing to results at home, twice.

Head and workers come up through `ray up`, a fourth joins by hand with the tags of a Mac, so that nothing measures on
what it does not have. One run goes through `ray submit`, one through `ray job submit` at the same time, one through
scripts/fleet. Times measured here mean nothing: all hosts share the processors.
"""

import json
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import hosts
import psutil
import pyarrow.parquet as pq
import pytest
from hosts import REPOSITORY, Done, Host

from harness.machine import probe
from harness.schema import Sample

LACKING = hosts.why_not()
pytestmark = [pytest.mark.slow, pytest.mark.fleet, pytest.mark.skipif(bool(LACKING), reason=str(LACKING))]

EDITED = {
    "head_ip": "10.77.0.1",
    "worker_ips": "[10.77.0.2, 10.77.0.3]",
    "ssh_user": "root",
    "ssh_private_key": "~/.ssh/fleet_key",
}
TINY = """
image = "sparse"
crops = [96]
devices = ["cpu"]
weights = "standin"
warmups = 1
repeats = 2
control = false
idle_wait_s = 0
"""
IN_PATH = "PATH=$PATH:~/cellbench/.venv/bin; cd cellbench;"
JOIN = f"{IN_PATH} cellbench node start --address 10.77.0.1:6379 --name mac --tags cpu,mps"
NODES = {"head", "w1", "w2", "mac"}


@dataclass(frozen=True)
class Story:
    """What happened, step by step."""

    cluster_yaml: str
    up: Done
    no_token: Done
    wrong_token: Done
    joined: Done
    submitted: Done
    job: Done
    asked_for_mps: Done
    again: Done
    seen: dict[str, Counter[int]]  # how many measuring processes were on a host at a time
    status: dict[str, object]
    token_modes: dict[str, int]
    brought: list[Sample]  # by the line that the first run printed
    at_home: list[Sample]  # by scripts/fleet
    report: str
    down: Done
    left: dict[str, list[str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    scratch = tmp_path_factory.mktemp("hosts")
    with hosts.lan(["head", "w1", "w2", "mac", "desk"], scratch, {"desk": _checkout()}) as lan:
        yield _tell(lan, scratch)


def _checkout() -> dict[str, tuple[int, str]]:
    """What lies on the desk: the scripts, cluster.yaml with its four lines edited, and a profile."""
    folder, scripts = hosts.home() / "cellbench", ("scripts/fleet", "scripts/fleet_run.py")
    files = {str(folder / name): (0o755, (REPOSITORY / name).read_text()) for name in scripts}
    text = (REPOSITORY / "cluster.yaml").read_text()
    for key, value in EDITED.items():
        text, n = re.subn(rf"(?m)^(  {key}:) .* # <- .*$", rf"\1 {value}", text)
        assert n == 1, key
    return {**files, str(folder / "cluster.yaml"): (0o644, text), str(folder / "tiny.toml"): (0o644, TINY)}


def _tell(lan: dict[str, Host], scratch: Path) -> Story:
    desk, mac, head = lan["desk"], lan["mac"], lan["head"]
    edited = (desk.home / "cellbench/cluster.yaml").read_text()
    up = desk.run("cellbench/scripts/fleet up", 400)

    no_token = mac.run(JOIN)
    mac.run("mkdir -pm 700 .ray; umask 077; echo 0123456789abcdef0123456789abcdef > .ray/auth_token")
    wrong_token = mac.run(JOIN)
    mac.run("cp .ssh/fleet_key .ssh/id_ed25519; echo 'StrictHostKeyChecking no' > .ssh/config")
    joined = mac.run(f"{IN_PATH} cellbench node token --from root@10.77.0.1 --replace && {JOIN}")

    first = desk.start(
        f"{IN_PATH} ray rsync-up cluster.yaml tiny.toml '~/tiny.toml' && "
        "ray submit cluster.yaml scripts/fleet_run.py -- --profile tiny.toml"
    )
    shutil.copy(REPOSITORY / "scripts/fleet_run.py", head.home)
    (head.home / "jobs").mkdir()
    (head.home / "jobs/tiny.toml").write_text(TINY)
    job = head.start(
        "PATH=$PATH:~/cellbench/.venv/bin; export RAY_AUTH_MODE=token; ray job submit --address http://127.0.0.1:8265 "
        f"--working-dir jobs -- python {hosts.home()}/fleet_run.py --profile tiny.toml --out {hosts.home()}/job-results"
    )
    seen: dict[str, Counter[int]] = {name: Counter() for name in NODES}
    while first.process.poll() is None:
        for name in NODES:
            seen[name][lan[name].count("harness.measure.child")] += 1
        time.sleep(0.5)
    submitted, job_done = first.wait(1), job.wait(900)
    status = json.loads(head.run("~/cellbench/.venv/bin/cellbench node status --json 2>/dev/null").text)
    answer = re.search(r"ray rsync-down cluster.yaml .*", submitted.text)
    desk.run(f"{IN_PATH} mkdir brought; {(answer or ['false'])[0].replace(' results/', ' brought/')}")
    brought = _samples(desk.home / "cellbench/brought")

    asked_for_mps = desk.run("cd cellbench; scripts/fleet --profile tiny.toml --nodes mac --devices mps", 600)
    again = desk.run("cd cellbench; scripts/fleet --profile tiny.toml", 900)
    at_home = _samples(desk.home / "cellbench/results")
    report = next((desk.home / "cellbench/results").glob("report-*.html"))
    modes = {h.name: (h.home / ".ray/auth_token").stat().st_mode & 0o777 for h in lan.values()}
    assert (desk.home / "cellbench/cluster.yaml").read_text() == edited
    jobs_own = _samples(head.home / "job-results")
    text = report.read_text()

    mac.run("~/cellbench/.venv/bin/cellbench node stop")
    down = desk.run("cellbench/scripts/fleet down", 300)
    end_s = time.monotonic() + 60  # ssh keeps its connections for 10 s, Ray's agents linger after their raylet
    while any((left := {host.name: host.processes() for host in lan.values()}).values()) and time.monotonic() < end_s:
        time.sleep(2)
    return Story(
        edited, up, no_token, wrong_token, joined, submitted, job_done, asked_for_mps, again, seen, status, modes,
        brought, at_home + jobs_own, text, down, left,
    )  # fmt: skip


def _samples(results: Path) -> list[Sample]:
    files = sorted((results / "samples").rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def test_the_shipped_cluster_comes_up_with_four_lines_edited(story: Story) -> None:
    assert story.up.code == 0, story.up.text
    shipped = (REPOSITORY / "cluster.yaml").read_text().splitlines()
    changed = [a for a, b in zip(shipped, story.cluster_yaml.splitlines(), strict=True) if a != b]
    assert len(changed) == 4
    nodes = {node["name"]: node for node in story.status["nodes"]}
    assert set(nodes) == NODES
    assert {node["state"] for node in nodes.values()} == {"up"}, "the autoscaler or a check of liveness took one away"
    assert [name for name, node in nodes.items() if node["is_head"]] == ["head"]
    assert nodes["mac"]["counts"].get("mps") == 1


def test_a_stranger_is_refused_and_the_token_is_kept_private(story: Story) -> None:
    assert story.no_token.code == 2
    assert "no token" in story.no_token.text
    assert story.wrong_token.code == 4
    assert "does not take this machine's token" in story.wrong_token.text
    assert story.joined.code == 0, story.joined.text
    assert set(story.token_modes.values()) == {0o600}, story.token_modes


def test_every_node_measures_with_its_own_threads(story: Story) -> None:
    assert story.submitted.code == 0, story.submitted.text
    timed = [row for row in story.brought if row["role"] == "timed"]
    assert {row["node"] for row in timed} == NODES
    for row in timed:
        assert row["status"] == "ok"
        assert row["dispatch"] == "ray"
        assert row["torch_threads"] == probe.n_cores()
        assert row["openmp_threads"] == str(probe.n_cores()), "the 1 of ray up's shells went through"
    assert len(timed) == 2 * len(NODES)


def test_blocks_run_where_they_are_pinned(story: Story) -> None:
    """The kernel saw a measuring process on each host, and never two, though two runs went on."""
    assert {node: max(counts) for node, counts in story.seen.items()} == dict.fromkeys(NODES, 1)


def test_nodes_measure_side_by_side_and_each_one_thing_at_a_time(story: Story) -> None:
    assert story.job.code == 0, story.job.text
    spans = defaultdict(list)
    for row in story.brought + [row for row in story.at_home if row["run_id"] not in _runs(story.brought)]:
        if row["elapsed_s"] is not None and row["role"] in ("timed", "warmup"):
            end = row["started_at"] + timedelta(seconds=row["elapsed_s"])
            spans[row["node"]].append((row["started_at"], end, row["run_id"]))
    assert all(len({run for _, _, run in node}) == 3 for node in spans.values()), "each of the three runs on each node"
    for node, measured in spans.items():
        for (_, end, _), (start, _, _) in pairwise(sorted(measured)):
            assert start >= end, f"two measurements at once on {node}"
    first = [
        (min(s)[0], max(e for _, e, _ in s), node) for node, s in _of_run(spans, min(_runs(story.brought))).items()
    ]
    together = [(a, b) for a, b in pairwise(sorted(first)) if b[0] < a[1]]
    assert together, "no two nodes measured at the same time"


def _runs(samples: list[Sample]) -> set[str]:
    return {row["run_id"] for row in samples}


def _of_run(spans: dict[str, list], run_id: str) -> dict[str, list]:
    return {node: [span for span in measured if span[2] == run_id] for node, measured in spans.items()}


def test_a_device_that_only_the_tags_promise_is_not_measured(story: Story) -> None:
    assert story.asked_for_mps.code == 3, story.asked_for_mps.text
    rows = [row for row in story.at_home if row["device"] == "mps"]
    assert rows
    assert all(row["elapsed_s"] is None and row["status"] != "ok" for row in rows if row["role"] in ("timed", "warmup"))


def test_a_second_run_needs_no_edit_and_ends_in_a_report(story: Story) -> None:
    assert story.again.code == 0, story.again.text
    assert len(_runs(story.at_home)) == 4  # ray submit, the refused one, scripts/fleet; and the job's own
    assert all(f">{node}<" in story.report or node in story.report for node in NODES)


def test_down_leaves_nothing_behind(story: Story) -> None:
    assert story.down.code == 0, story.down.text
    assert story.left == {name: [] for name in story.left}


def test_hosts_end_with_those_who_made_them(tmp_path: Path) -> None:
    with hosts.lan(["one"], tmp_path, {}) as lan:
        sleeper = lan["one"].start("exec sleep 1000")
        init = psutil.Process(lan["one"].init_pid)
        assert init.is_running()
    assert sleeper.process.wait(10) != 0
    assert not init.is_running()
