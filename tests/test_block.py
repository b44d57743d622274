"""What a block measures, with a simulated workload in this very process."""

import json
import types
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from harness.measure.stages import Ceiling, Part

from harness import schema
from harness.errors import DeviceFallbackError
from harness.images import synthetic
from harness.machine import interference
from harness.machine.accelerators import Device
from harness.measure import agreement, block, energy, parent, stages, workload
from harness.measure.block import Finished
from harness.measure.wire import Order
from harness.plan import CONTROL, N_ROWS
from harness.plan.cases import Task
from tests.conftest import TWICE, case

NOTHING_SEEN = {"flags": "", "foreign_cpu_share": 0.0}


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Replaces everything of the workload that needs torch; `broken` makes sides raise."""
    control = types.SimpleNamespace(
        broken={}, loads=0, used="cpu", threads=None, waited_s=None, waits=[], not_idle_s=0.0, masks=np.arange(4)
    )

    def load(_device: str) -> str:
        control.loads += 1
        return "model"

    def segment(_model: str, pixels: np.ndarray, diameter_px: float = 0.0) -> workload.Segmentation:
        if len(pixels) in control.broken:
            raise control.broken[len(pixels)]
        return workload.Segmentation(control.masks.reshape(2, 2), diameter_px or 30.0)

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

    def wait(limit_s: float, gpu: object = None) -> float:
        control.waited_s, control.waits = limit_s, [*control.waits, (limit_s, gpu)]
        return control.not_idle_s

    for name, fake in {
        "import_cellpose": lambda: None,
        "set_threads": set_threads,
        "load": load,
        "segment": segment,
        "prove_device": prove,
        "OutputWitness": Witness,
        "synchroniser": lambda _: ("none", lambda: None),
        "diam_labels_px": lambda _: 30.0,
        "gpu_uuid": lambda _: None,
        "environment": lambda _: {"torch_version": "2.13.0"},
        "failure": lambda error: "device_fallback" if isinstance(error, DeviceFallbackError) else "crash",
    }.items():
        monkeypatch.setattr(workload, name, fake)
    monkeypatch.setattr(interference, "wait_for_idle", wait)
    monkeypatch.setattr(
        interference, "Watch", lambda _gpu: types.SimpleNamespace(begin=lambda: lambda: dict(NOTHING_SEEN))
    )
    return control


def measured(order: Order) -> list[schema.Sample]:
    return [sample for sample in block.samples(order) if not isinstance(sample, Finished)]


def story(samples: list[schema.Sample]) -> list[tuple[object, ...]]:
    return [(s["role"], s["phase"], s.get("crop"), s["repetition"], s["status"]) for s in samples]


def test_cold_warm_up_and_timed_repetitions_are_all_kept(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    done = list(block.samples(order(case(64), case(32))))
    samples = [sample for sample in done if not isinstance(sample, Finished)]
    assert story(samples) == [
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
    assert [i for i, sample in enumerate(done) if isinstance(sample, Finished)] == [7, 11]
    last = samples[-1]
    assert (last["n_cells"], last["diameter_px"], len(last["mask_sha256"])) == (3, 30.0, 64)
    assert (last["device_used"], last["torch_threads"], simulated.threads) == ("cpu", 1, 1)
    assert [s["stop_reason"] for s in samples if s["role"] == "timed"] == [None, "fixed_n"] * 2
    schema.table([parent.from_wire(sample) for sample in samples])


def test_what_else_went_on_stands_beside_each_repetition(order: Callable[..., Order]) -> None:
    seen = {(s["role"], s.get("flags")) for s in measured(order(case(32)))}
    assert {("timed", ""), ("warmup", "")} <= seen


def test_the_environment_goes_with_the_block_once(order: Callable[..., Order]) -> None:
    constants = order(case(32)).constants | {"weights_sha256": "7" * 64}
    samples = measured(order(case(32), constants=constants))
    [written] = [s["environment"] for s in samples if s.get("environment")]
    known = json.loads(written)
    assert (known["torch_version"], known["weights_sha256"]) == ("2.13.0", "7" * 64)
    assert known["cpu_physical_cores"] >= 1


def test_a_block_waits_for_the_machine_as_long_as_it_is_told(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    plain = order(case(32))
    samples = measured(replace(plain, block=replace(plain.block, idle_wait_s=7.0)))
    assert simulated.waited_s == 7.0
    assert {s["idle_wait_s"] for s in samples} == {0.0}


def test_a_hot_gpu_gets_what_is_left_of_the_wait(
    simulated: types.SimpleNamespace, order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = types.SimpleNamespace(facts=dict, live=dict)
    monkeypatch.setattr(block, "open_gpu", lambda _device: gpu)
    simulated.not_idle_s = 2.0
    plain = order(case(32))
    samples = measured(replace(plain, block=replace(plain.block, idle_wait_s=7.0)))
    assert simulated.waits == [(7.0, None), (5.0, gpu)]
    assert {s["idle_wait_s"] for s in samples if s["role"] == "timed"} == {4.0}


def test_the_article_protocol_constructs_the_model_inside(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    thrice = replace(TWICE, repeats=3)
    measured(order(case(32), effort=thrice))
    assert simulated.loads == 1
    measured(order(case(32, "article"), effort=thrice))
    assert simulated.loads == 1 + 1 + 1 + 1 + 3


def test_precision_decides_where_the_profile_says_so(order: Callable[..., Order]) -> None:
    effort = replace(TWICE, precision=1e-9, repeats=3, repeats_max=6)
    timed = [s for s in measured(order(case(32), effort=effort)) if s["role"] == "timed"]
    assert (len(timed), timed[-1]["stop_reason"]) == (6, "n_max")
    assert timed[0]["precision"] is None
    assert timed[-1]["precision"] > 0


def test_the_control_case_is_the_same_drawn_image_everywhere(order: Callable[..., Order]) -> None:
    todo = (Task("control", CONTROL, -1), Task("timed", case(32), 0), Task("control", CONTROL, 1))
    samples = measured(order(*todo))
    control = [s for s in samples if s["role"] == "control"]
    assert [s["position"] for s in control] == [-1] * 3 + [1] * 3
    assert {(s["image"], s["image_is_synthetic"]) for s in control} == {("control", True)}
    assert len({s["case_id"] for s in control}) == 1
    assert synthetic.control().shape == (224, 224)


def test_a_failing_case_is_one_row_and_the_others_go_on(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    simulated.broken[64] = ValueError("too hard")
    done = list(block.samples(order(case(64), case(32), case(48))))
    samples = [sample for sample in done if not isinstance(sample, Finished)]
    assert [(s["crop"], s["status"], s["error_message"]) for s in samples if s["status"] != "ok"] == [
        ("64", "crash", "too hard")
    ]
    assert sum(s["role"] == "timed" and s["status"] == "ok" for s in samples) == 4
    assert sum(isinstance(sample, Finished) for sample in done) == 3


def test_a_device_that_lies_is_a_failure_never_a_time(
    simulated: types.SimpleNamespace, order: Callable[..., Order]
) -> None:
    simulated.used = "cpu"
    done = measured(order(case(64), case(32), device=Device("cuda", 0, "G")))
    called = [s for s in done if s["phase"] == "call"]
    assert {s["status"] for s in called} == {"device_fallback"}
    assert all(s.get("elapsed_s") is None for s in called)
    assert len(called) == 2


def test_an_image_that_changed_is_not_measured(order: Callable[..., Order]) -> None:
    [failed] = [s for s in measured(order(case(32), pixels_sha256="0" * 64)) if s["status"] != "ok"]
    assert "changed" in failed["error_message"]


def test_cases_are_told_apart_and_versions_do_not_split_a_series(order: Callable[..., Order]) -> None:
    samples = [s for s in measured(order(case(32), case(32, "article"), case(48))) if s["role"] == "timed"]
    assert len({s["case_id"] for s in samples}) == len({s["series_key"] for s in samples}) == 3
    assert schema.digest(samples[0] | {"torch_version": "9"}, schema.SERIES) == samples[0]["series_key"]
    assert schema.digest(samples[0] | {"device_name": "other"}, schema.SERIES) != samples[0]["series_key"]


# ------------------------------------------------------------------ passes


def passes(order: Callable[..., Order], role: str) -> list[schema.Sample]:
    samples = measured(order(Task(role, case(32), 0)))
    schema.table([parent.from_wire(sample) for sample in samples])
    return [s for s in samples if s["role"] == role]


def test_stages_are_rows(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    parts = [Part("style", "network", 0.75, 4, 124.0, 4.2), Part("none", "other", 0.25)]
    monkeypatch.setattr(stages, "measure", lambda call, _sync: (call(), 1.0, parts))
    rows = passes(order, "stages")
    assert [(s["phase"], s.get("stage_pass"), s.get("stage"), s["elapsed_s"]) for s in rows[:3]] == [
        ("stage", "style", "network", 0.75), ("stage", "none", "other", 0.25), ("call", None, None, 1.0),
    ]  # fmt: skip
    assert [s["repetition"] for s in rows] == [i for i in range(N_ROWS["stages"]) for _ in range(3)]
    assert rows[0]["n_tiles"] == 4


def test_ceilings_are_rows(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    best = [Ceiling("matmul", 0.5, 50.0, None), Ceiling("copy", 0.1, None, 0.5)]
    monkeypatch.setattr(stages, "ceilings", lambda _device, _sync: iter(best))
    found = [(s["phase"], s["elapsed_s"], s["work_gflop"], s["work_gb"]) for s in passes(order, "ceiling")]
    assert found == [tuple(ceiling) for ceiling in best]


def test_peak_memory_is_a_row(order: Callable[..., Order]) -> None:
    [row] = passes(order, "memory")
    assert row["peak_rss_bytes"] > 1_000_000
    assert row["rss_method"]
    assert row["cuda_allocated_bytes"] is None


def test_energy_that_cannot_be_read_is_said_to_be(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    monkeypatch.setattr(energy, "find", lambda _gpu, _device: None)
    [row] = passes(order, "energy")
    assert (row["status"], row["elapsed_s"]) == ("skipped", None)
    assert "counter" in row["error_message"]


def test_energy_is_a_row(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    monkeypatch.setattr(energy, "find", lambda _gpu, _device: "source")
    monkeypatch.setattr(energy, "energy", lambda _work, _source, _sync: {"energy_j": 9.0, "elapsed_s": 5.0})
    [row] = passes(order, "energy")
    assert (row["status"], row["energy_j"], row["elapsed_s"]) == ("ok", 9.0, 5.0)


def test_masks_are_compared_at_both_diameters_with_the_cpus(
    monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]
) -> None:
    monkeypatch.setattr(agreement, "compare", lambda a, b: {"agreement": "identical", "reference_diameter_px": 30.0})
    rows = passes(order, "masks")
    assert [s["diameter_asked_px"] for s in rows] == [0.0, 30.0]
    assert {s["agreement"] for s in rows} == {"identical"}
    assert len({s["case_id"] for s in rows}) == 1


def test_what_was_measured_before_an_interruption_is_not_measured_again(
    monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]
) -> None:
    monkeypatch.setattr(agreement, "compare", lambda _reference, _found: {"agreement": "identical"})
    thrice = replace(TWICE, repeats=3)
    todo = [Task("timed", case(32), 0, (1.0, 1.0), attempt=1), Task("masks", case(32), 0, (1.0,), attempt=2)]
    done = [s for s in measured(order(*todo, effort=thrice)) if s["role"] in ("timed", "masks")]
    assert [(s["role"], s["repetition"], s["attempt"]) for s in done] == [("timed", 2, 1), ("masks", 1, 2)]
    assert done[0]["stop_reason"] == "fixed_n"
