"""The host's part of a call of Cellpose 3: everything but the network, whose outputs are recorded once and replayed.

    python scripts/benchmarks/host_share.py --out results/host
    python scripts/benchmarks/host_share.py --out results/host --image my.tif:full --variants stock,lossless --rounds 5

An image is NAME or FILE, with :CROP behind it for a centred square. The first run records what the network with these
weights returns for each tile (minutes on a CPU); later runs use the file in --out. Each repetition is a fresh
process that makes one call for nothing and times the next one. Variants and numbers of threads alternate, in rotating
order. Prints median seconds and range of each stage as Markdown; exits with 1 if a variant gives other masks, flows or
styles than the first one. --clock cpu counts the processor time of all threads, for a machine that has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import images, markdown
from harness.engines import registry
from harness.engines.cellpose3 import weights
from harness.engines.cellpose3.catalogue import CATALOGUE
from harness.machine import probe
from harness.measure.passes import stages

if TYPE_CHECKING:
    import torch

CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}
MODEL = registry.default_model()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("--variants", default="stock,lossless")
    parser.add_argument("--threads", default="", help="numbers of threads; 1, 2, 4 … all cores where it is not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="standin")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        call(args, *args.child)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    same = [measured(args, image) for image in args.image or ["sparse", "dense:1344"]]
    sys.exit(0 if all(same) else 1)


def measured(args: argparse.Namespace, image: str) -> bool:
    """Record and replay one image, and print its table; whether every variant gave the same result."""
    if not recording(args, image).is_file():
        child(args, image, "record", probe.n_cores())
    threads = [int(n) for n in args.threads.split(",") if n] or up_to(probe.n_cores())
    cases = [(variant, n) for n in threads for variant in args.variants.split(",")]
    seconds: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    results: dict[str, str] = {}
    for round_ in range(args.rounds):
        first = round_ % len(cases)
        for variant, n in cases[first:] + cases[:first]:
            found = child(args, image, variant, n)
            results.setdefault(variant, found["result"])
            for stage, elapsed_s in found["seconds"].items():
                seconds[stage, variant, n].append(elapsed_s)
    same = {variant: result == results[cases[0][0]] for variant, result in results.items()}
    print(f"\n### {found['name']}: {found['n_cells']} cells, {args.clock} time in s, n = {args.rounds}\n")
    head = ["stage", *(f"{variant}, {n} thread{'s' * (n > 1)}" for variant, n in cases)]
    first = [(stage, *cases[0]) for stage, *case in seconds if tuple(case) == cases[0]]
    names = [stage for stage, *_ in sorted(first, key=lambda key: -median(seconds[key]))]
    body = [[stage, *(cell(seconds[stage, *case]) for case in cases)] for stage in names]
    print("\n".join(markdown.table(head, body, range(1, len(head)))))
    for variant, is_same in same.items():
        print(
            f"\n{variant}: masks, flows and styles {'are those' if is_same else 'DIFFER from those'} of {cases[0][0]}"
        )
    return all(same.values())


def cell(seconds: list[float]) -> str:
    """Median and range."""
    return f"{median(seconds):.3f} ({min(seconds):.3f} – {max(seconds):.3f})" if seconds else "–"


def up_to(n_cores: int) -> list[int]:
    """1, 2, 4 … and all cores."""
    return sorted({*(2**i for i in range(n_cores.bit_length())), n_cores})


def recording(args: argparse.Namespace, image: str) -> Path:
    """The file with the network's outputs for an image."""
    return args.out / f"{sha256(f'{image} {args.weights}'.encode()).hexdigest()[:16]}.npz"


def child(args: argparse.Namespace, image: str, what: str, n_threads: int) -> Any:
    """Start a fresh process for one repetition, or for the recording; returns what it prints."""
    environ = {"CELLPOSE_LOCAL_MODELS_PATH": weights.resolve(args.weights).folder, "OMP_NUM_THREADS": str(n_threads)}
    words = ["--out", args.out, "--weights", args.weights, "--clock", args.clock, "--child", image, what, n_threads]
    done = subprocess.run([sys.executable, __file__, *map(str, words)], env=os.environ | environ, check=True,
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def call(args: argparse.Namespace, image: str, what: str, n_threads: str) -> None:
    """The work of one process."""
    engine = registry.engine_of(MODEL)
    engine.set_threads(int(n_threads))
    source, _, side = image.rpartition(":") if image.endswith(":full") or image[-1].isdigit() else (image, "", "full")
    loaded = images.load(source)
    pixels = images.crop(loaded.pixels, side if side == "full" else int(side))
    model: Any = engine.load(MODEL, "cpu", "float32")
    file = recording(args, image)
    if what == "record":
        with recorded(model.stock.cp) as outputs:
            found = model.stock.eval(pixels, diameter=0, channels=[0, 0])
        with file.with_suffix(".part").open("wb") as written:
            np.savez(written, *(each for batch in outputs for each in batch))
        file.with_suffix(".part").replace(file)
        print(json.dumps({"n_cells": int(found[0].max())}))
        return
    model.stock.cp.net = net = replay(model.stock.cp.net, file)
    outcome: list[Any] = []

    def segment() -> Any:
        net.begin()
        outcome[:] = model.stock.eval(pixels, diameter=0, channels=[0, 0])

    with model.applied(engine.variant(what, "cpu")):
        segment()
        _, total_s, parts = stages.measure(segment, model, CATALOGUE, lambda: None, CLOCKS[args.clock])
    seconds: dict[str, float] = defaultdict(float, {"host": total_s})
    for part in parts:
        seconds[part.stage] += part.elapsed_s
    seconds["host"] -= seconds["network"]
    masks, flows, styles, diameter_px = outcome
    arrays = [masks, *flows, styles, np.array(diameter_px)]
    digest = sha256(b"".join(f"{each.dtype} {each.shape}".encode() + each.tobytes() for each in arrays))
    name = f"{loaded.name}, {pixels.shape[0]} × {pixels.shape[1]} px"
    print(json.dumps({"name": name, "n_cells": int(masks.max()), "seconds": seconds, "result": digest.hexdigest()}))


@contextmanager
def recorded(model: Any) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """The outputs of a CellposeModel's network, batch by batch, while the context lasts."""
    from cellpose import core

    original, outputs = core._forward, []

    def forward(net: Any, x: Any) -> Any:
        outputs.append(original(net, x))
        return outputs[-1]

    core._forward = forward
    try:
        yield outputs
    finally:
        core._forward = original


def replay(stock: Any, file: Path) -> Any:
    """A network that takes no time: it returns the recorded outputs of the tiles, in any number at a time."""
    import torch

    with np.load(file) as written:
        arrays = [torch.from_numpy(written[name]) for name in written.files]
    batches = zip(arrays[::2], arrays[1::2], strict=True)
    tiles = [tile for flows, styles in batches for tile in zip(flows, styles, strict=True)]

    class Replay(torch.nn.Module):
        """The attributes of a CPnet that a call uses."""

        nout, mkldnn, device = stock.nout, False, torch.device("cpu")

        def begin(self) -> None:
            """Go to the first tile."""
            self._tiles = iter(tiles)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            flows, styles = zip(*(next(self._tiles) for _ in x), strict=True)
            assert flows[0].shape[1:] == x.shape[2:], "the recording is of other tiles"
            return torch.stack(flows), torch.stack(styles)

        def downsample(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

        def make_style(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([next(self._tiles)[1] for _ in x])

    return Replay()


if __name__ == "__main__":
    main()
