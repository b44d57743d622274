"""Nodes, parcels and the loop over many nodes, with relays that answer at once."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet.driver import artifacts, cluster, scheduler, survey
from harness.machine import versions
from harness.machine.versions import Difference
from harness.measure.wire import Order
from tests.conftest import RUN_ID, case, make_sample

ANSWER = {
    "host": "desk", "devices": [{"backend": "cpu", "index": 0, "name": "Some CPU"}], "threads": 4,
    "versions": {"torch": "2.13.0+cpu", "cellpose3": "3.1.1.3"}, "facts": {"node": "desk", "cpu_model": "Some CPU"},
}  # fmt: skip


# ---------------------------------------------------------------- members and versions


def test_a_member_is_what_it_says_under_the_name_of_its_fleet() -> None:
    found = survey.member(ANSWER, "big-box", {"cuda": 0, "mps": 0}, drives=True)
    assert (found.name, found.facts["node"], found.node.threads, found.drives) == ("big-box", "big-box", 4, True)
    assert [device.id for device in found.node.devices] == ["cpu"]
    assert found.lacking == ()


def test_a_promised_device_that_does_not_compute_stays_in_to_fail_by_name() -> None:
    found = survey.member(ANSWER, "desk", {"cuda": 2, "mps": 0})
    assert [device.id for device in found.node.devices] == ["cpu", "cuda:0", "cuda:1"]
    assert found.lacking == ("cuda",)


def test_builds_of_one_release_do_not_differ_and_what_is_missing_does() -> None:
    here = {"torch": "2.13.0+cpu", "numpy": "2.0.2", "ray": "2.60.0"}
    there = {"torch": "2.13.0+cu130", "numpy": "2.1.0", "code": "abc"}
    found = versions.differences(here, there)
    assert found == (
        Difference("numpy", "2.0.2", "2.1.0"), Difference("ray", "2.60.0", None), Difference("code", None, "abc")
    )  # fmt: skip
    assert [each.breaks_comparison for each in found] == [False, False, True]


def test_the_code_is_known_by_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    monkeypatch.setattr(versions, "PACKAGE", tmp_path)
    sums = set()
    for content in (b"x = 1\n", b"x = 1\r\n", b"x = 2\n"):
        (tmp_path / "a.py").write_bytes(content)
        versions.code_sha256.cache_clear()
        sums.add(versions.code_sha256())
    versions.code_sha256.cache_clear()
    assert len(sums) == 2  # line ends are no difference


# ---------------------------------------------------------------- parcels


def test_parcels_are_kept_and_found_by_their_hashes() -> None:
    files = [artifacts.parcel("image.npy", b"pixels"), artifacts.parcel("cyto3", b"weights")]
    label, sums = artifacts.label(files), {each.name: each.sha256 for each in files}
    assert artifacts.find(label, sums) is None
    folder = artifacts.unpack(files)
    assert artifacts.find(label, sums) == folder
    assert (Path(folder) / "cyto3").read_bytes() == b"weights"
    (Path(folder) / "cyto3").write_bytes(b"weight5")
    assert artifacts.find(label, sums) is None


def test_a_damaged_parcel_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    damaged = dataclasses.replace(artifacts.parcel("cyto3", b"weights"), content=b"weight5")
    with pytest.raises(CellbenchError, match="arrived damaged"):
        artifacts.unpack([damaged], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nodes_with_one_home_keep_the_files_of_the_first(tmp_path: Path) -> None:
    files = [artifacts.parcel("image.npy", b"pixels")]
    folder = artifacts.unpack(files, tmp_path)
    before = Path(folder, "image.npy").stat().st_ino
    assert artifacts.unpack(files, tmp_path) == folder
    assert Path(folder, "image.npy").stat().st_ino == before  # another node may be reading it
    Path(folder, "image.npy").write_bytes(b"pixel5")
    artifacts.unpack(files, tmp_path)
    assert Path(folder, "image.npy").read_bytes() == b"pixels"
    assert [path.name for path in tmp_path.iterdir()] == [Path(folder).name]


def test_parcels_that_nobody_asks_for_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Path(artifacts.unpack([artifacts.parcel("a", b"1")], tmp_path))
    monkeypatch.setattr(artifacts.time, "time", lambda: old.stat().st_mtime + artifacts.KEPT_S + 1)
    artifacts.unpack([artifacts.parcel("a", b"2")], tmp_path)
    assert not old.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CellbenchError, match="could not be stored"):
        artifacts.unpack([artifacts.parcel("a", b"1")], tmp_path / "file")


# ---------------------------------------------------------------- dispatch


class Ray:
    """The part of Ray that the driver uses while it waits."""

    __version__ = "0.0"

    class exceptions:  # noqa: N801
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

        class GetTimeoutError(RayError): ...


class Actor:
    """A relay whose node dies after some answers, or never."""

    def __init__(self, node: str, dies: Exception | None = None, after: int = 999) -> None:
        self.node, self._dies, self._left = node, dies, after
        self.begin, self.next = self, self  # actor.begin.remote(order) and actor.next.remote()

    def remote(self, order: Order | None = None) -> SimpleNamespace:
        if order:
            self._answers = self._perform(order)
        self._left -= 1
        self.asked: Future[Any] = Future()
        self.take()
        return SimpleNamespace(future=lambda: self.asked)

    def take(self) -> None:
        """Take a request: answer it at once."""
        self.answer()

    def answer(self) -> None:
        if self._left < 0:
            self.asked.set_exception(self._dies)
        else:
            self.asked.set_result(next(self._answers))

    def _perform(self, order: Order) -> Iterator[Any]:
        for task in order.block.tasks:
            yield ("sample", make_sample(node=self.node, crop=task.case.crop, block=order.block.index))
            yield ("finished", None)
        yield ("end", None)


def on(node: str, made: Order, index: int = 0) -> Order:
    constants = {**made.constants, "node": node, "run_id": RUN_ID}
    return dataclasses.replace(made, block=dataclasses.replace(made.block, node=node, index=index), constants=constants)


def test_nodes_that_answer_together_are_one_batch(order: Callable[..., Order]) -> None:
    made = order(case(64), case(96))
    todo = [on("a", made), on("a", made, 1), on("b", made)]
    done = list(scheduler.batches(Ray(), {name: Actor(name) for name in "ab"}, todo, {"a": {}, "b": {}}))
    assert [[(s["node"], s["block"], s["crop"]) for s in batch] for batch in done] == [
        [("a", 0, "64"), ("b", 0, "64")], [("a", 0, "96"), ("b", 0, "96")], [("a", 1, "64")], [("a", 1, "96")]
    ]  # fmt: skip
    assert {(s["dispatch"], s["ray_version"]) for batch in done for s in batch} == {("ray", "0.0")}


def test_a_node_is_asked_again_only_when_its_sample_has_been_dealt_with(order: Callable[..., Order]) -> None:
    actor = Actor("a")
    running = scheduler.batches(Ray(), {"a": actor}, [on("a", order(case(64), case(96)))], {"a": {}})
    next(running)
    assert actor._left == 998  # the one answer that was given


@pytest.mark.parametrize(("kind", "status"), [("RayError", "node_lost"), ("RayTaskError", "crash")])
def test_a_lost_node_s_tasks_are_rows_and_the_others_go_on(order: Callable[..., Order], kind: str, status: str) -> None:
    made = order(case(64), case(96))
    error = getattr(Ray.exceptions, kind)("The node died.\nmuch more\nits link was cut")
    actors = {"a": Actor("a", error, after=2), "b": Actor("b")}
    todo = [on("a", made), on("a", made, 1), on("b", made)]
    done = list(chain.from_iterable(scheduler.batches(Ray(), actors, todo, {"a": {"cpu_model": "Its CPU"}, "b": {}})))
    lost = [s for s in done if s["status"] == status]
    assert [(s["node"], s["block"], s["crop"]) for s in lost] == [("a", 0, "96"), ("a", 1, "64"), ("a", 1, "96")]
    assert {(s["cpu_model"], s["error_message"]) for s in lost} == {("Its CPU", "The node died. its link was cut")}
    assert sum(s["node"] == "b" and s["status"] == "ok" for s in done) == 2


def test_each_node_is_released_once_as_soon_as_it_has_no_work(order: Callable[..., Order]) -> None:
    made, error = order(case(64)), Ray.exceptions.RayError("gone")
    actors = {"a": Actor("a"), "b": Actor("b", error, after=1), "idle": Actor("idle"), "long": Actor("long")}
    todo = [on("a", made), on("b", made), *(on("long", made, index) for index in range(5))]
    released: list[str] = []
    running = scheduler.batches(Ray(), actors, todo, {name: {} for name in actors}, released.append)
    done = [(batch[-1]["node"], len(released)) for batch in running]
    assert sorted(released) == sorted(actors)
    assert released[0] == "idle"
    assert released[-1] == "long"
    assert done[-1] == ("long", 3)  # the others are no longer paid


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("InvalidAuthToken: bad token", "token"),
        ("Version mismatch: The cluster was started with", "versions of Ray"),
        ("Failed to connect to Ray cluster at 10.0.0.1:6379", "check host and port"),
        ("Can't find a node_ip_address.json file", "runs on a node of the fleet"),
    ],
)
def test_every_refusal_has_its_cure(output: str, cure: str) -> None:
    assert cure in cluster._cure(output)


def test_what_a_killed_command_kept_for_itself_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path))
    artifacts.forget_killed()  # nobody was here yet
    (tmp_path / "scratch" / "run-dead").mkdir(parents=True)

    def folders() -> list[str]:
        return [path.name for path in (tmp_path / "scratch").glob("run-*") if path.is_dir()]

    with artifacts.scratch() as mine:
        assert folders() == [mine.name]
        with artifacts.scratch() as other:  # one that is in use stays
            assert mine.is_dir() and other.is_dir() and mine != other
        (tmp_path / "scratch" / "run-dead").mkdir()
        artifacts.forget_killed()
        assert folders() == [mine.name]
    assert list((tmp_path / "scratch").glob("run-*")) == []


def test_a_ray_that_is_too_slow_to_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray says it, on a machine that is busy

    monkeypatch.setattr(cluster, "_ray", lambda: SimpleNamespace(init=init))
    with pytest.raises(FleetUnreachableError, match="timed out during startup") as caught:
        cluster.start_local()
    assert (caught.value.exit_code, "--no-ray" in caught.value.fix) == (4, True)


def test_what_ray_writes_past_python_while_it_starts_stays_off_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    def init(**_: object) -> None:
        os.write(2, b"[2026-11-28 W 1 1] network_util.cc:330: Failed to determine local IP\n")
        raise OSError("why")

    with pytest.raises(OSError, match="why"):
        cluster._init(SimpleNamespace(init=init))
    os.write(2, b"ours\n")
    assert capfd.readouterr().err == "ours\n"
