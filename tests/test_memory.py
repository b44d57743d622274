"""Peaks of known size: fake kernels and devices, then this machine's own."""

import json
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness import schema
from harness.engines.cellpose3 import weights
from harness.machine.accelerators import ACCELERATORS, Accelerator
from harness.measure.passes import memory

CPU = ACCELERATORS["cpu"]
MIB = 2**20
NOWHERE = Path("/nonexistent/proc")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own peak is Linux's")


class Kernel:
    """A fake /proc/self, whose peak is what is resident once it has been reset, unless it ignores that."""

    def __init__(self, folder: Path, peak_kib: int, resident_kib: int) -> None:
        self.folder = folder
        (folder / "clear_refs").touch()
        self.say(peak_kib, resident_kib)

    def say(self, peak_kib: int, resident_kib: int) -> None:
        lines = (
            f"Name:\tpython\nVmPeak:\t 9999999 kB\nVmHWM:\t{peak_kib:8} kB\nVmRSS:\t{resident_kib:8} kB\nThreads:\t3\n"
        )
        (self.folder / "status").write_text(lines)


def test_the_kernels_own_peak_is_reset_and_read(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, 2000, 2000)
    outcome, columns = memory.peak_memory(lambda: kernel.say(9000, 3000) or "masks", CPU, "cpu", tmp_path)
    assert outcome == "masks"
    assert (tmp_path / "clear_refs").read_text() == "5"
    assert columns == {
        "peak_rss_bytes": 9000 * 1024, "rss_method": "VmHWM", "cuda_allocated_bytes": None,
        "cuda_reserved_bytes": None, "mps_current_bytes": None, "mps_driver_bytes": None,
    }  # fmt: skip


def test_a_peak_that_was_not_reset_is_not_believed(tmp_path: Path) -> None:
    Kernel(tmp_path, 9_000_000, 2000)
    _, columns = memory.peak_memory(lambda: None, CPU, "cpu", tmp_path)
    assert columns["rss_method"] == "sampled 5 ms"
    assert 10 * MIB < columns["peak_rss_bytes"] < 9_000_000 * 1024


def test_a_kernel_that_does_not_allow_it_is_sampled(tmp_path: Path) -> None:
    Kernel(tmp_path, 2000, 2000)
    (tmp_path / "clear_refs").unlink()
    (tmp_path / "clear_refs").mkdir()  # cannot be written by anybody, root included
    assert memory.peak_memory(lambda: None, CPU, "cpu", tmp_path)[1]["rss_method"] == "sampled 5 ms"


def test_a_kernel_that_does_not_tell_is_sampled(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert memory.peak_memory(lambda: None, CPU, "cpu", tmp_path)[1]["rss_method"] == "sampled 5 ms"


def test_the_columns_are_those_of_the_schema() -> None:
    assert set(memory.COLUMNS) <= set(schema.ARROW.names)
    assert set(memory.peak_memory(lambda: None, CPU, "cpu")[1]) == set(memory.COLUMNS)


def test_what_the_call_raises_comes_out_and_the_thread_ends() -> None:
    def fail() -> None:
        raise MemoryError("too much")

    n_threads = threading.active_count()
    with pytest.raises(MemoryError, match="too much"):
        memory.peak_memory(fail, CPU, "cpu", NOWHERE)
    assert threading.active_count() == n_threads


def test_what_a_reading_raises_comes_out() -> None:
    def broken() -> int:
        raise RuntimeError("no such counter")

    with pytest.raises(RuntimeError, match="no such counter"):
        memory._with_peaks(lambda: None, {"peak_rss_bytes": broken})


def hold(n_bytes: int) -> int:
    """Touch a buffer of so many bytes, hold it for some looks of the sampler and let it go."""
    buffer = np.ones(n_bytes, np.uint8)
    time.sleep(0.05)
    return len(buffer)


def test_a_sampled_peak_has_seen_the_buffer() -> None:
    _, calm = memory.peak_memory(lambda: None, CPU, "cpu", NOWHERE)
    _, high = memory.peak_memory(lambda: hold(128 * MIB), CPU, "cpu", NOWHERE)
    assert high["peak_rss_bytes"] - calm["peak_rss_bytes"] == pytest.approx(128 * MIB, rel=0.1)


@linux
def test_this_kernels_peak_has_seen_the_buffer_and_forgets_earlier_ones() -> None:
    _, calm = memory.peak_memory(lambda: None, CPU, "cpu")
    if calm["rss_method"] != "VmHWM":
        pytest.skip("this machine does not let a process reset its peak")
    _, high = memory.peak_memory(lambda: np.ones(128 * MIB, np.uint8).sum(), CPU, "cpu")
    _, after = memory.peak_memory(lambda: None, CPU, "cpu")
    assert high["peak_rss_bytes"] - calm["peak_rss_bytes"] == pytest.approx(128 * MIB, rel=0.1)
    assert after["peak_rss_bytes"] == pytest.approx(calm["peak_rss_bytes"], abs=16 * MIB)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries cannot be told to give back")
def test_small_blocks_that_earlier_calls_freed_are_given_back() -> None:
    _, calm = memory.peak_memory(lambda: None, CPU, "cpu")
    blocks = [b"x" * 65536 for _ in range(2048)]
    pin = blocks.pop()  # the last block keeps the heap from shrinking by itself
    del blocks
    _, after = memory.peak_memory(lambda: None, CPU, "cpu")
    assert after["peak_rss_bytes"] == pytest.approx(calm["peak_rss_bytes"], abs=16 * MIB)
    assert len(pin) == 65536


# ------------------------------------------------------------------ accelerators, made up


class Allocator(Accelerator):
    """A device whose cache grows and whose peaks only a reset lowers."""

    def __init__(self) -> None:
        self.allocated = self.peak = 100
        self.reserved = self.reserved_peak = 900

    def empty_cache(self, device: str) -> None:
        self.reserved = self.allocated

    def reset_peak(self, device: str) -> None:
        self.peak, self.reserved_peak = self.allocated, self.reserved

    def peaks(self, device: str) -> dict[str, int]:
        return {"cuda_allocated_bytes": self.peak, "cuda_reserved_bytes": self.reserved_peak}

    def use(self, n_bytes: int) -> None:
        self.peak = max(self.peak, self.allocated + n_bytes)
        self.reserved = max(self.reserved, 2 * (self.allocated + n_bytes))
        self.reserved_peak = max(self.reserved_peak, self.reserved)


def test_a_devices_peaks_are_this_calls() -> None:
    device = Allocator()
    _, large = memory.peak_memory(lambda: device.use(400), device, "cuda:1")
    _, small = memory.peak_memory(lambda: device.use(20), device, "cuda:1")
    assert (large["cuda_allocated_bytes"], large["cuda_reserved_bytes"]) == (500, 1000)
    assert (small["cuda_allocated_bytes"], small["cuda_reserved_bytes"]) == (120, 240)
    assert small["peak_rss_bytes"] > 10 * MIB
    assert small["mps_current_bytes"] is small["mps_driver_bytes"] is None


class Sampled(Accelerator):
    """A device that keeps no peak; it tells when its memory has been read."""

    def __init__(self) -> None:
        self.now, self.looks = 10, threading.Semaphore(0)

    def readings(self, device: str) -> dict[str, Callable[[], int]]:
        return {"mps_driver_bytes": lambda: 3 * self.now, "mps_current_bytes": self.read}

    def read(self) -> int:
        self.looks.release()
        return self.now

    def rise_and_fall(self) -> None:
        for self.now in (70, 20):
            for _ in range(3):  # the first look may have begun before, and the second before the first was over
                assert self.looks.acquire(timeout=10)


def test_a_device_without_peaks_is_looked_at_while_it_works() -> None:
    device = Sampled()
    _, columns = memory.peak_memory(device.rise_and_fall, device, "mps", NOWHERE)
    assert (columns["mps_current_bytes"], columns["mps_driver_bytes"]) == (70, 210)
    assert columns["rss_method"] == "sampled 5 ms"
    assert columns["cuda_allocated_bytes"] is columns["cuda_reserved_bytes"] is None


# ------------------------------------------------------------------ the real cellpose

PEAKS = """
import json
import numpy as np
from harness.engines.cellpose3.engine import ENGINE
from harness.engines.cellpose3.model import Cellpose3Model
from harness.images import synthetic
from harness.machine.accelerators import ACCELERATORS
from harness.measure.passes import memory

ENGINE.start()
model = Cellpose3Model("cyto3", "cpu")
pixels = synthetic.sparse(height_px=192, width_px=160, n_cells=4).image

def segment():
    return model.segment(pixels)

def with_buffer():
    buffer = np.ones(512 * 2**20, np.uint8)
    return segment(), buffer

segment()
print(json.dumps([memory.peak_memory(call, ACCELERATORS["cpu"], "cpu")[1] for call in (segment, with_buffer, segment)]))
"""


@pytest.mark.slow
def test_the_peak_of_a_real_call_has_its_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", weights.resolve("standin").folder)
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, high, after = (row["peak_rss_bytes"] for row in json.loads(done.stdout.splitlines()[-1]))
    assert high >= 512 * MIB
    assert high - before == pytest.approx(512 * MIB, rel=0.2)
    assert after == pytest.approx(before, rel=0.2)
