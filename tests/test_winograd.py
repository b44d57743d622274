"""The network with Winograd's convolutions, held to torch in double precision, and what happens without a compiler."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.engines.cellpose3.variants.settings import ALL
from harness.errors import CellbenchError
from tests.test_variants import in_child

LAYERS = """
from torch import nn
from torch.nn import functional
from harness.engines.cellpose3.variants import winograd
torch.manual_seed(0)
told = {}
def grown(a, is_half):
    a = a.double().permute(0, 3, 1, 2)
    return functional.interpolate(a, scale_factor=2, mode="nearest") if is_half else a
def off(a, expected):
    return float((a.permute(0, 3, 1, 2) - expected).abs().max() / expected.abs().max())
for n_threads in (1, 3):
    engine = winograd.Engine(n_threads)
    for n, height, width, n_in, n_out in (
        (2, 22, 18, 32, 32), (1, 56, 40, 64, 32), (3, 28, 28, 32, 96), (1, 2, 6, 32, 32), (2, 10, 14, 2, 32),
    ):
        for side, has_relu in ((3, True), (1, True), (1, False)):
            relu = [nn.ReLU()] if has_relu else []
            n_last = 3 if side == 1 and has_relu else n_out  # the network's own last layer has three channels
            layer = nn.Sequential(nn.BatchNorm2d(n_in), *relu, nn.Conv2d(n_in, n_last, side, padding=side // 2)).eval()
            norm = layer[0]
            for at in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(at)
            norm.running_var.uniform_(0.5, 2)
            layer.requires_grad_(False)
            ours = winograd.Convolution(layer, engine)
            for is_half in (False, True) if side == 3 and n_in > 2 else (False,):
                small = (height // 2, width // 2) if is_half else (height, width)
                # What is outside the image's channels, and where results go, is not read.
                x = torch.full((n, *small, -(-n_in // engine.lanes) * engine.lanes), float("nan"))
                x[..., :n_in] = torch.randn(n, *small, n_in)
                has_more = side == 3 and n_in > 2
                y = torch.randn(n, height, width, n_in) if has_more else None
                residual = torch.randn(n, *small, n_out) if has_more else None
                out, pooled = (torch.full((n, height // by, width // by, n_last), float("nan")) for by in (1, 2))
                engine.run([ours(x, out, y, None, residual, pooled if side == 3 else None)])
                seen = grown(x[..., :n_in], is_half) + (y.double().permute(0, 3, 1, 2) if has_more else 0)
                expected = layer.double()(seen) + (grown(residual, is_half) if has_more else 0)
                layer.float()
                name = str((n_threads, n, height, n_in, n_out, side, has_relu, is_half))
                told[name] = off(out, expected)
                if side == 3:
                    told[name + " pooled"] = off(pooled, functional.max_pool2d(expected, 2))
    engine.close()
print(json.dumps(told))
"""


@pytest.mark.slow
@pytest.mark.parallel
def test_a_layer_is_what_torch_computes_with_borders_sums_and_halved_images() -> None:
    answer = in_child(LAYERS)
    assert len(answer) == 2 * (2 * 9 + 10)
    assert {name: off for name, off in answer.items() if not off < 2e-6} == {}  # some float32 roundings


@pytest.mark.slow
@pytest.mark.parallel
def test_the_network_is_as_exact_as_torch_and_the_same_for_any_number_of_threads() -> None:
    answer = in_child(
        """
        from harness.engines.cellpose3.variants import network, winograd
        model = models.Cellpose(model_type="cyto3")
        net = network.dense_copy(model.cp.net, model.cp.pretrained_model)
        image = synthetic.sparse(height_px=224, width_px=448).image.astype(np.float32)
        image = (image - image.mean()) / image.std()
        tiles = torch.from_numpy(np.stack([image[:, :224], image[:, 224:]])[:, None].repeat(2, axis=1))
        told = {}
        with torch.no_grad():
            exact, exact_style = net.double()(tiles.double())[:2]
            flows, style = net.float()(tiles)[:2]
            found = {n: winograd.Network(net, n) for n in (1, 2, 5)}
            ours = {n: tuple(part.clone() for part in each(tiles)) for n, each in found.items()}
            small = tiles[:1, :, :48, :80].contiguous()
            told["small"] = float((found[2](small)[0] - net(small)[0]).abs().max() / exact.abs().max())
            n_runs = [0]
            def counted(layers, run=found[2]._engine.run):
                n_runs[0] += 1
                run(layers)
            found[2]._engine.run = counted
            found[2](tiles)
            told["runs"] = n_runs[0]
            told["style alone"] = bool(torch.equal(found[1].style(tiles), ours[1][1]))
        def off(a, b):
            return float((a - b).abs().max() / b.abs().max())
        told["torch"], told["ours"] = off(flows, exact), off(ours[1][0], exact)
        told["style"] = off(ours[1][1], exact_style)
        told["threads"] = all(torch.equal(a, b) for n in (2, 5) for a, b in zip(ours[1], ours[n]))
        for each in found.values():
            each.close()
        print(json.dumps(told))
        """
    )
    assert answer["threads"] is True
    # Before and after the style; what torch computed between two layers would keep its threads busy in the next one.
    assert answer["runs"] == 2
    assert answer["style alone"] is True
    assert answer["ours"] < 4 * answer["torch"] + 1e-7
    assert answer["style"] < 1e-5
    assert answer["small"] < 1e-5


@pytest.mark.slow
@pytest.mark.parallel
def test_masks_stay_and_stock_is_stock_again() -> None:
    answer = in_child(
        """
        model, told = models.Cellpose(model_type="cyto3"), {}
        for name, image in (("sparse", synthetic.sparse(height_px=260, width_px=240).image),
                            ("dense", synthetic.dense(height_px=150, width_px=240).image)):
            def found():
                masks, flows, styles, diameter = model.eval(image, diameter=0, channels=[0, 0])
                return masks, flows[1], styles, np.array(diameter)
            stock = found()
            with variants.apply(model, "lossless+winograd") as applied:
                ours = found()
            precision = metrics.average_precision(stock[0], ours[0], threshold=[0.9])[0].tolist()
            told[name] = [int(stock[0].max()), precision, float(np.abs(stock[1] - ours[1]).max()), applied.notes]
            told[name + " again"] = all(np.array_equal(a, b) for a, b in zip(stock, found()))
        print(json.dumps(told))
        """
    )
    for name in ("sparse", "dense"):
        n_cells, precision, off, notes = answer[name]
        assert n_cells > 0
        assert precision == [1.0]
        assert off < 1e-3
        assert notes == []
        assert answer[f"{name} again"] is True


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize(
    ("found", "why"),
    [("nothing", "there is no C++ compiler; install one (pip install ziglang)"), ("broken", "cannot find -lstdc++")],
)
def test_without_a_compiler_the_network_runs_as_it_is_and_says_so(
    found: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if found == "broken":
        compiler = tmp_path / "bin" / "c++"
        compiler.parent.mkdir()
        compiler.write_text("#!/bin/sh\necho 'cannot find -lstdc++' >&2\nexit 1\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path / "home"))
    answer = in_child(
        """
        model = models.Cellpose(model_type="cyto3")
        with variants.apply(model, "winograd") as applied:
            masks = model.eval(synthetic.dense(height_px=96, width_px=96).image, diameter=30, channels=[0, 0])[0]
        print(json.dumps({"notes": applied.notes, "cells": int(masks.max())}))
        """
    )
    assert answer["cells"] > 0
    assert len(answer["notes"]) == 1
    assert "the network ran without it" in answer["notes"][0]
    assert why in answer["notes"][0]
    assert list((tmp_path / "home").rglob("*.so")) == []


@pytest.mark.slow
@pytest.mark.parallel
def test_a_compiler_from_a_package_is_used_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in of the package ziglang passes its arguments to the machine's own compiler."""
    real = shutil.which("c++")
    assert real
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__main__.py").write_text(
        f"import os, sys\nassert sys.argv[1] == 'c++'\nos.environ['PATH'] = {os.environ['PATH']!r}\n"
        f"os.execv({real!r}, [{real!r}, *sys.argv[2:]])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CELLBENCH_HOME", str(tmp_path / "home"))
    answer = in_child(
        """
        model = models.Cellpose(model_type="cyto3")
        with variants.apply(model, "winograd") as applied:
            print(json.dumps({"notes": applied.notes}))
        """
    )
    assert answer == {"notes": []}
    assert len(list((tmp_path / "home").rglob("winograd-*.so"))) == 1


@pytest.mark.parametrize("other", ["channels-last", "folded", "compiled", "bf16"])
def test_it_is_refused_beside_another_way_to_run_the_network(other: str) -> None:
    with pytest.raises(CellbenchError, match="contradict"):
        ALL.parse(f"winograd+{other}", "cpu")
    with pytest.raises(CellbenchError, match="not for cuda"):
        ALL.parse("winograd", "cuda")
