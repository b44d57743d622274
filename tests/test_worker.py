"""A block, first with a simulated workload in this process, then with the real one in its own."""

import os
import signal
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness import images, probe, schema, synthetic, weights, worker, workload
from harness.errors import DeviceFallbackError
from harness.plan import Block, Case, Device
from harness.worker import Order
from tests.conftest import RUN_ID

CPU = Device("cpu", 0, "Some CPU")


def case(side_px: int, protocol: str = "standard") -> Case:
    return Case(str(side_px), side_px, side_px, protocol)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Order]:
    """Makes orders over one small image; what is not given stays simple."""
    image = synthetic.sparse(height_px=192, width_px=160, n_cells=4).image
    pixels_file = tmp_path_factory.mktemp("image") / "image.npy"
    np.save(pixels_file, image)

    def make(*cases: Case, device: Device = CPU, warmups: int = 1, repeats: int = 2, **changes: object) -> Order:
        fields = {
            "block": Block(0, device, cases, warmups, repeats),
            "pixels_file": str(pixels_file),
            "pixels_sha256": images.hash_pixels(image),
            "weights_folder": "",
            "threads": 1,
            "constants": {"run_id": RUN_ID, "workload": "simulated", "weights": "standin"},
        }
        return Order(**(fields | changes))

    return make


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Replaces everything of the workload that needs torch; `broken` makes sides or steps raise."""
    control = types.SimpleNamespace(broken={}, loads=0, used="cpu", threads=None)

    def load(_device: str) -> str:
        control.loads += 1
        return "model"

    def segment(_model: str, pixels: np.ndarray) -> workload.Segmentation:
        if len(pixels) in control.broken:
            raise control.broken[len(pixels)]
        return workload.Segmentation(np.arange(4).reshape(2, 2), 30.0)

    def prove(_model: str, device: str, _seen: object = ()) -> str:
        if control.used != device:
            raise DeviceFallbackError(f"asked for {device}, but the network ran on {control.used}")
        return control.used

    class Witness:
        seen = ()

        def __init__(self, _model: str) -> None: ...
        def __enter__(self) -> "Witness":
            return self

        def __exit__(self, *_: object) -> None: ...

    def set_threads(n: int) -> dict[str, int]:
        control.threads = n
        return {"torch_threads": n}

    for name, fake in {
        "import_cellpose": lambda: None,
        "set_threads": set_threads,
        "load": load,
        "segment": segment,
        "prove_device": prove,
        "OutputWitness": Witness,
        "synchroniser": lambda _: ("none", lambda: None),
        "diam_labels_px": lambda _: 30.0,
        "failure": lambda error: "device_fallback" if isinstance(error, DeviceFallbackError) else "crash",
    }.items():
        monkeypatch.setattr(workload, name, fake)
    return control


def story(samples: list[schema.Sample]) -> list[tuple[object, ...]]:
    return [(s["role"], s["phase"], s.get("crop"), s["repetition"], s["status"]) for s in samples]


def test_cold_warm_up_and_timed_repetitions_are_all_kept(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    done = list(worker.block_samples(order(case(64), case(32))))
    assert story([sample for sample, _ in done]) == [
        ("cold", "import", None, 0, "ok"),
        ("cold", "device_start", None, 0, "ok"),
        ("cold", "model_load", None, 0, "ok"),
        ("cold", "call", "32", 0, "ok"),
        ("warmup", "call", "64", 0, "ok"),
        ("timed", "call", "64", 0, "ok"),
        ("timed", "call", "64", 1, "ok"),
        ("warmup", "call", "32", 0, "ok"),
        ("timed", "call", "32", 0, "ok"),
        ("timed", "call", "32", 1, "ok"),
    ]
    assert [n for _, n in done] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    last = done[-1][0]
    assert (last["n_cells"], last["diameter_px"], len(last["mask_sha256"])) == (3, 30.0, 64)
    assert (last["device_used"], last["torch_threads"], simulated.threads) == ("cpu", 1, 1)
    schema.table([worker._from_wire(sample) for sample, _ in done])


def test_the_article_protocol_constructs_the_model_inside(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    list(worker.block_samples(order(case(32), repeats=3)))
    assert simulated.loads == 1
    list(worker.block_samples(order(case(32, "article"), repeats=3)))
    assert simulated.loads == 1 + 1 + 1 + 3


def test_a_failing_case_is_one_row_and_the_others_go_on(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    simulated.broken[64] = ValueError("too hard")
    done = list(worker.block_samples(order(case(64), case(32), case(48))))
    assert [(s["crop"], s["status"], s["error_message"]) for s, _ in done if s["status"] != "ok"] == [
        ("64", "crash", "too hard")
    ]
    assert sum(s["role"] == "timed" and s["status"] == "ok" for s, _ in done) == 4
    assert sum(n for _, n in done) == 3


def test_a_device_that_lies_is_a_failure_never_a_time(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    simulated.used = "cpu"
    done = list(worker.block_samples(order(case(64), case(32), device=Device("cuda", 0, "G"))))
    assert {s["status"] for s, _ in done if s["phase"] == "call"} == {"device_fallback"}
    assert all(s.get("elapsed_s") is None for s, _ in done if s["phase"] == "call")
    assert sum(n for _, n in done) == 2


def test_an_image_that_changed_is_not_measured(simulated: types.SimpleNamespace, order: Callable[..., Order]) -> None:
    done = list(worker.block_samples(order(case(32), pixels_sha256="0" * 64)))
    [failed] = [s for s, _ in done if s["status"] != "ok"]
    assert "changed" in failed["error_message"]


def test_cases_are_told_apart_and_versions_do_not_split_a_series(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    samples = [
        s for s, _ in worker.block_samples(order(case(32), case(32, "article"), case(48))) if s["role"] == "timed"
    ]
    assert len({s["case_id"] for s in samples}) == len({s["series_key"] for s in samples}) == 3
    assert schema.digest(samples[0] | {"torch_version": "9"}, schema.SERIES) == samples[0]["series_key"]
    assert schema.digest(samples[0] | {"device_name": "other"}, schema.SERIES) != samples[0]["series_key"]


@pytest.mark.parametrize("setting", ["1", None])
def test_threads_are_ours_whatever_ray_exports(
    monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order], setting: str | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting) if setting else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    env = worker.environment(order(case(32), threads=6))
    assert {env[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")} == {"6"}


# ------------------------------------------------------------------ the real cellpose, in its own process


@pytest.fixture(scope="module")
def real(order: Callable[..., Order]) -> Order:
    found = weights.resolve("standin")
    constants = {"run_id": RUN_ID, "workload": "cellpose", "weights": found.kind, "weights_sha256": found.net_sha256}
    threads = probe.n_cores()
    return order(case(96), case(128, "article"), weights_folder=found.folder, threads=threads, constants=constants)


@pytest.mark.slow
def test_real_block(real: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray exports it
    samples = list(worker.perform(real))
    assert {s["status"] for s in samples} == {"ok"}
    assert sum(s["role"] == "timed" for s in samples) == 4
    for sample in samples[1:]:
        assert sample["torch_threads"] == real.threads == sample["opencv_threads"]
        assert sample["openmp_threads"] == str(real.threads)
    timed = [s for s in samples if s["role"] == "timed"]
    assert {s["device_used"] for s in timed} == {"cpu"}
    assert {s["diam_labels_px"] for s in timed} == {30.0}
    for crop in ("96", "128"):
        assert len({s["mask_sha256"] for s in timed if s["crop"] == crop}) == 1
    schema.table(samples)


@pytest.mark.slow
def test_a_killed_process_is_a_row_and_the_others_go_on(real: Order) -> None:
    samples = []
    running = worker.perform(real)
    for sample in running:
        samples.append(sample)
        if sample["phase"] == "model_load" and len(samples) < 5:
            os.kill(_only_child(), signal.SIGKILL)
    dead, good = samples[3], [s for s in samples if s["role"] == "timed" and s["status"] == "ok"]
    assert (dead["status"], dead["error_type"], dead["crop"]) == ("crash", "SIGKILL", "96")
    assert {s["crop"] for s in good} == {"128"}
    assert len(good) == 2
    schema.table(samples)


@pytest.mark.slow
def test_an_abandoned_block_leaves_no_process(real: Order) -> None:
    running = worker.perform(real)
    next(running)
    child = _only_child()
    running.close()
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.slow
def test_this_machine_has_at_least_its_cpu() -> None:
    assert worker.devices()[-1] == {"backend": "cpu", "index": 0, "name": probe.cpu_model()}


def _only_child() -> int:
    import psutil

    [child] = [c for c in psutil.Process().children() if "harness.worker" in " ".join(c.cmdline())]
    return child.pid
