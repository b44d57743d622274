"""The stage pass: the recorder with a fake clock, cellpose's hooks on a made-up cellpose, then on the real one."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.engines import registry
from harness.engines.base import Stage, StageCatalogue
from harness.engines.cellpose import stages as cellpose_stages
from harness.engines.cellpose3 import catalogue, stage_hooks
from harness.machine import accelerators
from harness.measure.passes import ceiling, stages
from harness.measure.passes.stages import Part, Recorder

CATALOGUE = StageCatalogue(
    {"first": "a pass", "second": "another", "outside": "what is in none"},
    (Stage("cut", "", "host"), Stage("network", "", "network", on_host=False), Stage("join", "", "host"),
     Stage("rest", "what no stage claims", "rest")),
)  # fmt: skip


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


class Recorded:
    """As much of a loaded model as the stage pass asks for: it hands its recorder to the call."""

    recorder: Recorder

    @contextmanager
    def recorded(self, recorder: Recorder) -> Iterator[None]:
        self.recorder = recorder
        yield


Key = tuple[str, str]


def measure(
    machine: Machine, call: Callable[[Recorder], Any], made: StageCatalogue = CATALOGUE
) -> tuple[Any, float, dict[Key, Part]]:
    model = Recorded()
    work = lambda: call(model.recorder)  # noqa: E731
    outcome, total_s, parts = stages.measure(work, model, made, machine.sync, machine.clock_ns)
    return outcome, total_s, {(part.stage_pass, part.stage): part for part in parts}


def times(parts: dict[Key, Part]) -> dict[Key, float]:
    return {key: part.elapsed_s for key, part in parts.items()}


def test_a_stage_has_the_time_spent_in_itself(machine: Machine) -> None:
    def call(recorder: Recorder) -> str:
        with recorder.stage("cut"):
            machine.work(1)
            with recorder.network(3, 6.0, 1.5):
                machine.work(1, queued_s=4)
            machine.work(1)
        return "masks"

    outcome, total_s, parts = measure(machine, call)
    assert (outcome, total_s) == ("masks", 7.0)
    assert times(parts) == {("outside", "cut"): 2.0, ("outside", "network"): 5.0, ("outside", "rest"): 0.0}


def test_the_device_is_waited_for_by_the_stage_that_asked_it(machine: Machine) -> None:
    machine.queued_s = 100.0  # from before the call

    def call(recorder: Recorder) -> None:
        machine.work(1, queued_s=2)  # in no stage
        with recorder.stage("join"):
            machine.work(0.5)

    _, total_s, parts = measure(machine, call)
    assert total_s == 3.5
    assert times(parts) == {("outside", "join"): 0.5, ("outside", "rest"): 3.0}


def test_passes_are_told_apart_and_come_in_the_catalogues_order(machine: Machine) -> None:
    def call(recorder: Recorder) -> None:
        for name, n_tiles in (("second", 3), ("first", 8), ("second", 2), ("outside", 1)):
            recorder.enter_pass(name)
            machine.work(1)
            with recorder.stage("join"):
                machine.work(1)
            with recorder.network(n_tiles, n_tiles * 2.0, n_tiles * 0.5):
                machine.work(2)

    _, total_s, parts = measure(machine, call)
    assert list(parts) == [
        ("first", "network"), ("first", "join"), ("second", "network"), ("second", "join"),
        ("outside", "network"), ("outside", "join"), ("outside", "rest"),
    ]  # fmt: skip
    work = {key: (part.n_tiles, part.work_gflop, part.work_gb) for key, part in parts.items()}
    assert work["second", "network"] == (5, 10.0, 2.5)  # of both
    assert work["second", "join"] == (None, None, None)
    assert parts["outside", "rest"].elapsed_s == 4.0
    assert sum(part.elapsed_s for part in parts.values()) == pytest.approx(total_s)


def test_a_call_without_stages_is_all_rest(machine: Machine) -> None:
    assert times(measure(machine, lambda _: machine.work(2))[2]) == {("outside", "rest"): 2.0}


@pytest.mark.parametrize("name", registry.names())
def test_every_catalogue_says_what_its_passes_and_stages_are(name: str) -> None:
    made = registry.engine(name).stages
    assert all(made.passes.values())
    assert all(stage.meaning and stage.group for stage in made.stages)
    assert len({stage.name for stage in made.stages}) == len(made.stages)
    assert {"network", made.stages[-1].name} <= {stage.name for stage in made.stages}


# ------------------------------------------------------------------ cellpose's hooks, without cellpose


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

    def estimate() -> str:
        made.one_pass(8)
        made.one_pass(2)
        return made.diameters("masks", kind="median")

    def diameters(_masks: str, kind: str) -> str:
        machine.work(0.5)
        return kind

    for original in (forward, run_net, one_pass, estimate, diameters):
        setattr(made, original.__name__, original)

    def hooks(recorder: Recorder, passes: stage_hooks._Passes) -> list[tuple[Any, str, Any]]:
        return [
            (made, "estimate", passes.estimation),
            (made, "one_pass", passes.image_pass),
            (made, "run_net", lambda *_, **__: recorder.stage("tile")),
            (made, "forward", lambda _net, tiles: stage_hooks.network(recorder, tiles)),
            (made, "diameters", lambda *_, **__: recorder.stage("diameter")),
        ]

    monkeypatch.setattr(stage_hooks, "_hooks", hooks)
    return made


class Hooked:
    """As much of a loaded model as the stage pass asks for: cellpose's own hooks."""

    def recorded(self, recorder: Recorder) -> Any:
        return stage_hooks.timing(recorder)


def hooked(machine: Machine, call: Callable[[], Any]) -> tuple[Any, float, dict[Key, Part]]:
    found, total_s, parts = stages.measure(call, Hooked(), catalogue.CATALOGUE, machine.sync, machine.clock_ns)
    return found, total_s, {(part.stage_pass, part.stage): part for part in parts}


def test_cellposes_passes_are_told_apart(machine: Machine, fake: types.SimpleNamespace) -> None:
    def call() -> str:
        kind = fake.estimate()
        fake.diameters("masks", kind="between passes")
        fake.one_pass(3)
        return kind

    outcome, total_s, parts = hooked(machine, call)
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
    _, _, parts = hooked(machine, lambda: [fake.one_pass(1), fake.one_pass(2)])
    assert parts["mask", "network"].n_tiles == 3


def test_work_scales_with_the_tiles_area(machine: Machine, fake: types.SimpleNamespace) -> None:
    whole = hooked(machine, lambda: fake.run_net(2))[2]["none", "network"]
    quarter = hooked(machine, lambda: fake.run_net(2, side_px=112))[2]["none", "network"]
    assert (whole.work_gflop, whole.work_gb) == (pytest.approx(62.01), pytest.approx(2.11))
    assert (quarter.n_tiles, quarter.work_gflop) == (2, pytest.approx(62.01 / 4))


@pytest.mark.parametrize("broken", ["call", "hook"])
def test_cellpose_is_stock_again_whatever_happens(
    machine: Machine, fake: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before, hooks = dict(vars(fake)), stage_hooks._hooks
    if broken == "hook":
        monkeypatch.setattr(stage_hooks, "_hooks", lambda *of: [*hooks(*of), (fake, "missing", None)])

    def call() -> None:
        assert vars(fake) != before
        fake.forward("net", None)

    with pytest.raises(AttributeError):
        hooked(machine, call)
    assert vars(fake) == before


def test_every_hook_names_a_stage() -> None:
    assert named_by_hooks() == {stage.name for stage in catalogue.CATALOGUE.stages} - {"network", "other"}


def named_by_hooks() -> set[str]:
    """The stages in the source of _hooks and in the table that it uses, without importing cellpose."""
    tree = ast.parse(inspect.getsource(stage_hooks._hooks))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    own = {call.args[1].value for call in calls if call.func.attr == "stage"}
    return own | set(cellpose_stages.FUNCTIONS.values())


# ------------------------------------------------------------------ ceilings


def test_repetitions_of_a_ceiling_are_few_where_they_are_long() -> None:
    for each_s, n in ((0.001, ceiling.N_BEST_OF), (0.05, 4), (10.0, 3)):
        assert len(list(ceiling._several(lambda: None, lambda _work, s=each_s: s))) == n


# ------------------------------------------------------------------ the real torch and cellpose


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_ceilings_have_the_precision_of_the_network(dtype: str) -> None:
    import torch

    for sized in (ceiling._product, ceiling._convolution):
        work, _ = sized(1, device="cpu", dtype=getattr(torch, dtype))
        tensors = [*work.args, *work.keywords.values()]
        assert {str(each.dtype) for each in tensors if isinstance(each, torch.Tensor)} == {f"torch.{dtype}"}


@pytest.mark.slow
def test_ceilings_of_this_processor() -> None:
    found = list(ceiling.ceilings(accelerators.of("cpu"), "cpu", lambda: None))
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
    assert flops.get_total_flops() / 1e9 == pytest.approx(catalogue.TILE_GFLOP, rel=1e-3)
    assert traffic.n_bytes / 1e9 == pytest.approx(catalogue.TILE_GB, rel=0.02)


REAL_PASS = """
import json, sys
from dataclasses import asdict
from harness.engines import registry
from harness.images import synthetic
from harness.measure.passes import stages

engine = registry.engine("cellpose3")
engine.prepare("cyto3", sys.argv[1], "")
engine.start()
engine.set_threads(2)
from cellpose import core, dynamics, models, plot, transforms, utils
owners = (core, dynamics, models, plot, transforms, utils, models.Cellpose, models.CellposeModel, models.SizeModel)
model = engine.load("cyto3", "cpu", "float32")
pixels = synthetic.sparse(height_px=440, width_px=400, n_cells=9).image
plain = model.segment(pixels)
stock = [dict(vars(owner)) for owner in owners]
answer = {"plain": plain.sha256, "n_cells": plain.n_cells, "diameter_px": plain.diameter_px}
calls = {
    "standard": lambda: model.segment(pixels),
    "article": lambda: engine.load("cyto3", "cpu", "float32").segment(pixels),
}
for protocol, call in calls.items():
    found, total_s, parts = stages.measure(call, model, engine.stages, lambda: None)
    answer[protocol] = {"sha256": found.sha256, "total_s": total_s, "parts": [asdict(part) for part in parts]}
answer["is_stock"] = stock == [dict(vars(owner)) for owner in owners]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    """Two stage passes of the real cellpose, in a process of its own: it reads where its weights are once."""
    folder = registry.engine("cellpose3").resolve("cyto3", "standin").paths[0].parent
    done = subprocess.run(
        [sys.executable, "-c", REAL_PASS, folder], capture_output=True, text=True, check=False, env=dict(os.environ)
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
    assert parts["style", "network"]["n_tiles"] == catalogue.n_tiles(440, 400, 1.0)
    # Cells of about 60 px are shrunk to 30 px for it: a quarter of the area.
    assert 1 <= parts["mask", "network"]["n_tiles"] <= parts["style", "network"]["n_tiles"] / 2
