"""Checks of threads and devices: real torch on the CPU, made-up devices and clocks for everything else."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.machine import accelerators
from harness.machine.accelerators import ACCELERATORS
from harness.machine.checks import FAIL, OK, WARN
from harness.measure import selfcheck
from harness.measure.selfcheck import Chain

TWO = {"torch_threads": 2, "opencv_threads": 2, "numba_threads": 2}
MS = 1_000_000
OBEYS: Any = SimpleNamespace(set_threads=lambda n: TWO)  # an engine whose libraries take the threads they are given


class Device:
    """A made-up device: launching a link takes launch_ns, doing it link_ns; sync waits if it is honest."""

    def __init__(self, link_ns: int, launch_ns: int, syncs: bool = True, result: float = 1.0) -> None:
        self.link_ns, self.launch_ns, self.syncs, self.result = link_ns, launch_ns, syncs, result
        self.now_ns = self.done_ns = 0
        self.queued: list[int] = []

    def queue(self, n: int) -> str:
        self.queued.append(n)
        self.done_ns = max(self.now_ns, self.done_ns) + n * self.link_ns
        self.now_ns += n * self.launch_ns
        return "last"

    def sync(self) -> None:
        if self.syncs:
            self.now_ns = max(self.now_ns, self.done_ns)

    def read(self, last: str) -> float:
        assert last == "last"
        self.now_ns = max(self.now_ns, self.done_ns)
        return self.result

    def check(self, name: str = "cuda:0") -> Any:
        return selfcheck.judge(name, selfcheck.chain(self.queue, self.sync, self.read, lambda: self.now_ns))


# ------------------------------------------------------------------ does the clock wait?


def test_an_accelerator_whose_sync_waits_is_good() -> None:
    device = Device(link_ns=MS, launch_ns=10_000)
    check = device.check()
    assert check.verdict == OK
    assert check.fix is None
    assert "ratio 100" in check.evidence
    assert device.queued[-1] == 50  # 50 ms of work


@pytest.mark.parametrize("name", accelerators.GPUS)
def test_a_clock_that_stops_before_the_device_does_is_a_failure(name: str) -> None:
    check = Device(link_ns=MS, launch_ns=10_000, syncs=False).check(name)
    assert check.verdict == FAIL
    assert "stops before the device" in check.evidence
    assert check.fix


def test_a_sync_that_waits_for_half_the_work_is_a_failure() -> None:
    assert selfcheck.judge("cuda:0", Chain(0.001, 0.025, 0.050, 1.0)).verdict == FAIL


def test_an_accelerator_whose_launches_wait_is_a_failure_of_another_kind() -> None:
    check = Device(link_ns=MS, launch_ns=MS).check()
    assert check.verdict == FAIL
    assert "CUDA_LAUNCH_BLOCKING" in check.fix
    assert Device(link_ns=MS, launch_ns=MS).check("mps").fix == "close what else uses the device, and try again"


@pytest.mark.parametrize(("ratio", "verdict"), [(2.9, FAIL), (3.0, OK)])
def test_how_much_faster_queueing_must_be(ratio: float, verdict: str) -> None:
    assert selfcheck.judge("mps", Chain(0.05 / ratio, 0.05, 0.05, 1.0)).verdict == verdict


def test_a_cpu_is_synchronous() -> None:
    check = Device(link_ns=MS, launch_ns=MS).check("cpu")
    assert check.verdict == OK
    assert "synchronous" in check.evidence
    assert selfcheck.judge("cpu", Chain(0.01, 0.05, 0.05, 1.0)).verdict == WARN


def test_a_chain_that_ends_in_nonsense_is_a_failure() -> None:
    for result in (0.0, float("nan")):
        check = Device(link_ns=MS, launch_ns=10_000, result=result).check()
        assert check.verdict == FAIL
        assert "instead of 1" in check.evidence


def test_the_chain_is_never_longer_than_a_launch_queue() -> None:
    for link_ns in (0, 1_000):
        device = Device(link_ns, launch_ns=0)
        device.check()
        assert device.queued[-1] == selfcheck.N_MAX
    slow = Device(link_ns=100 * MS, launch_ns=0)
    assert slow.check().verdict == OK
    assert slow.queued[-1] == selfcheck.N_TRIAL


# ------------------------------------------------------------------ does it compute, and where?


def test_a_device_is_asked_by_torchs_name_for_it() -> None:
    check = selfcheck.computes("rocm:1", place=torch.from_numpy)
    assert (check.verdict, check.evidence) == (FAIL, "rocm:1 was requested, but tensors are on cpu")
    assert "device='cuda:1'" in check.fix


def test_this_cpu_computes_and_is_synchronous() -> None:
    computed = selfcheck.computes("cpu")
    assert (computed.verdict, computed.fix) == (OK, None)
    assert selfcheck.sync_waits("cpu").verdict in (OK, WARN)  # a busy machine may tear the two apart


def test_a_device_that_lies_about_its_type_is_a_failure() -> None:
    check = selfcheck.computes("cuda:0", place=torch.from_numpy)
    assert check.verdict == FAIL
    assert check.evidence == "cuda:0 was requested, but tensors are on cpu"
    assert "cuda:0" in check.fix


@pytest.mark.parametrize(("choice", "seen", "same"), [
    ("cuda:0", "cuda:0", True), ("cuda", "cuda:0", True), ("cuda:1", "cuda:0", False), ("mps", "mps:0", True),
    ("mps", "cpu", False),
])  # fmt: skip
def test_which_devices_are_the_same(choice: str, seen: str, same: bool) -> None:
    assert selfcheck._same(torch.device(seen), torch.device(choice)) is same


@pytest.mark.parametrize(
    ("broken", "task"),
    [
        (lambda a: torch.from_numpy(a) * (1.01 if a.ndim == 2 else 1), "matmul"),
        (lambda a: torch.from_numpy(a) * (1.01 if a.ndim == 4 else 1), "3x3 convolution"),
        (lambda a: torch.from_numpy(a) * float("nan"), "matmul and 3x3 convolution"),
    ],
)
def test_wrong_results_are_a_failure(broken: Callable[[np.ndarray], torch.Tensor], task: str) -> None:
    check = selfcheck.computes("cpu", place=broken)
    assert check.verdict == FAIL
    assert check.evidence == f"wrong result of {task}"


def test_rounding_of_a_fast_method_is_forgiven() -> None:
    check = selfcheck.computes("cpu", place=lambda a: torch.from_numpy(a) * (1 + 1e-5))
    assert check.verdict == OK


# ------------------------------------------------------------------ threads


def test_threads_that_obey() -> None:
    check = selfcheck.threads_obey(2, TWO, {"OMP_NUM_THREADS": "2"})
    assert (check.verdict, check.fix) == (OK, None)


@pytest.mark.parametrize("name", [*TWO, "OMP_NUM_THREADS"])
def test_one_wrong_number_of_threads_is_a_failure(name: str) -> None:
    read_back = TWO | ({name: 1} if name in TWO else {})
    environ = {"OMP_NUM_THREADS": "1" if name not in TWO else "2"}  # Ray sets 1
    check = selfcheck.threads_obey(2, read_back, environ, "linux")
    assert check.verdict == FAIL
    word = {"torch_threads": "torch", "opencv_threads": "OpenCV", "numba_threads": "numba"}.get(name, name)
    assert word in check.fix
    assert selfcheck.threads_obey(2, TWO, {}).verdict == FAIL


def test_opencv_on_a_mac_cannot_obey() -> None:
    environ = {"OMP_NUM_THREADS": "2"}
    assert selfcheck.threads_obey(2, TWO | {"opencv_threads": 8}, environ, "darwin").verdict == WARN
    assert selfcheck.threads_obey(2, TWO | {"torch_threads": 8}, environ, "darwin").verdict == FAIL


# ------------------------------------------------------------------ accelerators

NO_DRIVER, NO_BUILD = dict.fromkeys(ACCELERATORS, 0), dict.fromkeys(ACCELERATORS)


@pytest.mark.parametrize(("listed", "drivers", "builds", "environ", "verdict", "advice"), [
    (["cpu"], {}, {}, {}, OK, ""),
    (["cuda:0", "cuda:1", "cpu"], {"cuda": 2}, {"cuda": "12.8"}, {}, OK, ""),
    (["mps", "cpu"], {}, {}, {}, OK, ""),
    (["rocm:0", "cpu"], {"rocm": 1}, {"rocm": "6.4"}, {}, OK, ""),
    (["cpu"], {"cuda": 1}, {}, {}, WARN, "CUDA build of torch"),
    (["cpu"], {"rocm": 1}, {}, {}, WARN, "ROCm build of torch"),
    (["cpu"], {"cuda": 1}, {"cuda": "12.8"}, {}, WARN, "CUDA 12.8"),
    (["cpu"], {"rocm": 1}, {"rocm": "6.4"}, {}, WARN, "ROCm 6.4"),
    (["cpu"], {"cuda": 1}, {"cuda": "12.8"}, {"CUDA_VISIBLE_DEVICES": ""}, WARN, "unset CUDA_VISIBLE_DEVICES to"),
    (["cuda:0", "cpu"], {"cuda": 2}, {"cuda": "12.8"}, {"CUDA_VISIBLE_DEVICES": "0"}, WARN, "CUDA_VISIBLE_DEVICES"),
    (["cpu"], {"rocm": 1}, {"rocm": "6.4"}, {"HIP_VISIBLE_DEVICES": "-1"}, WARN, "HIP_VISIBLE_DEVICES"),
    # The torch for AMD's GPU beside an NVIDIA one, and the other way round.
    (["rocm:0", "cpu"], {"cuda": 1, "rocm": 1}, {"rocm": "6.4"}, {}, WARN, "CUDA build of torch"),
    (["cuda:0", "cpu"], {"cuda": 1, "rocm": 1}, {"cuda": "12.8"}, {}, WARN, "ROCm build of torch"),
])  # fmt: skip
def test_gpus_that_torch_does_not_see(
    listed: list[str],
    drivers: dict[str, int],
    builds: dict[str, str],
    environ: dict[str, str],
    verdict: str,
    advice: str,
) -> None:
    check = selfcheck.accelerator(listed, NO_DRIVER | drivers, NO_BUILD | builds, environ)
    assert check.verdict == verdict
    assert advice in (check.fix or "")
    assert (check.fix is None) is (verdict == OK)


# ------------------------------------------------------------------ all of them


def test_run_keeps_a_broken_check_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = {check["name"]: check for check in selfcheck.run(OBEYS, devices=["nonsense", "cpu"], threads=2)}
    assert list(found) == [
        "threads", "accelerator", "computes nonsense", "sync nonsense", "computes cpu", "sync cpu"
    ]  # fmt: skip
    assert found["threads"]["verdict"] == found["computes cpu"]["verdict"] == OK
    assert found["computes nonsense"]["verdict"] == found["sync nonsense"]["verdict"] == FAIL
    assert "nonsense" in found["computes nonsense"]["evidence"]


def test_run_takes_the_devices_that_torch_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "listed", lambda: ["cuda:7"])
    monkeypatch.setattr(selfcheck, "computes", lambda device: dataclasses.replace(GOOD, name=device))
    monkeypatch.setattr(selfcheck, "sync_waits", lambda device: dataclasses.replace(GOOD, name=device))
    assert [check["name"] for check in selfcheck.run(OBEYS, threads=2)[2:]] == ["cuda:7", "cuda:7"]


GOOD = selfcheck.Check("good", OK, "fine")
