"""The memory pass: peak memory of one call, apart from the times, which a thread that samples every 5 ms disturbs."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from harness.machine.accelerators import Accelerator
from harness.measure import rows, timing
from harness.measure.block import Bench
from harness.plan.cases import Task
from harness.schema import Sample

T = TypeVar("T")

COLUMNS = (
    "peak_rss_bytes", "rss_method", "cuda_allocated_bytes", "cuda_reserved_bytes", "mps_current_bytes",
    "mps_driver_bytes",
)  # fmt: skip
INTERVAL_S = 0.005
PROC = Path("/proc/self")
RESET_PEAK = "5"  # the value of clear_refs that resets VmHWM to the memory resident now (proc_pid_clear_refs(5))
# Reset, a peak differs from VmRSS only by what other threads did since and by the kernel's own batching of counters.
RESET_SLACK_BYTES = 64 * 2**20


def run(bench: Bench, row: Sample, task: Task) -> Iterator[Sample]:
    """Measure one call with its peaks."""
    work = bench.call(task.case)
    done, peaks = peak_memory(
        lambda: timing.once("memory", work, bench.sync, bench.watch.begin), bench.accelerator, bench.device
    )
    yield rows.good(row | peaks, done, "call")


def peak_memory(
    call: Callable[[], T], accelerator: Accelerator, device: str, proc: Path = PROC
) -> tuple[T, dict[str, Any]]:
    """Call once and return the outcome with the memory columns: peaks in bytes, null where not applicable.

    The host's peak is that of the whole process, with libraries and memory kept from earlier calls. A sampled peak is a
    lower bound: it misses memory that is freed within 5 ms, or while a library holds the interpreter's lock.
    """
    _start_afresh(accelerator, device)
    readings = dict(accelerator.readings(device))
    kernel_keeps_peak = _reset_peak(proc)
    if not kernel_keeps_peak:
        process = psutil.Process()
        readings["peak_rss_bytes"] = lambda: process.memory_info().rss
    outcome, peaks = _with_peaks(call, readings)
    if kernel_keeps_peak:
        peaks["peak_rss_bytes"] = _status_bytes(proc, "VmHWM")
    method = "VmHWM" if kernel_keeps_peak else "sampled 5 ms"
    return outcome, {**dict.fromkeys(COLUMNS), **peaks, **accelerator.peaks(device), "rss_method": method}


def _start_afresh(accelerator: Accelerator, device: str) -> None:
    """Release memory of earlier calls, or the allocators would carry a larger crop's peak into this one."""
    gc.collect()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    accelerator.empty_cache(device)
    accelerator.reset_peak(device)


def _reset_peak(proc: Path) -> bool:
    """Reset the kernel's own peak of this process; False where that is impossible or failed."""
    try:
        (proc / "clear_refs").write_text(RESET_PEAK)
        return _status_bytes(proc, "VmHWM") - _status_bytes(proc, "VmRSS") <= RESET_SLACK_BYTES
    except (OSError, KeyError):  # no Linux, or a container that does not allow it or does not report it
        return False


def _status_bytes(proc: Path, key: str) -> int:
    """One of the sizes in /proc/self/status, written there as '1704 kB' of 1024 bytes."""
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
    return int(status[key].split()[0]) * 1024


def _with_peaks(call: Callable[[], T], readings: dict[str, Callable[[], int]]) -> tuple[T, dict[str, int]]:
    """Call while a thread keeps the highest value of each reading; without readings there is no thread."""
    if not readings:
        return call(), {}
    over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        peaks = thread.submit(_highest, readings, over)
        try:
            outcome = call()
        finally:
            over.set()
        return outcome, peaks.result()


def _highest(readings: dict[str, Callable[[], int]], over: threading.Event) -> dict[str, int]:
    """The highest value of each reading until it is over, the last reading included."""
    peaks = dict.fromkeys(readings, 0)
    while True:
        last = over.wait(INTERVAL_S)
        peaks = {name: max(peaks[name], read()) for name, read in readings.items()}
        if last:
            return peaks
