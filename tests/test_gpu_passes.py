"""Cellpose 3's network passes on a CUDA device without hardware (fake_gpu): bits of the CPU, one wait for each pass."""

from __future__ import annotations

import pytest

from tests.test_variants import DRAWN, in_child

PRELUDE = (
    DRAWN
    + """
from cellpose import resnet_torch
from harness.engines.cellpose3.variants import network
from harness.engines.cellpose3.variants.settings import ALL
from tests import fake_gpu
gpu = fake_gpu.FakeGpu()
torch.compile = fake_gpu.compiled

def model(net, is_on_gpu):
    made = models.Cellpose(model_type="cyto3")
    made.cp.net = net(made)
    made.cp.net.mkldnn = False
    if is_on_gpu:
        made.cp.device = fake_gpu.DEVICE
        with gpu:
            fake_gpu.move(made.cp.net)
    return made

def drawn(made):
    return Drawn(made.sz.params["smean"])

def narrow(made):
    '''Stock's network with few channels, which finds no cells: the diameters are those of an empty image.'''
    torch.manual_seed(0)
    net = resnet_torch.CPnet([2, 4, 4, 4, 4, 256], 3, 3).eval()
    net.output[2].bias.data[2] = -100
    made.sz._size_estimation = lambda styles: 30.0 + float(np.abs(styles).sum()) / 100
    return net

def waits(model, name, *args, **kwargs):
    '''The result of a call with a variant, and how often the host waited.'''
    before = gpu.n_waits
    with gpu, variants.apply(model, name) as applied:
        found = model.eval(*args, **kwargs)
    assert not [note for note in applied.notes if "failed" in note], applied.notes
    assert not gpu.is_busy, "the call did not wait for its last copy"
    return found, gpu.n_waits - before
"""
)


@pytest.mark.slow
@pytest.mark.parallel
def test_a_pass_waits_once_and_has_the_bits_of_the_cpu_for_images_of_every_size() -> None:
    answer = in_child(
        """
        rng, wrong, told = np.random.default_rng(3), [], {"queued": 0, "cells": 0}
        there, here = model(drawn, True), model(drawn, False)
        variants.apply(here, "lossless")
        sides = [(25, 31), (90, 131), (224, 210), (251, 300), (401, 266), (470, 500)]
        for k in range(40):
            height, width = sides[k % len(sides)]
            one = lambda: image(rng, height, width, [0, 4, 40][k // 2 % 3]).astype(np.float32)
            x = [one(), one().T] if k % 20 == 7 else one()
            how = dict(diameter=[0, None, 17, 30.0, 44.4][k % 5], batch_size=int(rng.integers(1, 10)),
                       channels=[0, 0], tile_overlap=[0.1, 0.3][k // 3 % 2], bsize=[224, 96][k // 4 % 2],
                       augment=k % 20 == 13)
            name = ["lossless", "fast-images+fast-dynamics", "lossless+cuda-graphs", "fast-dynamics"][k // 5 % 4]
            found, n_waits = waits(there, name, x, **how)
            n_passes = (1 if how["diameter"] else 3) * (len(x) if isinstance(x, list) else 1)
            is_queued = name != "fast-dynamics" and not how["augment"]
            if not same(found, here.eval(x, **how)) or (n_waits != n_passes if is_queued else n_waits < 3 * n_passes):
                wrong.append([k, height, width, name, n_waits, n_passes, str(how)])
            told["queued"] += is_queued
            told["cells"] += 0 if isinstance(x, list) else int(found[0].max())
        print(json.dumps({"wrong": wrong, **told}))
        """,
        PRELUDE,
    )
    assert answer.pop("wrong") == []
    assert answer["queued"] > 25
    assert answer["cells"] > 100


@pytest.mark.slow
@pytest.mark.parallel
def test_every_form_of_the_network_gives_the_bits_of_passes_that_wait_for_each_batch() -> None:
    answer = in_child(
        """
        there, told, n_waits, results = model(narrow, True), {}, {}, {}
        cells = synthetic.dense(height_px=250, width_px=230).image
        def call(name):
            return waits(there, name, cells, diameter=0, channels=[0, 0], batch_size=3)
        largest = fast.LARGEST_PINNED_BYTES
        for name in ("", "+channels-last", "+folded", "+bf16", "+compiled", "+cuda-graphs+fp16+channels-last"):
            results[name], n_waits[name] = call("lossless" + name)
            fast.LARGEST_PINNED_BYTES = 0
            waited, n = call("lossless" + name)
            fast.LARGEST_PINNED_BYTES = largest
            told[name] = same(results[name], waited) and n > 5
        told["another precision"] = not same(results["+bf16"], results[""])
        tiles = np.random.default_rng(1).standard_normal((5, 2, 224, 224)).astype(np.float32)
        with gpu:
            runs = [network.Runner(there.cp.net, "", ALL.parse(name)) for name in ("plain", "cuda-graphs")]
            flows = [run(tiles, n)[0] for run, n in zip(runs, (5, 3))]
        told["a graph that runs twice"] = bool(np.allclose(*flows, atol=1e-4))
        allowed = lambda: (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        before = allowed()
        for name, wanted in (("tf32", True), ("no-tf32", False)):
            with gpu, variants.apply(there, name):
                told[name] = allowed() == (wanted, wanted)
        told["tf32 as before"] = allowed() == before
        gpu.can_pin = False
        waited, n = call("lossless")
        told["no memory to pin"] = same(waited, results[""]) and n > 5
        gpu.can_pin = True
        print(json.dumps({"told": told, "n_waits": n_waits}))
        """,
        PRELUDE,
    )
    assert [name for name, is_same in answer["told"].items() if not is_same] == []
    assert set(answer["n_waits"].values()) == {3}


@pytest.mark.slow
@pytest.mark.parallel
def test_stages_of_the_real_network_are_true_and_change_nothing() -> None:
    answer = in_child(
        """
        from harness.engines.cellpose3 import stage_hooks
        from harness.engines.cellpose3.catalogue import CATALOGUE
        from harness.measure.passes import stages
        there, here = model(lambda made: made.cp.net, True), model(lambda made: made.cp.net, False)
        there.recorded = stage_hooks.timing
        cells, how = synthetic.dense(height_px=270, width_px=60).image, dict(diameter=0, channels=[0, 0], batch_size=1)
        with variants.apply(here, "lossless"):
            expected = here.eval(cells, **how)
        found, n_waits = waits(there, "lossless", cells, **how)
        with gpu, variants.apply(there, "lossless"):
            # The clock counts operations of the device that the host has waited for.
            recorded, n_ops, parts = stages.measure(
                lambda: there.eval(cells, **how), there, CATALOGUE, torch.cuda.synchronize, lambda: gpu.n_done * 10**9)
        n_tiles, ops = sum(part.n_tiles or 0 for part in parts), {}
        for part in parts:
            ops[part.stage] = ops.get(part.stage, 0) + part.elapsed_s
        print(json.dumps({"same": same(found, expected) and same(recorded, expected), "cells": int(found[0].max()),
                          "n_waits": n_waits, "n_tiles": n_tiles, "n_ops": n_ops,
                          "stages": {stage: n for stage, n in ops.items() if n}}))
        """,
        PRELUDE,
    )
    assert answer["same"]
    assert answer["cells"] > 2
    assert answer["n_waits"] == 3
    assert set(answer["stages"]) == {"tile", "network"}, "no work of the device is counted for a stage on the host"
    assert sum(answer["stages"].values()) == answer["n_ops"]
    assert answer["stages"]["network"] > 50 * answer["n_tiles"]
