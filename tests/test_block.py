"""What a block measures, with the simulated engine in this very process."""

import itertools
import json
import types
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness import schema
from harness.engines.simulated.engine import Simulated, SimulatedAccelerator, SimulatedModel
from harness.engines.simulated.script import Script
from harness.images import synthetic
from harness.machine import energy_counters, interference
from harness.machine.accelerators import Device
from harness.machine.energy_counters import EnergySource
from harness.measure import block, parent
from harness.measure.block import Finished
from harness.measure.passes import ceiling, energy
from harness.measure.passes.ceiling import Ceiling
from harness.measure.wire import Order
from harness.plan.cases import Task, control
from harness.schema import PASSES
from tests.conftest import TWICE, sleep

QUICK = Script(call_s=0.0)
CONTROL = control(sleep(32))
Story = tuple[str, str, str | None, int, str]


def measured(order: Order, script: Script = QUICK) -> list[schema.Sample]:
    """The samples of a block, each as the schema wants it."""
    samples = [each for each in block.samples(order, Simulated(script)) if not isinstance(each, Finished)]
    schema.table([parent.from_wire(sample) for sample in samples])
    return samples


def story(samples: list[schema.Sample]) -> list[Story]:
    return [(s["role"], s["phase"], s.get("crop"), s["repetition"], s["status"]) for s in samples]


def test_cold_warm_up_and_timed_repetitions_are_all_kept(order: Callable[..., Order]) -> None:
    made = order(sleep(64), sleep(32))
    made = replace(made, block=replace(made.block, threads=3))
    done = list(block.samples(made, Simulated(QUICK)))
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
    assert (last["device_used"], last["torch_threads"]) == ("cpu", 3)
    assert (last["engine"], last["model"], last["workload"]) == ("simulated", "sleep", "simulated")
    assert [s["stop_reason"] for s in samples if s["role"] == "timed"] == [None, "fixed_n"] * 2


def test_a_time_is_that_of_the_call(order: Callable[..., Order]) -> None:
    for call_s in (0.02, 0.06):
        timed = [s for s in measured(order(sleep(32)), Script(call_s=call_s)) if s["role"] == "timed"]
        assert all(call_s <= s["elapsed_s"] < call_s + 1 for s in timed)


def test_what_else_went_on_stands_beside_each_repetition(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"flags": "load", "foreign_cpu_share": 0.5}
    watch = types.SimpleNamespace(begin=lambda: lambda: dict(seen))
    monkeypatch.setattr(interference, "Watch", lambda *_, **__: watch)
    beside = {(s["role"], s["flags"], s["foreign_cpu_share"]) for s in measured(order(sleep(32))) if "flags" in s}
    assert beside == {("warmup", "load", 0.5), ("timed", "load", 0.5)}


def test_the_environment_goes_with_the_block_once(order: Callable[..., Order]) -> None:
    constants = order(sleep(32)).constants | {"weights_sha256": "7" * 64}
    samples = measured(order(sleep(32), constants=constants))
    [written] = [s["environment"] for s in samples if s.get("environment")]
    known = json.loads(written)
    assert (known["weights_sha256"], known["torch_threads"]) == ("7" * 64, 1)
    assert known["cpu_physical_cores"] >= 1


class Monitored(Simulated):
    """An engine whose devices a driver looks at."""

    gpu = types.SimpleNamespace(facts=dict, live=dict)

    def accelerator(self, device: str) -> SimulatedAccelerator:
        made = super().accelerator(device)
        made.monitor = lambda _device, _uuid=None: self.gpu
        return made


def test_a_gpu_that_the_driver_knows_is_waited_for_too(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[float, object]] = []

    def wait(limit_s: float, gpu: object = None) -> float:
        waits.append((limit_s, gpu))
        return 2.0

    monkeypatch.setattr(interference, "wait_for_idle", wait)
    monkeypatch.setattr(interference, "Watch", lambda *_, **__: types.SimpleNamespace(begin=lambda: dict))
    plain = order(sleep(32))
    patient = replace(plain, block=replace(plain.block, idle_wait_s=7.0))
    assert {s["idle_wait_s"] for s in measured(patient)} == {2.0}
    assert waits == [(7.0, None)]
    waits.clear()
    known = replace(patient, block=replace(patient.block, device=replace(patient.block.device, uuid="u")))
    assert [s for s in block.samples(known, Monitored(QUICK)) if not isinstance(s, Finished)]
    assert waits == [(7.0, Monitored.gpu)]


class Counting(Simulated):
    """An engine that counts the models that it constructs."""

    n_loads = 0

    def load(self, model: str, device: str, dtype: str) -> SimulatedModel:
        self.n_loads += 1
        return super().load(model, device, dtype)


@pytest.mark.parametrize(("protocol", "n_loads"), [("standard", 1), ("article", 1 + 1 + 1 + 3)])
def test_the_article_protocol_constructs_the_model_inside(
    order: Callable[..., Order], protocol: str, n_loads: int
) -> None:
    engine = Counting(QUICK)
    list(block.samples(order(sleep(32, protocol), effort=replace(TWICE, repeats=3)), engine))
    assert engine.n_loads == n_loads


def test_precision_decides_where_the_profile_says_so(order: Callable[..., Order]) -> None:
    effort = replace(TWICE, precision=1e-9, repeats=3, repeats_max=6)
    timed = [s for s in measured(order(sleep(32), effort=effort)) if s["role"] == "timed"]
    assert (len(timed), timed[-1]["stop_reason"]) == (6, "n_max")
    assert timed[0]["precision"] is None
    assert timed[-1]["precision"] > 0


def test_the_control_case_is_the_same_drawn_image_everywhere(order: Callable[..., Order]) -> None:
    todo = (Task("control", CONTROL, -1), Task("timed", sleep(32), 0), Task("control", CONTROL, 1))
    samples = [s for s in measured(order(*todo)) if s["role"] == "control"]
    assert [s["position"] for s in samples] == [-1] * 3 + [1] * 3
    assert {(s["image"], s["image_is_synthetic"]) for s in samples} == {("control", True)}
    assert len({s["case_id"] for s in samples}) == len({s["mask_sha256"] for s in samples}) == 1
    assert synthetic.control().shape == (224, 224)


@pytest.mark.parametrize(("accident", "status"), [("raise", "crash"), ("memory", "oom_host"), ("device", "oom_device")])
def test_a_failing_case_is_one_row_and_the_others_go_on(
    order: Callable[..., Order], accident: str, status: str
) -> None:
    script = replace(QUICK, accident=accident, at_height_px=64)
    done = list(block.samples(order(sleep(64), sleep(32), sleep(48)), Simulated(script)))
    samples = [sample for sample in done if not isinstance(sample, Finished)]
    [bad] = [s for s in samples if s["status"] != "ok"]
    assert (bad["crop"], bad["status"], bad["elapsed_s"]) == ("64", status, None)
    assert bad["error_message"].startswith("the script requests")
    assert sum(s["role"] == "timed" and s["status"] == "ok" for s in samples) == 4
    assert sum(isinstance(sample, Finished) for sample in done) == 3


def test_a_device_that_lies_is_a_failure_never_a_time(order: Callable[..., Order]) -> None:
    done = measured(order(sleep(64), sleep(32), device=Device("cuda", 0, "G")), replace(QUICK, used="cpu"))
    called = [s for s in done if s["phase"] == "call"]
    assert {(s["status"], s["elapsed_s"]) for s in called} == {("device_fallback", None)}
    assert len(called) == 2


def test_an_image_that_changed_is_not_measured(order: Callable[..., Order]) -> None:
    [failed] = [s for s in measured(order(sleep(32), pixels_sha256="0" * 64)) if s["status"] != "ok"]
    assert "changed" in failed["error_message"]


def test_cases_are_told_apart_and_versions_do_not_split_a_series(order: Callable[..., Order]) -> None:
    samples = [s for s in measured(order(sleep(32), sleep(32, "article"), sleep(48))) if s["role"] == "timed"]
    assert len({s["case_id"] for s in samples}) == len({s["series_key"] for s in samples}) == 3
    identity = schema.identity
    assert identity.key(samples[0] | {"torch_version": "9"}, identity.SERIES) == samples[0]["series_key"]
    assert identity.key(samples[0] | {"device_name": "other"}, identity.SERIES) != samples[0]["series_key"]


# ------------------------------------------------------------------ variants


def test_a_variant_is_in_force_for_its_own_case_alone(order: Callable[..., Order]) -> None:
    cases = (sleep(64, variant="batch=2+diameter=45"), sleep(32), sleep(48, "article", "batch=4"))
    samples = measured(order(*cases))
    used = {(s["crop"], s["batch_size"], s["diameter_asked_px"], s["diameter_px"]) for s in samples if "n_cells" in s}
    assert used == {("64", 2, 45.0, 45.0), ("32", 1, 0.0, 30.0), ("48", 4, 0.0, 30.0)}


def test_the_first_call_of_a_process_is_stock_whatever_comes(order: Callable[..., Order]) -> None:
    for protocol in ("standard", "article"):
        [cold] = [
            s for s in measured(order(sleep(32, protocol, "batch=2"))) if (s["role"], s["phase"]) == ("cold", "call")
        ]
        assert (cold["variant"], cold["protocol"], cold["batch_size"]) == ("stock", protocol, 1)


@pytest.mark.parametrize("variant", ["fallback", "late-fallback", "fast+late-fallback"])
@pytest.mark.parametrize("protocol", ["standard", "article"])
def test_a_variant_that_does_not_run_has_no_time(order: Callable[..., Order], variant: str, protocol: str) -> None:
    samples = measured(order(sleep(64, protocol, variant), sleep(32, protocol, "fast"), sleep(48, protocol)))
    [bad] = [s for s in samples if s["variant" if "variant" in s else "role"] == variant]
    assert (bad["status"], bad["role"], bad["elapsed_s"], bad["crop"]) == ("variant_fallback", "timed", None, "64")
    assert bad["error_message"] == "the simulated variant did not run"
    good = [(s["crop"], s["variant"]) for s in samples if (s["role"], s["status"]) == ("timed", "ok")]
    assert good == [("32", "fast")] * 2 + [("48", "stock")] * 2


@pytest.mark.parametrize("variant", ["fallback", "late-fallback"])
@pytest.mark.parametrize("role", sorted(set(PASSES) - {"ceiling"}))
def test_a_variant_that_does_not_run_is_looked_at_in_no_pass(
    order: Callable[..., Order], role: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = EnergySource("made up", (lambda: 1.0,))
    monkeypatch.setattr(energy_counters, "find", lambda *_: source)
    monkeypatch.setattr(energy_counters, "idle_power_w", lambda _source: 1.0)
    monkeypatch.setattr(energy, "WINDOW_S", 0.0)
    samples = measured(order(Task(role, sleep(32, variant=variant), 0)))
    assert [s["status"] for s in samples if s["role"] == role] == ["variant_fallback"]


# ------------------------------------------------------------------ passes


def passes(order: Callable[..., Order], role: str) -> list[schema.Sample]:
    return [s for s in measured(order(Task(role, sleep(32), 0))) if s["role"] == role]


def test_stages_are_rows(order: Callable[..., Order]) -> None:
    rows = passes(order, "stages")
    assert [(s["phase"], s.get("stage_pass"), s.get("stage")) for s in rows[:4]] == [
        ("stage", "mask", "network"), ("stage", "mask", "masks"), ("stage", "none", "other"), ("call", None, None),
    ]  # fmt: skip
    assert [s["repetition"] for s in rows] == [i for i in range(PASSES["stages"].n_rows) for _ in range(4)]
    assert (rows[0]["n_tiles"], rows[0]["work_gflop"]) == (1, 1.0)
    assert sum(s["elapsed_s"] for s in rows[:3]) == pytest.approx(rows[3]["elapsed_s"])


def test_ceilings_are_rows(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    best = [Ceiling("matmul", 0.5, 50.0, None), Ceiling("copy", 0.1, None, 0.5)]
    monkeypatch.setattr(ceiling, "ceilings", lambda *_: iter(best))
    rows = passes(order, "ceiling")
    assert [(s["phase"], s["elapsed_s"], s["work_gflop"], s["work_gb"]) for s in rows] == [tuple(each) for each in best]


def test_peak_memory_is_a_row(order: Callable[..., Order]) -> None:
    [row] = passes(order, "memory")
    assert row["peak_rss_bytes"] > 1_000_000
    assert row["rss_method"]
    assert row["cuda_allocated_bytes"] is None


def test_energy_that_cannot_be_read_is_said_to_be(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    monkeypatch.setattr(energy_counters, "find", lambda *_: None)
    [row] = passes(order, "energy")
    assert (row["status"], row["elapsed_s"]) == ("skipped", None)
    assert "counter" in row["error_message"]


def test_energy_is_a_row_for_each_window(monkeypatch: pytest.MonkeyPatch, order: Callable[..., Order]) -> None:
    joules = itertools.count(step=9.0)
    monkeypatch.setattr(energy_counters, "find", lambda *_: EnergySource("made up", (lambda: next(joules),)))
    monkeypatch.setattr(energy_counters, "idle_power_w", lambda _source: 0.0)
    monkeypatch.setattr(energy, "WINDOW_S", 0.0)
    rows = passes(order, "energy")
    assert [(row["status"], row["energy_gross_j"], row["energy_j"]) for row in rows] == [("ok", 9.0, 9.0)] * 3


def test_masks_are_compared_at_both_diameters_with_the_cpus(order: Callable[..., Order]) -> None:
    rows = passes(order, "masks")
    assert [s["diameter_asked_px"] for s in rows] == [0.0, 30.0]
    assert {s["agreement"] for s in rows} == {"identical"}
    assert len({s["case_id"] for s in rows}) == 1


def test_masks_that_differ_are_told(order: Callable[..., Order]) -> None:
    made = order(Task("masks", sleep(160), 0))
    rows = [s for s in measured(made, replace(QUICK, same_masks=False, n_cells=50)) if s["role"] == "masks"]
    assert {s["agreement"] for s in rows} == {"different"}


def test_what_was_measured_before_an_interruption_is_not_measured_again(order: Callable[..., Order]) -> None:
    thrice = replace(TWICE, repeats=3)
    todo = [Task("timed", sleep(32), 0, (1.0, 1.0), attempt=1), Task("masks", sleep(32), 0, (1.0,), attempt=2)]
    done = [s for s in measured(order(*todo, effort=thrice)) if s["role"] in ("timed", "masks")]
    assert [(s["role"], s["repetition"], s["attempt"]) for s in done] == [("timed", 2, 1), ("masks", 1, 2)]
    assert done[0]["stop_reason"] == "fixed_n"
