"""The stage pass: first on a made-up cellpose with a fake clock, then on the real one in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from harness.measure.stages import Part, Recorder

from harness import plan
from harness.engines.cellpose3 import weights
from harness.measure import stages


class Machine:
    """A clock that only work moves, and a device that works later: its queue passes when it is waited for."""

    def __init__(self) -> None:
        self.now_s = self.queued_s = 0.0

    def work(self, elapsed_s: float, queued_s: float = 0.0) -> None:
        self.now_s += elapsed_s
        self.queued_s += queued_s

    def sync(self) -> None:
        self.now_s, self.queued_s = self.now_s + self.queued_s, 0.0

    def clock_ns(self) -> int:
        return round(self.now_s * 1e9)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def fake(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """As much of cellpose as has passes, and stages inside stages; 1 s here and there is in no stage."""
    made = types.SimpleNamespace()

    def forward(_net: object, tiles: Any) -> str:
        machine.work(1, queued_s=4)
        return "flows"

    def run_net(n_tiles: int, side_px: int = 224) -> str:
        machine.work(1)
        flows = made.forward("net", types.SimpleNamespace(shape=(n_tiles, 2, side_px, side_px)))
        machine.work(1)
        return flows

    def one_pass(n_tiles: int) -> str:
        machine.work(1)
        return made.run_net(n_tiles)

    def estimate() -> float:
        made.one_pass(8)
        made.one_pass(2)
        return made.diameters("masks", kind="median")

    def diameters(_masks: str, kind: str) -> str:
        machine.work(0.5)
        return kind

    for original in (forward, run_net, one_pass, estimate, diameters):
        setattr(made, original.__name__, original)

    def hooks(recorder: Recorder) -> list[tuple[Any, str, Any]]:
        return [
            (made, "estimate", recorder.estimation),
            (made, "one_pass", recorder.image_pass),
            (made, "run_net", lambda *_, **__: recorder.stage("tile")),
            (made, "forward", recorder.network),
            (made, "diameters", lambda *_, **__: recorder.stage("diameter")),
        ]

    monkeypatch.setattr(stages, "_hooks", hooks)
    return made


def measure(machine: Machine, call: Callable[[], Any]) -> tuple[Any, float, dict[tuple[str, str], Part]]:
    outcome, total_s, parts = stages.measure(call, machine.sync, machine.clock_ns)
    return outcome, total_s, {(part.stage_pass, part.stage): part for part in parts}


def test_a_stage_has_the_time_spent_in_itself(machine: Machine, fake: types.SimpleNamespace) -> None:
    _, total_s, parts = measure(machine, lambda: fake.run_net(3))
    assert total_s == 7.0
    assert {key: part.elapsed_s for key, part in parts.items()} == {
        ("none", "tile"): 2.0,
        ("none", "network"): 5.0,
        ("none", "other"): 0.0,
    }


def test_the_device_is_waited_for_by_the_stage_that_asked_it(machine: Machine, fake: types.SimpleNamespace) -> None:
    machine.queued_s = 100.0  # from before the call

    def call() -> None:
        machine.work(1, queued_s=2)  # in no stage
        fake.diameters("masks", kind="")

    _, total_s, parts = measure(machine, call)
    assert total_s == 3.5
    assert (parts["none", "diameter"].elapsed_s, parts["none", "other"].elapsed_s) == (0.5, 3.0)


def test_passes_are_told_apart(machine: Machine, fake: types.SimpleNamespace) -> None:
    def call() -> str:
        kind = fake.estimate()
        fake.diameters("masks", kind="between passes")
        fake.one_pass(3)
        return kind

    outcome, total_s, parts = measure(machine, call)
    assert outcome == "median"
    assert list(parts) == [
        ("style", "tile"), ("style", "network"),
        ("size", "tile"), ("size", "network"), ("size", "diameter"),
        ("mask", "tile"), ("mask", "network"),
        ("none", "diameter"), ("none", "other"),
    ]  # fmt: skip
    assert [part.n_tiles for part in parts.values() if part.stage == "network"] == [8, 2, 3]
    assert parts["none", "other"].elapsed_s == 3.0  # one second in each pass
    assert sum(part.elapsed_s for part in parts.values()) == pytest.approx(total_s)


def test_one_pass_alone_is_the_mask_pass(machine: Machine, fake: types.SimpleNamespace) -> None:
    _, _, parts = measure(machine, lambda: [fake.one_pass(1), fake.one_pass(2)])
    assert parts["mask", "network"].n_tiles == 3


def test_work_scales_with_the_tiles_area_and_is_the_networks_alone(
    machine: Machine, fake: types.SimpleNamespace
) -> None:
    whole = measure(machine, lambda: fake.run_net(2))[2]["none", "network"]
    quarter = measure(machine, lambda: fake.run_net(2, side_px=112))[2]["none", "network"]
    assert (whole.work_gflop, whole.work_gb) == (pytest.approx(62.01), pytest.approx(2.11))
    assert (quarter.n_tiles, quarter.work_gflop) == (2, pytest.approx(62.01 / 4))
    tile = measure(machine, lambda: fake.run_net(2))[2]["none", "tile"]
    assert (tile.n_tiles, tile.work_gflop, tile.work_gb) == (None, None, None)


@pytest.mark.parametrize("broken", ["call", "hook"])
def test_cellpose_is_stock_again_whatever_happens(
    machine: Machine, fake: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before = dict(vars(fake))
    hooks = stages._hooks
    if broken == "hook":
        monkeypatch.setattr(stages, "_hooks", lambda recorder: [*hooks(recorder), (fake, "missing", None)])

    def call() -> None:
        assert vars(fake) != before
        fake.forward("net", None)

    with pytest.raises(AttributeError):
        measure(machine, call)
    assert vars(fake) == before


def test_every_hook_names_a_stage() -> None:
    assert set(plan_stages()) <= stages.STAGES.keys() - {"other"}


def plan_stages() -> list[str]:
    """The stages in the source of _hooks, without importing cellpose."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(stages._hooks))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return [call.args[0].value for call in calls if call.func.id == "stage"]


def test_repetitions_of_a_ceiling_are_few_where_they_are_long() -> None:
    for each_s, n in ((0.001, stages.N_BEST_OF), (0.05, 4), (10.0, 3)):
        assert len(list(stages._several(lambda: None, lambda _work, s=each_s: s))) == n


# ------------------------------------------------------------------ the real torch and cellpose


@pytest.mark.slow
def test_ceilings_of_this_processor() -> None:
    found = list(stages.ceilings("cpu", lambda: None))
    assert {row.phase for row in found} == {"matmul", "convolution", "copy"}
    for row in found:
        assert row.elapsed_s > 0
        assert (row.work_gb is None) == (row.phase != "copy") == (row.work_gflop is not None)
    assert all(sum(row.phase == phase for row in found) >= 3 for phase in ("matmul", "convolution", "copy"))


@pytest.mark.slow
def test_work_of_a_tile_is_what_torch_counts() -> None:
    import torch
    from cellpose.resnet_torch import CPnet
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    class Traffic(TorchDispatchMode):
        n_bytes = 0

        def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            if not function.is_view:
                tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
                self.n_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            return out

    with torch.device("meta"):
        net = CPnet([2, 32, 64, 128, 256], 3, sz=3).eval()
        tile = torch.empty(1, 2, 224, 224)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        net(tile)
    with torch.no_grad(), Traffic() as traffic:
        net(tile)
    assert flops.get_total_flops() / 1e9 == pytest.approx(stages.TILE_GFLOP, rel=1e-3)
    assert traffic.n_bytes / 1e9 == pytest.approx(stages.TILE_GB, rel=0.02)


REAL_PASS = """
import hashlib, json, sys
from dataclasses import asdict
from harness import synthetic
from harness.measure import stages, workload

workload.import_cellpose()
workload.set_threads(2)
from cellpose import core, dynamics, models, plot, transforms, utils
owners = (core, dynamics, models, plot, transforms, utils, models.Cellpose, models.CellposeModel, models.SizeModel)
model = workload.load("cpu")
pixels = synthetic.sparse(height_px=440, width_px=400, n_cells=9).image
plain = workload.segment(model, pixels)
stock = [dict(vars(owner)) for owner in owners]
answer = {"plain": plain.sha256, "n_cells": plain.n_cells, "diameter_px": plain.diameter_px}
calls = {
    "standard": lambda: workload.segment(model, pixels),
    "article": lambda: workload.segment(workload.load("cpu"), pixels),
}
for protocol, call in calls.items():
    found, total_s, parts = stages.measure(call, lambda: None)
    answer[protocol] = {"sha256": found.sha256, "total_s": total_s, "parts": [asdict(part) for part in parts]}
answer["is_stock"] = stock == [dict(vars(owner)) for owner in owners]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    """Two stage passes of the real cellpose, in a process of its own: it reads where its weights are once."""
    environment = {**os.environ, "CELLPOSE_LOCAL_MODELS_PATH": weights.resolve("standin").folder}
    done = subprocess.run(
        [sys.executable, "-c", REAL_PASS], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_hooks_change_nothing(real: dict[str, Any]) -> None:
    assert real["is_stock"]
    assert real["n_cells"] > 0
    assert {real["standard"]["sha256"], real["article"]["sha256"]} == {real["plain"]}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["standard", "article"])
def test_the_stages_of_a_real_call_add_up_to_97_percent(real: dict[str, Any], protocol: str) -> None:
    total_s, parts = real[protocol]["total_s"], real[protocol]["parts"]
    assert sum(part["elapsed_s"] for part in parts) == pytest.approx(total_s)
    assert sum(part["elapsed_s"] for part in parts if part["stage"] != "other") >= 0.97 * total_s
    assert min(part["elapsed_s"] for part in parts) >= 0


@pytest.mark.slow
def test_every_stage_is_found_where_it_belongs(real: dict[str, Any]) -> None:
    parts = {(part["stage_pass"], part["stage"]): part for part in real["article"]["parts"]}
    each = {"convert", "normalize", "tile", "network", "stitch", "flow_image"}
    masks = {"resize", "dynamics", "seeds", "qc", "cleanup"}
    expected = {
        *(("style", stage) for stage in each),
        *(("size", stage) for stage in each | masks | {"diameter"}),
        *(("mask", stage) for stage in each | masks),
        ("none", "construct"),
        ("none", "other"),
    }
    # The style pass resizes only if the weights were trained at another diameter than the network works at.
    assert parts.keys() - {("style", "resize")} == expected
    assert ("none", "construct") not in {(p["stage_pass"], p["stage"]) for p in real["standard"]["parts"]}
    assert parts["style", "network"]["n_tiles"] == plan.n_tiles(440, 400, 1.0)
    # Cells of about 60 px are shrunk to 30 px for it: a quarter of the area.
    assert 1 <= parts["mask", "network"]["n_tiles"] <= parts["style", "network"]["n_tiles"] / 2
