"""Variants: names and refusals without torch; kernels and whole calls held to stock cellpose bit by bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from harness.engines.cellpose.variants.parts import Parts
from harness.engines.cellpose3 import weights
from harness.engines.cellpose3.variants.settings import ALL, LOSSLESS, Settings
from harness.engines.cellpose4.variants import settings as cellpose4
from harness.errors import CellbenchError


def test_groups_are_taken_apart_and_stock_is_nothing() -> None:
    assert ALL.split("channels-last+lossless") == ("channels-last", *LOSSLESS)
    assert ALL.split("stock") == ()
    assert ALL.parse("stock") == Settings()
    assert ALL.split("lossless+fast-qc") == LOSSLESS


def test_variants_compose() -> None:
    made = ALL.parse("channels-last+folded+batch=16+overlap=0.05", "cpu")
    assert (made.channels_last, made.folded, made.batch_size, made.tile_overlap) == (True, True, 16, 0.05)
    assert made.is_dense


@pytest.mark.parametrize(
    ("variant", "backend", "what"),
    [
        ("faster", "cpu", "unknown variant 'faster'"),
        ("channels-last", "mps", "not for mps; silently wrong on MPS"),
        ("fp16", "cpu", "not for cpu"),
        ("bf16+fp16", "cuda", "contradict"),
        ("batch=0", "cpu", "whole number from 1"),
        ("batch", "cpu", "whole number from 1"),
        ("batch=2.5", "cpu", "whole number"),
        ("overlap=0.6", "cpu", "number from 0.05 to 0.5"),
        ("diameter=nan", "cpu", "needs a number"),
        ("plain=3", "cpu", "takes no value"),
        ("", "cpu", "unknown variant ''"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(variant: str, backend: str, what: str) -> None:
    with pytest.raises(CellbenchError, match=what):
        ALL.parse(variant, backend)


VALUES = {
    "batch": ("8", "16", "016"),
    "threads": ("2", "04"),
    "overlap": ("0.1", "0.10", "0.2"),
    "diameter": ("30", "30.0", "25"),
}
every_engine = pytest.mark.parametrize("every", [ALL, cellpose4.ALL], ids=["cellpose3", "cellpose4"])


def request(every: Parts[object], seed: int) -> list[str]:
    """Some words of a variant, which do not contradict each other."""
    rng = random.Random(seed)
    parts = (f"{part.name}={rng.choice(VALUES[part.name])}" if part.takes else part.name for part in every.parts)
    names = [*every.groups, *parts]
    words: list[str] = []
    for name in rng.sample(names, rng.randrange(1, 9)):
        try:
            every.parse([*words, name])
        except CellbenchError:
            continue
        words.append(name)
    return words


@every_engine
@pytest.mark.parametrize("seed", range(60))
def test_a_variant_has_one_spelling_that_sets_what_was_asked(every: Parts[object], seed: int) -> None:
    words = request(every, seed)
    made = every.canonical("+".join(words))
    for _ in range(3):
        random.Random(seed).shuffle(words)
        assert every.canonical(" + ".join([*words, words[0], "stock"])) == made
    assert every.canonical(str(made)) == made
    for fewer in ([name for name in made.names if name != left_out] for left_out in made.names):
        assert every.canonical("+".join(fewer) or "stock") != made, "each of its words is needed"
    assert every.in_force(every.parse(made.names)) == every.in_force(every.parse(words))
    has_choice = every.in_force(every.parse(words)) != every.in_force(
        every.parse([word for word in words if not word.startswith(("diameter", "overlap"))])
    )
    assert made.changes_result == has_choice


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("stock", "stock"), ("batch=8", "stock"), ("overlap=0.1", "stock"), ("plain+lossless", "lossless+plain"),
        ("channels-last+plain", "channels-last"), ("compiled+cuda-graphs", "cuda-graphs"),
        ("no-flow-image+skip-unseen", "no-flow-image"), ("fast-qc+fast-seeds+fast-flows", "fast-dynamics"),
        ("diameter=25.0", "diameter=25"), ("+".join(LOSSLESS), "lossless"),
    ],
)  # fmt: skip
def test_what_is_implied_is_not_written(text: str, spelling: str) -> None:
    assert str(ALL.canonical(text)) == spelling


@every_engine
def test_each_variant_says_what_it_sets_and_may_change(every: Parts[object]) -> None:
    for variant in every.parts:
        assert variant.sets.keys() <= vars(every.stock).keys()
        assert variant.what
        assert variant.may_change
        assert variant.takes or any(getattr(every.stock, key) != value for key, value in variant.sets.items())


def test_importing_harness_is_light() -> None:
    heavy = "[m for m in ('torch', 'numba', 'cellpose') if m in sys.modules]"
    code = f"import sys, harness, cellbench, harness.engines.cellpose4.variants; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


PRELUDE = """
import json, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
from cellpose import dynamics, metrics, models, transforms, plot, core
from harness.engines.cellpose3 import variants
from harness.images import synthetic
from harness.engines.cellpose.variants import hooks, kernels, postprocessing as fast
torch.set_num_threads(1)
"""


def in_child(code: str, prelude: str = PRELUDE) -> dict[str, Any]:
    """What a fresh process with cellpose and the stand-in weights prints as its last line, from JSON."""
    environ = os.environ | {
        "CELLPOSE_LOCAL_MODELS_PATH": weights.resolve("standin").folder, "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parallel
def test_each_kernel_gives_the_bits_of_stock_cellpose() -> None:
    answer = in_child(
        """
        rng = np.random.default_rng(0)
        scene = synthetic.dense(height_px=150, width_px=170)
        cpu, told = torch.device("cpu"), {}
        truth = dynamics.masks_to_flows(scene.labels.astype(np.int64), device=cpu).astype(np.float32) * 5
        for name, noise in (("true", 0.0), ("noisy", 1.5), ("wild", 12.0)):
            flow = (truth + noise * rng.standard_normal(truth.shape)).astype(np.float32)
            inds = np.nonzero(scene.labels > 0)
            # as eval() has them: an interleaved view of (height, width, 3)
            flow = np.stack([*flow, flow[0]], axis=-1).transpose(2, 0, 1)[:2]
            inside = rng.random(flow.shape[1:]) < 0.9
            for interp in (True, False):
                for niter in (0, 1, 7, 200, 453.7):
                    stock = dynamics.follow_flows(flow * inside / 5.0, inds, niter=niter, interp=interp, device=cpu)
                    ours = fast.follow(flow, inside, inds, niter, interp)
                    stock = np.asarray(stock, np.float32)
                    told[f"flows {name} {interp} {niter}"] = bool(np.array_equal(stock, ours))
                ends = torch.from_numpy(stock.copy()).int()
                seeds = [f(ends.clone(), inds, flow.shape[1:]) for f in (
                    dynamics.get_masks_torch, lambda *a: fast.get_masks(dynamics.get_masks_torch, *a))]
                told[f"seeds {name} {interp}"] = bool(np.array_equal(*seeds)) and seeds[0].dtype == seeds[1].dtype
                masks = seeds[0]
                if masks.max():
                    stock_errors = metrics.flow_error(masks, flow, cpu)[0]
                    ours = kernels.flow_errors(masks, flow, kernels.boxes(masks, int(masks.max())))
                    told[f"errors {name} {interp}"] = bool(np.array_equal(stock_errors, ours))
                    kept = [f(masks.copy(), flow, threshold=0.2, device=cpu) for f in (
                        dynamics.remove_bad_flow_masks,
                        lambda *a, **k: fast.remove_bad_flow_masks(dynamics.remove_bad_flow_masks, *a, **k))]
                    told[f"qc {name} {interp}"] = bool(np.array_equal(*kept))
        told["seeds found"] = bool(masks.max() > 0)
        image = rng.standard_normal((2, 400, 300)).astype(np.float32)
        tiles, ysub, xsub, Ly, Lx = transforms.make_tiles(image)
        tiles = np.concatenate((tiles.reshape(-1, 2, 224, 224),) * 2, axis=1)[:, :3] * 3
        told["tiles"] = bool(np.array_equal(transforms.average_tiles(tiles, ysub, xsub, Ly, Lx),
                             fast.average_tiles(None, tiles, ysub, xsub, Ly, Lx)))
        print(json.dumps(told))
        """
    )
    assert [name for name, same in answer.items() if not same] == []
    assert len(answer) > 35


DRAWN = (
    PRELUDE
    + """
from functools import partial
from cellpose import utils
cpu = torch.device("cpu")

class Drawn(torch.nn.Module):
    '''A network that costs nothing: flows up the slopes of the blurred image, styles near the size model's mean.'''
    nout, mkldnn, device = 3, False, property(lambda self: self.mean.device)

    def __init__(self, mean):
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(np.asarray(mean, np.float32)))

    def forward(self, x):
        blurred = x.sum(1, keepdim=True)
        for _ in range(3):
            blurred = torch.nn.functional.avg_pool2d(blurred, 7, 1, 3)
        padded = torch.nn.functional.pad(blurred, (1, 1, 1, 1), "replicate")[:, 0]
        dy, dx = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1], padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
        length = 0.04 + (dy**2 + dx**2).sqrt()
        return torch.stack((5 * dy / length, 5 * dx / length, 12 * (blurred[:, 0] - 0.4)), 1), self.make_style(x)

    def downsample(self, x):
        return [x]

    def make_style(self, x):
        return self.mean * (1 + 0.1 * x.mean(dim=(1, 2, 3))[:, None]) + 0.01

def image(rng, height, width, n_cells, n_channels=None):
    yy, xx = np.mgrid[:height, :width]
    drawn = rng.normal(100, 4, (n_channels or 1, height, width))
    for _ in range(n_cells):
        y, x, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 12)
        drawn[rng.integers(len(drawn))] += rng.uniform(300, 900) * np.exp(-(((yy - y)**2 + (xx - x)**2) / r**2) ** 2)
    return np.moveaxis(drawn, 0, -1) if n_channels else drawn[0]

def outcome(function):
    '''What a call returns, or the kind of its error.'''
    try:
        return function()
    except Exception as error:
        return type(error).__name__

def same(a, b):
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
"""
)


@pytest.mark.slow
@pytest.mark.parallel
def test_each_replacement_returns_what_it_replaces_on_drawn_arrays() -> None:
    answer = in_child(
        """
        rng, wrong, told = np.random.default_rng(4), [], dict.fromkeys(("cells", "holes", "small"), 0)
        def check(name, original, *args, ours=None, **kwargs):
            replacement = ours or getattr(fast, original.__name__)
            copies = [[np.array(a, order="K") if isinstance(a, np.ndarray) else a for a in args] for _ in range(2)]
            stock = outcome(lambda: original(*copies[0], **kwargs))
            if not same(stock, outcome(lambda: replacement(original, *copies[1], **kwargs))):
                wrong.append(name)
            return stock
        network = Drawn(rng.standard_normal(256) / 16)
        for k in range(120):
            height, width = (int(n) for n in rng.integers(1, (4, 40, 130)[k % 3], 2))
            values = rng.standard_normal((height, width, 3)).astype(np.float32) * 10 ** rng.uniform(-3, 4)
            values = np.round(values) if k % 5 == 0 else values
            plane, flows = values[..., 0], values.transpose(2, 0, 1)[:2]
            lower, upper = rng.uniform(0, 40), rng.uniform(60, 100)
            for copy in (True, False):
                check(f"normalize99 {k}", transforms.normalize99, plane, lower, upper, copy=copy)
            check(f"normalize99 of one value {k}", transforms.normalize99, np.full_like(plane, 7))
            check(f"dx_to_circ {k}", plot.dx_to_circ, flows)
            stack = values[None]
            size = [int(n) for n in rng.integers(1, 60, 2)]
            check(f"resize_image {k}", transforms.resize_image, stack, *size)
            check(f"resize_image of planes {k}", transforms.resize_image, stack[0], *size, no_channels=True)
            big = image(rng, *(int(n) for n in rng.integers(1, (30, 300, 470)[k % 3], 2)), 9, 2).astype(np.float32)
            how = {"rsz": [None, 0.7, 1.9][k // 3 % 3], "tile_overlap": [0.1, 0.31][k % 2],
                   "bsize": [224, 96][k // 2 % 2]}
            if min(big.shape) * (how["rsz"] or 1) >= 1 and k < 40:
                check(f"run_net {k}", core.run_net, network, big[None] / 500, batch_size=1 + k % 9, **how)
            scene = image(rng, height, width, 1 + k % 12) / 500
            maps = network(torch.from_numpy(scene[None, None].astype(np.float32)))[0][0].numpy()
            maps = np.ascontiguousarray(maps.transpose(1, 2, 0)).transpose(2, 0, 1) if k % 2 else maps
            maps[:2] += rng.choice([0, 0.3, 3]) * rng.standard_normal(maps[:2].shape)
            masks = check(f"compute_masks {k}", dynamics.compute_masks, maps[:2], maps[2], niter=[200, 33.7][k % 2],
                          interp=bool(k % 4), flow_threshold=[0.4, 0.0, None][k % 3],
                          cellprob_threshold=[0.0, -2.0, 50.0][k // 4 % 3], device=cpu)
            told["cells"] += int(masks.max())
            # labels with gaps, holes, other labels in the holes, and with or without a background
            labels = np.kron(rng.integers(0, 4, (9, 9)), np.ones((5, 5), int)).astype([np.uint16, np.uint32][k % 2])
            labels = np.where(rng.random(labels.shape) < [0, 0.05][k // 2 % 2], 0, labels)[: height + 3, : width + 3]
            labels = (labels * [1, 3][k // 4 % 2] + (k % 7 == 0)).astype([np.uint16, np.uint32][k % 2])
            for min_size in (15, 3, -1):
                found = check(f"cleanup {k} {min_size}", utils.fill_holes_and_remove_small_masks, labels,
                              min_size=min_size)
                told["holes"] += int((found > 0).sum() > (labels > 0).sum())
                told["small"] += int(found.max() < labels.max())
        print(json.dumps({"wrong": wrong, **told}))
        """,
        DRAWN,
    )
    assert answer.pop("wrong") == []
    assert min(answer.values()) > 20


@pytest.mark.slow
@pytest.mark.parallel
def test_whole_calls_return_what_stock_returns_for_images_of_every_kind() -> None:
    answer = in_child(
        """
        rng, wrong, told = np.random.default_rng(8), [], {"cells": [], "errors": 0}
        models_of = [models.Cellpose(model_type="cyto3") for _ in range(2)]
        for model in models_of:
            model.cp.net = Drawn(model.sz.params["smean"])
        stock, lossless = models_of
        variants.apply(lossless, "lossless")
        sides = [(1, 5), (7, 4), (30, 61), (97, 131), (81, 150), (40, 39), (251, 66)]
        for k in range(52):
            height, width = sides[k % len(sides)]
            n_cells = [0, 1, 3, 14][k % 4]
            kind = ["grey", "grey", "colours", "list", "stack"][k % 5]
            one = partial(image, rng, height, width, n_cells)
            x = {"grey": one, "colours": lambda: one(3), "list": lambda: [one(), one().T],
                 "stack": lambda: np.stack([one()[:64, :64] for _ in range(6)])}[kind]()
            dtype = [np.uint8, np.uint16, np.float32, np.float64][k // 2 % 4]
            scaled = lambda a: np.clip(a / 4, 0, 255).astype(dtype) if dtype is np.uint8 else a.astype(dtype)
            x = [scaled(a) for a in x] if kind == "list" else scaled(x)
            how = dict(diameter=[0, None, 17, 30.0, 44.4][k // 3 % 5], batch_size=[8, 3][k % 2],
                       channels=[[0, 0], [1, 2], [2, 0]][k % 3] if kind == "colours" else [0, 0],
                       **[{}, {"normalize": False}, {"invert": True}, {"flow_threshold": 0}, {"cellprob_threshold": -1},
                          {"min_size": -1}, {"niter": 50}, {"resample": False}, {"interp": False}, {"augment": True},
                          {"tile_overlap": 0.3}, {"normalize": {"percentile": [3, 98], "tile_norm_blocksize": 0}},
                          {"normalize": {"tile_norm_blocksize": 60}}][k % 13])
            results = [outcome(lambda: model.eval(x, **how)) for model in models_of]
            if not same(*results):
                wrong.append([k, kind, height, width, str(dtype), str(how)])
            if isinstance(results[0], str):
                told["errors"] += 1
            elif kind != "list":
                told["cells"].append(int(results[0][0].max()))
        print(json.dumps({"wrong": wrong, "errors": told["errors"], "none": told["cells"].count(0),
                          "one": told["cells"].count(1), "many": sum(n > 3 for n in told["cells"])}))
        """,
        DRAWN,
    )
    assert answer.pop("wrong") == []
    assert answer.pop("errors") < 30
    assert min(answer.values()) > 4


@pytest.mark.slow
@pytest.mark.parallel
def test_on_and_off_leave_stock_as_it_was() -> None:
    answer = in_child(
        """
        model = models.Cellpose(model_type="cyto3")
        other = models.Cellpose(model_type="cyto3")
        image = synthetic.dense(height_px=128, width_px=112).image
        def found(model, **more):
            masks, flows, styles, diameter = model.eval(image, diameter=0, channels=[0, 0], **more)
            return [masks, *flows, styles, np.array(diameter)]
        def same(a, b):
            return all(np.array_equal(x, y) for x, y in zip(a, b))
        watched = [(core, "_forward"), (dynamics, "follow_flows"), (dynamics, "get_masks_torch"), (plot, "dx_to_circ"),
                   (dynamics, "remove_bad_flow_masks"), (transforms, "average_tiles"), (transforms, "normalize_img")]
        before = [getattr(*at) for at in watched]
        attributes = [sorted(vars(model)), sorted(vars(model.cp)), sorted(vars(model.sz))]
        stock, told = found(model), {}
        told["cells"] = int(stock[0].max())
        for name in (*variants.LOSSLESS, "lossless"):
            with variants.apply(model, name):
                told[name] = same(stock, found(model))
        with variants.apply(model, "lossless+no-flow-image"):
            told["no-flow-image"] = found(model)[1] is None
        for name in ("plain", "channels-last", "folded", "folded+channels-last+lossless"):
            with variants.apply(model, name):
                told[name] = float(np.abs(found(model)[2] - stock[2]).max()) < 1e-3
        with variants.apply(model, "lossless+channels-last"):
            told["another model is left alone"] = same(stock, found(other))
            try:
                variants.apply(model, "plain")
            except Exception as error:
                told["twice is refused"] = "accelerated already" in str(error)
        made = variants.apply(model, "threads=2+overlap=0.2+batch=3")
        told["threads set"] = torch.get_num_threads() == 2
        made.remove(); made.remove()
        told["threads back"] = torch.get_num_threads() == 1
        with variants.apply(model, "diameter=25"):
            told["given diameter"] = bool(model.eval(image, diameter=0, channels=[0, 0])[3] == 25)
        told["stock again"] = same(stock, found(model))
        told["functions"] = before == [getattr(*at) for at in watched] and not hooks._replaced
        told["attributes"] = attributes == [sorted(vars(model)), sorted(vars(model.cp)), sorted(vars(model.sz))]
        print(json.dumps(told))
        """
    )
    assert [name for name, same in answer.items() if not same] == []


@pytest.mark.slow
@pytest.mark.parallel
def test_a_model_that_was_accelerated_takes_as_long_as_one_that_never_was() -> None:
    answer = in_child(
        """
        import time
        touched, other = models.Cellpose(model_type="cyto3"), models.Cellpose(model_type="cyto3")
        image = synthetic.dense(height_px=96, width_px=96).image
        def took(model):
            begin = time.process_time()  # of this process: what else the machine does is not what is asked
            model.eval(image, diameter=30, channels=[0, 0])
            return time.process_time() - begin
        took(touched), took(other)
        for name in ("lossless+winograd", "lossless+channels-last+folded", "plain+threads=2+batch=3"):
            with variants.apply(touched, name):
                took(touched)
        pairs = [(took(touched), took(other)) for _ in range(12)]
        print(json.dumps({"ratio": min(a for a, _ in pairs) / min(b for _, b in pairs)}))
        """
    )
    assert 1 / 1.25 < answer["ratio"] < 1.25


@pytest.mark.slow
@pytest.mark.parallel
def test_no_factor_of_a_call_is_lost() -> None:
    answer = in_child(
        """
        import time
        stock, fast = models.Cellpose(model_type="cyto3"), models.Cellpose(model_type="cyto3")
        image = synthetic.dense(height_px=224, width_px=224).image
        def took(model):
            begin = time.process_time()  # of this process: what else the machine does is not what is asked
            model.eval(image, diameter=0, channels=[0, 0])
            return time.process_time() - begin
        with variants.apply(fast, "lossless+winograd"):
            took(stock), took(fast)
            pairs = [(took(stock), took(fast)) for _ in range(3)]
        ratio = min(a for a, _ in pairs) / min(b for _, b in pairs)
        print(json.dumps({"ratio": ratio, "capability": torch.backends.cpu.get_cpu_capability()}))
        """
    )
    if "AVX512" not in answer["capability"]:
        pytest.skip("the factor is that of AVX-512")
    assert answer["ratio"] > 4.1, "three quarters of the factor in docs/performance.md, 5.5"


@pytest.mark.slow
@pytest.mark.parallel
def test_a_compiler_that_fails_is_noted_and_the_network_runs_uncompiled() -> None:
    answer = in_child(
        """
        def broken(*_, **__):
            def run(_x):
                raise RuntimeError("no C++ compiler\\nat all")
            return run
        torch.compile = broken
        model = models.Cellpose(model_type="cyto3")
        image = synthetic.dense(height_px=224, width_px=224).image
        with variants.apply(model, "compiled") as applied:
            # a tile is 224 px where the padded image is larger
            masks = model.eval(image, diameter=30, channels=[0, 0])[0]
        print(json.dumps({"notes": applied.notes, "cells": int(masks.max())}))
        """
    )
    assert answer["cells"] > 0
    assert answer["notes"] == ["torch.compile failed, so the network ran uncompiled: no C++ compiler"]
