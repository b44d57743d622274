"""Cellpose 4's variants, held to its own network in double precision and to its own post-processing bit by bit.

Most of it runs on a network of the same classes with two narrow blocks; the real one is tried once, on one tile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from harness.engines import environments, registry
from harness.engines.cellpose4 import surrogate
from tests.conftest import REPOSITORY

# Found before a test gets a home of its own.
SPEC, VERSION, NETWORK = environments.find("cellpose4"), registry.version("cellpose4"), surrogate.file()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(VERSION is None, reason="cellbench engines install cellpose4 was not run"),
]
needs_network = pytest.mark.skipif(
    not NETWORK.is_file(), reason="the stand-in network (1.2 GB) was not made on this machine"
)

PRELUDE = """
import copy, json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
from functools import partial
from cellpose import core, dynamics, models, plot, transforms, vit
from segment_anything.modeling import ImageEncoderViT, image_encoder
from cellbench import accelerate
from harness.engines.cellpose4 import surrogate, variants
from harness.engines.cellpose.variants import hooks
from harness.images import synthetic
torch.set_num_threads(1)

class Sam:
    image_encoder = property(lambda self: ImageEncoderViT(
        depth=2, embed_dim=128, num_heads=2, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True,
        window_size=14, global_attn_indexes=(1,)))

def tiny(file, **how):
    '''A CellposeModel whose network has two narrow blocks, with random numbers for every weight.'''
    full, vit.sam_model_registry["vit_l"] = vit.sam_model_registry["vit_l"], lambda _: Sam()
    try:
        torch.manual_seed(0)
        net = vit.CPSAM()
        for name, each in net.named_parameters():
            if name not in ("W2", "diam_labels", "diam_mean"):
                torch.nn.init.normal_(each, std=0.5 if "rel_pos" in name else 0.08)
        torch.save(net.state_dict(), file)
        return models.CellposeModel(pretrained_model=file, device=torch.device("cpu"), **how)
    finally:
        vit.sam_model_registry["vit_l"] = full

def forward(model, applied, tiles):
    '''What the model's network makes of tiles, as a call of eval() would have it.'''
    with hooks.within(applied):
        applied._batch_size = 8
        return core._forward(model.net, tiles)[0].astype(np.float64)

def off(found, exact):
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact ** 2).mean()))
"""


def in_child(code: str, *words: object, **environ: str) -> dict[str, Any]:
    """What a fresh process with the engine prints as its last line, from JSON."""
    done = subprocess.run(
        [SPEC.python, "-c", PRELUDE + textwrap.dedent(code), *map(str, words)],
        cwd=REPOSITORY, env={**os.environ, **SPEC.environ(), "NUMBA_NUM_THREADS": "2", **environ},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_no_variant_is_further_from_the_exact_network_than_stock(tmp_path: Path) -> None:
    found = in_child(
        """
        tiles = np.random.default_rng(0).standard_normal((2, 1, 256, 256)).astype(np.float32)
        told = {}
        for dtype in ("float32", "bfloat16"):
            model = tiny(sys.argv[1], use_bfloat16=dtype == "bfloat16")
            exact = copy.deepcopy(model.net).eval()  # of the same weights: their own rounding is no variant's
            exact.dtype = torch.float64
            with torch.no_grad():
                exact = exact(torch.from_numpy(tiles).to(getattr(torch, dtype)).double())[0].numpy()
            for name in ("stock", "cached-positions", "packed", "flash", "flash+packed", "fused", "joined",
                         "packed+joined", "threads=2+flash"):
                with variants.apply(model, name) as applied:
                    told[dtype + " " + name] = off(forward(model, applied, tiles), exact), list(applied.notes)
        print(json.dumps(told))
        """,
        tmp_path / "tiny",
    )
    assert [notes for _, notes in found.values() if notes] == []
    for dtype, times in (("float32", 4.0), ("bfloat16", 1.05)):  # of different roundings none is always the nearest
        most = times * found[f"{dtype} stock"][0]
        assert {name: value for name, (value, _) in found.items() if name.startswith(dtype) and value > most} == {}
        assert found[f"{dtype} cached-positions"] == found[f"{dtype} stock"]
    assert found["float32 joined"][0] < 1e-4 < found["bfloat16 stock"][0]


def test_each_kernel_gives_the_bits_of_stock_cellpose() -> None:
    answer = in_child(
        """
        from harness.engines.cellpose4.variants import quality
        from harness.engines.cellpose.variants import postprocessing as fast
        rng, cpu, told = np.random.default_rng(0), torch.device("cpu"), {}
        for name, scene in (("dense", synthetic.dense(height_px=150, width_px=170)),
                            ("sparse", synthetic.sparse(height_px=190, width_px=210, n_cells=6))):
            labels = scene.labels.astype(np.int64)
            truth, inds = np.asarray(dynamics.masks_to_flows_gpu(labels)[0]) * 5, np.nonzero(labels > 0)
            for noise in (0.0, 1.5, 4.0, 12.0):
                at = f"{name} {noise}"
                flow = (truth + noise * rng.standard_normal(truth.shape)).astype(np.float32)
                ends = dynamics.follow_flows(flow * (labels > 0) / 5, inds, 200, cpu).int()
                masks, ours = (f(ends.clone(), inds, flow.shape[1:]) for f in (
                    dynamics.get_masks_torch, lambda *a: fast.get_masks(None, *a)))
                told[at + " seeds"] = np.array_equal(masks, ours) and masks.dtype == ours.dtype and masks.max() > 0
                errors = dynamics.flow_error(masks, flow, cpu)[0]
                told[at + " errors"] = np.array_equal(errors, quality.flow_errors(masks, flow))
                for threshold in (0.1, 0.4):
                    stock = dynamics.remove_bad_flow_masks(masks.copy(), flow, threshold=threshold, device=cpu)
                    ours = quality.remove_bad_flow_masks(None, masks.copy(), flow, threshold=threshold)
                    told[f"{at} qc {threshold}"] = np.array_equal(stock, ours) and stock.dtype == ours.dtype
        tiles, ysub, xsub, Ly, Lx = transforms.make_tiles(rng.standard_normal((3, 400, 300)).astype(np.float32), 256)
        tiles = tiles.reshape(-1, 3, 256, 256)
        told["tiles"] = np.array_equal(transforms.average_tiles(tiles, ysub, xsub, Ly, Lx),
                                       fast.average_tiles(None, tiles, ysub, xsub, Ly, Lx))
        print(json.dumps({name: bool(same) for name, same in told.items()}))
        """
    )
    assert [name for name, same in answer.items() if not same] == []
    assert len(answer) == 33


def test_on_and_off_leave_stock_as_it_was(tmp_path: Path) -> None:
    answer = in_child(
        """
        model, other = tiny(sys.argv[1]), tiny(sys.argv[1])
        image = synthetic.dense(height_px=128, width_px=300).image
        flows, told = surrogate.DrawnFlows(), {}
        def found(model, **more):
            with flows.in_place_of_the_network(image):
                masks, parts, _ = model.eval(image, **more)
            return [masks, *parts]
        def same(a, b):
            return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        watched = [(core, "_forward"), (dynamics, "get_masks_torch"), (dynamics, "remove_bad_flow_masks"),
                   (plot, "dx_to_circ"), (transforms, "average_tiles"), (image_encoder, "get_rel_pos"),
                   (models, "run_net")]
        before, attributes = [getattr(*at) for at in watched], sorted(vars(model))
        weights = {name: each.data_ptr() for name, each in model.net.state_dict().items()}
        stock = found(model)
        told["cells"] = int(stock[0].max())
        for name in (*variants.LOSSLESS, "lossless", "flash+packed+lossless", "fused", "joined"):
            with variants.apply(model, name):
                told[name] = same(stock, found(model))
        with variants.apply(model, "no-flow-image"):
            told["no-flow-image"] = found(model)[1] is None
        with variants.apply(model, "lossless+flash"):
            told["another model is left alone"] = same(stock, found(other))
            try:
                accelerate(model)
            except Exception as error:
                told["twice is refused"] = "accelerated already" in str(error)
        n_tiles = []
        stock_forward = core._forward
        core._forward = lambda net, x: (n_tiles.append(len(x)), stock_forward(net, x))[1]
        tall = synthetic.dense(height_px=448, width_px=200).image
        with variants.apply(model, "batch=2"):
            model.eval(tall, compute_masks=False)
        told["batch"] = n_tiles == [2, 1]
        with variants.apply(model, "overlap=0.01"):
            model.eval(tall, compute_masks=False)
        told["overlap"] = n_tiles[2:] == [2]
        with variants.apply(model, "diameter=60"):
            model.eval(tall, compute_masks=False)
        told["diameter"] = n_tiles[3:] == [1]
        core._forward = stock_forward
        told["stock again"] = same(stock, found(model))
        told["functions"] = before == [getattr(*at) for at in watched] and not hooks._replaced
        told["attributes"] = attributes == sorted(vars(model))
        told["weights"] = weights == {name: each.data_ptr() for name, each in model.net.state_dict().items()}
        told["accelerate"] = accelerate(other, "lossless+flash") is other and same(stock, found(other))
        try:
            accelerate(object())
        except Exception as error:
            told["what is no model is refused"] = "cannot be accelerated" in str(error)
        print(json.dumps(told))
        """,
        tmp_path / "tiny",
    )
    assert [name for name, same in answer.items() if not same] == []
    assert len(answer) == 21


def test_what_is_not_possible_here_is_noted_and_the_network_runs_as_it_can(tmp_path: Path) -> None:
    answer = in_child(
        """
        model, told = tiny(sys.argv[1]), {}
        tiles = np.zeros((1, 1, 256, 256), np.float32)
        def broken(*_, **__):
            raise RuntimeError("no oneDNN\\nat all")
        torch.compile = lambda *_, **__: broken
        torch.ops.mkldnn._reorder_linear_weight = broken
        for name in ("flash", "packed", "fused+compiled"):
            with variants.apply(model, name) as applied:
                told[name] = [float(np.abs(forward(model, applied, tiles)).max()) > 0, *applied.notes]
        print(json.dumps(told))
        """,
        tmp_path / "tiny", PATH="/nonexistent", CELLBENCH_HOME=str(tmp_path),
    )  # fmt: skip
    assert answer == {
        "flash": [
            True,
            "flash is not possible, so fused attention ran: there is no C++ compiler; "
            "install one (pip install ziglang), or leave flash out",
        ],
        "packed": [True, "packed is not possible, so the layers ran as they are: no oneDNN"],
        "fused+compiled": [True, "torch.compile failed, so the network ran uncompiled: no oneDNN"],
    }


@needs_network
def test_the_real_network_on_one_tile_is_nearer_to_the_exact_one_than_stock() -> None:
    answer = in_child(
        """
        torch.set_num_threads(2)
        tiles = np.random.default_rng(0).standard_normal((1, 1, 256, 256)).astype(np.float32)
        model, told, found = models.CellposeModel(pretrained_model=sys.argv[1], device=torch.device("cpu")), {}, {}
        for name in ("stock", "flash+packed"):
            with variants.apply(model, name) as applied:
                found[name] = forward(model, applied, tiles)
        del model
        exact = models.CellposeModel(pretrained_model=sys.argv[1], device=torch.device("cpu"), use_bfloat16=False)
        with torch.no_grad():
            exact = exact.net.double().eval()(torch.from_numpy(tiles).double())[0].numpy()
        print(json.dumps({name: off(each, exact) for name, each in found.items()}))
        """,
        NETWORK,
    )
    assert 0 < answer["flash+packed"] <= answer["stock"] < 0.1


@needs_network
def test_both_models_are_measured_in_one_run_and_stand_in_one_report(tmp_path: Path) -> None:
    home = {"CELLBENCH_HOME": str(NETWORK.parents[1]), "OMP_WAIT_POLICY": "passive"}

    def cellbench(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *map(str, words), "--out", str(tmp_path / "out")],
            cwd=REPOSITORY, env=os.environ | home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    what = ("--models", "cyto3,cpsam_v2", "--weights", "standin", "--crops", "224", "--devices", "cpu")
    cellbench("run", *what, "--warmups", "0", "--repeats", "1", "--blocks", "1", "--no-ray")
    sql = "SELECT model, engine, dtype, weights, n, n_cells FROM medians ORDER BY model"
    sam, cyto3 = json.loads(cellbench("query", sql, "--json"))
    assert (cyto3["engine"], cyto3["dtype"], cyto3["weights"], cyto3["n"]) == ("cellpose3", "float32", "standin", 1)
    assert (sam["engine"], sam["dtype"], sam["weights"], sam["n"]) == ("cellpose4", "bfloat16", "standin", 1)
    assert min(sam["n_cells"], cyto3["n_cells"]) > 0
    report = cellbench("report", "--md")
    assert "Cellpose 3 or Cellpose-SAM here" in report
    assert "v2 takes " in report  # Markdown escapes the underscore before it
    assert "--models cpsam_v2,cyto3" in report
    assert "not meaningful with stand-in weights" in report
