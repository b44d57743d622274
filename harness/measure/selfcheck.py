"""Checks that need torch: each device computes, its clock waits for it, and threads are as set.

They run in the worker's child process, as a measurement does; the result of each has the fields of a Check.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from harness.engines.base import Engine, Scalar
from harness.machine import accelerators
from harness.machine.accelerators import ACCELERATORS
from harness.machine.checks import FAIL, OK, WARN, Check, attempt
from harness.machine.probe_io import Sources

CHAIN_S = 0.05  # long compared with a launch (about 10 us) and a read-back (below 1 ms), short for the user
N_TRIAL = 4  # links of the chain, to estimate how long one takes
N_MAX = 500  # CUDA's launch queue holds about a thousand; beyond, launching waits for the device
# Sides of the matrices, powers of two so that 1/side is exact. Accelerators: 17 GFLOP a link, so that even a fast
# one (50 TFLOP/s) takes 0.3 ms and the chain is far from N_MAX; a slow one (1 TFLOP/s) still ends in 0.1 s.
SIDE, CPU_SIDE = 2048, 512
QUEUED_RATIO = 3.0  # an accelerator is handed its work at least this much faster than it does it
CPU_RATIO = 1.5  # a CPU is done when the call returns; a larger ratio is more than noise
WAITED_SHARE = 0.8  # the minimum share of the time until the result was there that sync must have waited

OPENCV_INFO = "python -c 'import cv2; print(cv2.getBuildInformation())'"
TORCH_INFO = "python -c 'import torch; print(torch.__config__.parallel_info())'"


def run(engine: Engine, devices: Sequence[str] = (), threads: int = 1) -> list[dict[str, Any]]:
    """Check the threads and these devices (by default all that torch lists); a Check's fields for each."""
    listed = accelerators.listed()
    sources = Sources()
    drivers = {backend: kind.driver_count(sources) for backend, kind in ACCELERATORS.items()}
    builds = {backend: kind.build() for backend, kind in ACCELERATORS.items()}
    checks = attempt("threads", lambda: threads_obey(threads, dict(engine.set_threads(threads)), os.environ))
    checks += attempt("accelerator", lambda: accelerator(listed, drivers, builds, os.environ))
    for device in devices or listed:
        checks += attempt(f"computes {device}", partial(computes, device))
        checks += attempt(f"sync {device}", partial(sync_waits, device))
    return [asdict(check) for check in checks]


# ---------------------------------------------------------------- threads


def threads_obey(
    wanted: int, read_back: Mapping[str, Scalar], environ: Mapping[str, str], system: str = sys.platform
) -> Check:
    """Check that every library has the number of threads that it was given."""
    seen = {
        "torch": str(read_back["torch_threads"]),
        "OpenCV": str(read_back["opencv_threads"]),
        "numba": str(read_back["numba_threads"]),
        "OMP_NUM_THREADS": environ.get("OMP_NUM_THREADS", "unset"),
    }
    evidence = f"{wanted} expected (one for each usable core); " + ", ".join(f"{name} {n}" for name, n in seen.items())
    wrong = [name for name, n in seen.items() if n != str(wanted)]
    if not wrong:
        return Check("threads", OK, evidence)
    if system == "darwin" and wrong == ["OpenCV"]:
        # setNumThreads() does nothing with Apple's Grand Central Dispatch (OpenCV issue 23091).
        fix = "none needed: OpenCV leaves its threads to macOS; their share of a call is small"
        return Check("threads", WARN, evidence, fix)
    fixes = {
        "torch": f"look at torch's parallel back end: {TORCH_INFO}",
        "OpenCV": f"look at OpenCV's parallel framework: {OPENCV_INFO}",
        "numba": "find what limits numba (NUMBA_NUM_THREADS, .numba_config.yaml)",
        "OMP_NUM_THREADS": "find what sets OMP_NUM_THREADS when Python starts (a wrapper, sitecustomize)",
    }
    return Check("threads", FAIL, evidence, "; ".join(fixes[name] for name in wrong))


# ---------------------------------------------------------------- devices


def accelerator(
    listed: Sequence[str], drivers: Mapping[str, int], builds: Mapping[str, str | None], environ: Mapping[str, str]
) -> Check:
    """Check that torch can use the GPUs that their drivers list.

    listed: ids of torch's devices. drivers: how many the driver lists, by backend. builds: what torch was built for.
    """
    usable = [device for device in listed if not accelerators.of(device).is_host]
    evidence, fixes = [f"torch lists {', '.join(usable) or 'no accelerator, so runs use the CPU'}"], []
    for backend, kind in ACCELERATORS.items():
        if drivers[backend] <= sum(device.partition(":")[0] == backend for device in usable):
            continue
        evidence.append(f"the driver lists {drivers[backend]} {kind.title}")
        hiding = [name for name in kind.visibility_settings if name in environ]
        if hiding:
            evidence += [f"{name} is {environ[name]!r}" for name in hiding]
            fixes.append(f"unset {' and '.join(hiding)} to measure them")
        elif builds[backend] is None:
            evidence.append(f"this torch is built without {kind.platform}")
            fixes.append(f"install the {kind.platform} build of torch (PyTorch's page Get Started names it)")
        else:
            fixes.append(f"update the driver of the {kind.title}: this torch needs {kind.platform} {builds[backend]}")
    return Check("accelerator", WARN if fixes else OK, "; ".join(evidence), "; ".join(fixes) or None)


def computes(device: str, place: Callable[[np.ndarray], Any] | None = None) -> Check:
    """Check that a device multiplies matrices and convolves correctly, with all tensors on itself.

    place: puts an array on the device.
    """
    import torch

    kind = accelerators.of(device)
    wanted = torch.device(kind.torch_name(device))
    place = place or (lambda array: torch.from_numpy(array).to(wanted))
    random = np.random.default_rng(0)
    # Whole numbers: the exact results are known, and rounding hides the errors of TF32 or Winograd's method.
    left, right = (random.integers(-4, 5, (64, 64)) for _ in range(2))
    image, kernel = random.integers(-4, 5, (8, 32, 32)), random.integers(-4, 5, (8, 8, 3, 3))
    windows = np.lib.stride_tricks.sliding_window_view(image, (8, 3, 3))[0]
    expected = {"matmul": left @ right, "3x3 convolution": np.einsum("hwcij,ocij->ohw", windows, kernel)}

    a, b, x, k = (place(array.astype(np.float32)) for array in (left, right, image[None], kernel))
    found = {"matmul": a @ b, "3x3 convolution": torch.nn.functional.conv2d(x, k)[0]}

    name = f"computes {device}"
    elsewhere = {str(t.device) for t in (a, b, x, k, *found.values()) if not _same(t.device, wanted)}
    if elsewhere:
        fix = f"see why torch cannot use it: python -c \"import torch; print(torch.ones(1, device='{wanted}').device)\""
        return Check(name, FAIL, f"{device} was requested, but tensors are on {', '.join(sorted(elsewhere))}", fix)
    wrong = [task for task in found if not np.array_equal(np.rint(found[task].cpu().numpy()), expected[task])]
    if wrong:
        fix = f"do not measure on it: update torch and the driver, or leave it out with --devices ({device} is wrong)"
        return Check(name, FAIL, f"wrong result of {' and '.join(wrong)}", fix)
    model = kind.name(wanted.index or 0)
    return Check(name, OK, f"{model}: matmul and 3x3 convolution are right, all tensors on {wanted}")


@dataclass(frozen=True)
class Chain:
    """One chain of work on a device: seconds until it was queued, until sync returned, until its result was here."""

    queued_s: float
    synced_s: float
    arrived_s: float
    result: float


def sync_waits(device: str) -> Check:
    """Check that the clock of a repetition, which stops after sync, stops only when the device has finished."""
    import torch

    kind = accelerators.of(device)
    on, side = kind.torch_name(device), CPU_SIDE if kind.is_host else SIDE
    share = torch.full((side, side), 1 / side, device=on)
    ones = torch.ones(side, side, device=on)

    def queue(n: int) -> torch.Tensor:
        value = ones
        for _ in range(n):
            value = share @ value  # the mean of ones: 1, exactly
        return value

    sync = kind.synchronizer(device)
    return judge(device, chain(queue, sync, lambda value: float(value[0, 0])))


def chain(
    queue: Callable[[int], Any],
    sync: Callable[[], None],
    read: Callable[[Any], float],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Chain:
    """Queue links for about CHAIN_S and note when they were queued, synced, and really done.

    Only a result that has been read proves that the device is done, so sync is not relied on anywhere here.
    """
    read(queue(N_TRIAL))  # the first call loads and tunes libraries
    begin_ns = clock_ns()
    read(queue(N_TRIAL))
    each_s = (clock_ns() - begin_ns) / 1e9 / N_TRIAL
    n = min(max(round(CHAIN_S / each_s), N_TRIAL), N_MAX) if each_s > 0 else N_MAX

    begin_ns = clock_ns()
    last = queue(n)
    queued_ns = clock_ns()
    sync()
    synced_ns = clock_ns()
    result = read(last)
    arrived_ns = clock_ns()
    queued_s, synced_s, arrived_s = ((at_ns - begin_ns) / 1e9 for at_ns in (queued_ns, synced_ns, arrived_ns))
    return Chain(queued_s, synced_s, arrived_s, result)


def judge(device: str, seen: Chain) -> Check:
    """Judge whether sync waited for the device, and whether there was work to wait for."""
    kind = accelerators.of(device)
    name, ratio = f"sync {device}", seen.synced_s / max(seen.queued_s, 1e-9)
    evidence = (
        f"queued in {1e3 * seen.queued_s:.1f} ms, synced after {1e3 * seen.synced_s:.1f} ms (ratio {ratio:.3g}), "
        f"result here after {1e3 * seen.arrived_s:.1f} ms"
    )
    if seen.result != 1:
        return Check(name, FAIL, f"the chain of matmuls gave {seen.result:g} instead of 1; {evidence}", "update torch")
    if seen.synced_s < WAITED_SHARE * seen.arrived_s:
        fix = f"do not measure on {device}: its times are too short. Update torch, and report this"
        return Check(name, FAIL, f"the clock stops before the device does: {evidence}", fix)
    if kind.is_host:
        if ratio <= CPU_RATIO:
            return Check(name, OK, f"synchronous: {evidence}")
        return Check(name, WARN, f"too busy to be timed: {evidence}", "close what else runs, and try again")
    if ratio < QUEUED_RATIO:
        unset = f"unset {kind.blocking_setting}, if it is set; else " if kind.blocking_setting else ""
        fix = f"{unset}close what else uses the device, and try again"
        return Check(name, FAIL, f"every launch waits for the device, which makes it slower: {evidence}", fix)
    return Check(name, OK, f"the clock waits for the device: {evidence}")


def _same(seen: Any, wanted: Any) -> bool:
    return seen.type == wanted.type and (seen.index or 0) == (wanted.index or 0)
