"""Shared pieces: a made-up sample, a store of such samples, and the real stand-in weights."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from harness import images, schema, store
from harness.engines import registry
from harness.engines.base import STOCK
from harness.images import synthetic
from harness.machine.accelerators import Device
from harness.measure.wire import Order
from harness.plan.cases import Block, Case, Effort, Task
from harness.query import Session
from harness.schema import identity
from tests import rng

REPOSITORY = Path(__file__).parent.parent
SEED_DATA = REPOSITORY.parent / "shared" / "seed-data"
SEED_IMAGE = SEED_DATA / "cell_00505.tif"
needs_seed_data = pytest.mark.skipif(
    not SEED_IMAGE.is_file(), reason="the article's image is not part of the project and is not beside it here"
)
RUN_ID = "20260102T030405Z-abc123"
CPU_DEVICE = Device("cpu", 0, "Some CPU")
TWICE = Effort(warmups=1, warmups_max=0, repeats=2, repeats_max=50, precision=None, seconds_max=300)


def make_sample(**columns: object) -> schema.Sample:
    """A good timed repetition of a simulated workload; any column can be overridden."""
    return schema.sample(**_defaults(columns) | columns)


def raw_sample(**columns: object) -> schema.Sample:
    """The same for a row that no version of this program would write."""
    row = _defaults(columns) | columns
    return row | {"case_id": identity.key(row, identity.CASE), "series_key": identity.key(row, identity.SERIES)}


def raw_store(root: Path, samples: list[schema.Sample]) -> store.Store:
    """A store of such rows, written past everything that checks them."""
    made = store.Store.make(root)
    for run_id in sorted({sample["run_id"] for sample in samples}):
        folder = root / "samples" / f"month={run_id[:4]}-{run_id[4:6]}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [sample for sample in samples if sample["run_id"] == run_id]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.BARE), folder / f"{run_id}-raw.parquet")
    return made


def _defaults(columns: dict[str, object]) -> dict[str, Any]:
    sample = {
        "schema_version": schema.VERSION, "run_id": RUN_ID, "source": "measured", "profile": "quick",
        "started_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=columns.get("repetition", 0)),
        "role": "timed", "phase": "call", "block": 0, "position": 0, "repetition": 0, "elapsed_s": 1.0,
        "status": "ok", "flags": "", "sync": "none", "dispatch": "process",
        "workload": "simulated", "protocol": "standard", "protocol_version": 1, "variant": "stock",
        "result_variant": "stock", "engine": "simulated", "engine_version": "1", "model": "cyto3", "dtype": "float32",
        "weights": "standin", "weights_sha256": "0" * 64, "image": "sparse", "image_sha256": "1" * 64,
        "image_is_synthetic": True, "crop": "224", "height_px": 224, "width_px": 224, "batch_size": 8,
        "diameter_asked_px": 0.0, "n_cells": 3, "diameter_px": 68.0, "mask_sha256": "2" * 64, "node": "desk",
        "backend": "cpu", "device": "cpu", "device_used": "cpu", "device_name": "Some CPU", "cpu_model": "Some CPU",
        "n_cores": 8, "torch_version": "2.13.0", "cellpose_version": "3.1.1.3", "torch_threads": 8,
    }  # fmt: skip
    if columns.get("role", "timed") == "timed":
        sample["stop_reason"] = "fixed_n"
    return sample


def make_store(root: Path, samples: list[schema.Sample]) -> store.Store:
    """A real store that holds these samples, one run at a time."""
    made = store.Store.make(root)
    for run_id in sorted({sample["run_id"] for sample in samples}):
        with made.journal(run_id) as journal:
            journal.append([sample for sample in samples if sample["run_id"] == run_id])
    return made


CPU: dict[str, Any] = {
    "node": "desktop", "backend": "cpu", "device": "cpu", "device_name": "Intel(R) i7-8086K CPU @ 4.00GHz",
    "torch_threads": 6, "seconds": {"224": 1.0, "full": 64.0},
}  # fmt: skip
CUDA = {**CPU, "backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA RTX 4070",
        "seconds": {"224": 0.5, "full": 8.0}}  # fmt: skip
HOSTILE = {**CPU, "node": "</script><b><script>alert(1)</script>\"'", "device_name": "{{ 7 * 7 }} <img src=x> ${a}"}


def simulated(folder: Path, machines: list[dict[str, Any]]) -> Session:
    """A session over one run with five repetitions per crop on each machine."""
    return Session(make_store(folder, [sample for machine in machines for sample in _repetitions(**machine)]))


def _repetitions(
    seconds: dict[str, float], repeats: int = 5, failed: bool = False, **columns: Any
) -> list[schema.Sample]:
    """Repetitions that spread by 2 % around seconds[crop], or that all failed."""
    error = {"status": "oom_device", "error_type": "OutOfMemoryError", "error_message": "CUDA out of memory <b>"}
    sizes = {"224": (224, 224), "full": (2160, 2560)}
    return [
        make_sample(
            crop=crop,
            height_px=sizes[crop][0],
            width_px=sizes[crop][1],
            repetition=i,
            **({"elapsed_s": None, **error} if failed else {"elapsed_s": elapsed_s * (1 + (i - repeats // 2) / 50)}),
            **columns,
        )
        for crop, elapsed_s in seconds.items()
        for i in range(repeats)
    ]


@pytest.fixture(autouse=True)
def _same_noise() -> None:
    """Each test draws the same numbers, whichever tests its process ran before."""
    rng.RNG.bit_generator.state = rng.START


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders; pytest's own way to find one looks at all that there are."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(i) for i in count())


@pytest.fixture(autouse=True)
def _offline_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own model folder, or asks the internet for weights."""
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("CELLPOSE_LOCAL_MODELS_PATH", raising=False)
    monkeypatch.setenv("CELLBENCH_WEIGHTS_URL", "http://127.0.0.1:9")
    assert Path(os.environ["HOME"]).is_dir()


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Starts a service that says something to whoever connects, as a head of Ray if not given; returns its port."""
    servers, peers, threads = [], [], []

    def start(output: bytes = b"\0\0\0\4\0\0\0\0\0", hangs_up: bool = False) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    peers.append(peer)
                    with suppress(OSError):
                        peer.sendall(output)
                        if hangs_up:
                            peer.shutdown(socket.SHUT_RDWR)

        threads.append(threading.Thread(target=answer, daemon=True))
        threads[-1].start()
        return server.getsockname()[1]

    yield start
    for each in servers:
        each.shutdown(socket.SHUT_RDWR)  # whoever accepts is woken
    for each in threads:
        each.join()  # so that no connection comes after those that are closed
    for each in (*servers, *peers):
        each.close()


def case(side_px: int, protocol: str = "standard", variant: str = STOCK, model: str = "cyto3") -> Case:
    return Case(str(side_px), side_px, side_px, protocol, variant, model)


def sleep(side_px: int, protocol: str = "standard", variant: str = STOCK) -> Case:
    """A case of the simulated engine."""
    return case(side_px, protocol, variant, "sleep")


@pytest.fixture(scope="session")
def order(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Order]:
    """Makes orders over one small image, for the engine of the cases; what is not given stays simple."""
    image = synthetic.sparse(height_px=192, width_px=160, n_cells=4).image
    pixels_file = tmp_path_factory.mktemp("image") / "image.npy"
    np.save(pixels_file, image)

    def make(*todo: Case | Task, device: Device = CPU_DEVICE, effort: Effort = TWICE, **changes: object) -> Order:
        planned = tuple(Task("timed", each, i) if isinstance(each, Case) else each for i, each in enumerate(todo))
        fields = {
            "block": Block(0, device, planned, effort, engine=registry.engine_of(planned[0].case.model).name),
            "pixels_file": str(pixels_file),
            "pixels_sha256": images.hash_pixels(image),
            "folder": "",
            "constants": {
                "schema_version": schema.VERSION,
                "source": "measured",
                "run_id": RUN_ID,
                "weights": "standin",
            },
        }
        return Order(**(fields | changes))

    return make
