"""How often a scaling law predicts right and its misfit is noticed, and which words a speed-up's trend gets.

    python scripts/benchmarks/scaling_claims.py [--seed 10] [--trials 1000] [--quick]

True times are fixed + per tile + per megapixel, with the tiles that cellpose 3 cuts of the article's ten crops, each of
which has cells of its own size (diameters of 50 to 69 px). Each crop is timed by three processes of five calls.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product

import noise
import numpy as np
from noise import Machine

from harness.engines import registry
from harness.stats import law, trend

SIDES = ((224, 224), (448, 448), (672, 672), (896, 896), (1120, 1120), (1344, 1344), (1568, 1568), (1792, 1792),
         (2016, 2016), (2160, 2560))  # fmt: skip
MPX = np.array([height * width / 1e6 for height, width in SIDES])
LENGTHS = np.sqrt(MPX) * 1000
DIAMETERS = (50.0, 69.0)
PROCESSES = 3
ENGINE = registry.engine("cellpose3")


@dataclass(frozen=True)
class Device:
    """Seconds: fixed, per tile, per megapixel."""

    name: str
    fixed_s: float
    per_tile_s: float
    per_mpx_s: float

    def times(self, tiles: np.ndarray) -> np.ndarray:
        return self.fixed_s + self.per_tile_s * tiles + self.per_mpx_s * MPX


DEVICES = (
    Device("CPU of 2 cores", 0.05, 0.42, 0.5),
    Device("CPU of 16 cores", 0.05, 0.13, 0.5),
    Device("GPU of a laptop", 0.2, 0.06, 0.6),
    Device("GPU of a desktop", 0.2, 0.012, 0.4),
    Device("GPU of a server", 0.1, 0.003, 0.38),
)
LEVELS = (0.01, 0.03, 0.05)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """The tiles of each crop, whose cells have some diameter."""
    diameters = rng.uniform(*DIAMETERS, len(SIDES))
    return np.array(
        [ENGINE.work("cyto3", *side, diameter).n_tiles for side, diameter in zip(SIDES, diameters, strict=True)]
    )


def process_times(rng: np.random.Generator, machine: Machine, times: np.ndarray, n: int = PROCESSES) -> np.ndarray:
    """Medians of processes × sizes; half of the variance of a process is common to its sizes."""
    own = noise.processes(rng, machine, (n, len(times)))
    common = machine.process * noise.luck(rng, machine.shape, (n, 1))
    return times * np.exp(own + common)


def coverage(rng: np.random.Generator, device: Device, machine: Machine, trials: int) -> tuple[float, float]:
    """How often predictions for a size between the others, left out of the fit, hold.

    The first: what these processes take there. The second: what one further process takes there.
    """
    found = []
    for _ in range(trials):
        cut = tiles(rng)
        values = process_times(rng, machine, device.times(cut))
        left_out = rng.integers(1, len(SIDES) - 1)
        kept = np.arange(len(SIDES)) != left_out
        known = law.fit(cut[kept], MPX[kept], values[:, kept])
        work = cut[left_out], MPX[left_out]
        if known and (measured := known.at(*work)) and (further := known.of_process(*work)):
            [other] = process_times(rng, machine, device.times(cut), 1)
            pairs = (measured, np.exp(np.log(values[:, left_out]).mean())), (further, other[left_out])
            found.append([each.low_s <= value <= each.high_s for each, value in pairs])
    of_processes, of_further = np.mean(found, axis=0)
    return float(of_processes), float(of_further)


def refusals(
    rng: np.random.Generator, device: Device, machine: Machine, is_line: bool, trials: int
) -> tuple[float, float]:
    """How often a law is not shown, and what it misses (median). is_line: a straight line over pixels is fitted."""
    laws = []
    for _ in range(trials):
        cut = tiles(rng)
        values = process_times(rng, machine, device.times(cut))
        laws.append(law.fit(np.zeros(len(cut)) if is_line else cut, MPX, values))
    return float(np.mean([not each.is_good for each in laws])), float(np.median([each.misfit for each in laws]))


SHAPES = {  # of a speed-up over the ten sizes, on logarithms
    "equal from the third size on": np.log([4, 8, *[10] * 8]),
    "grows by 5 % a size to the end": np.log(8) + 0.05 * np.arange(10),
    "grows by 10 % a size to the end": np.log(5) + 0.10 * np.arange(10),
    "falls by 10 % a size": np.log(12) - 0.10 * np.arange(10),
}


def words(rng: np.random.Generator, shape: np.ndarray, machine: Machine, trials: int) -> tuple[list[float], float]:
    """The share of each word for a speed-up of this shape, and the share of wrong intervals of its change."""
    slow = DEVICES[1].times(tiles(rng))
    found = [
        trend.trend(LENGTHS, process_times(rng, machine, slow), process_times(rng, machine, slow / np.exp(shape)))
        for _ in range(trials)
    ]
    wrong = [
        not each.change[1] <= np.exp(shape[-1] - shape[np.searchsorted(LENGTHS, each.from_px)]) <= each.change[2]
        for each in found if each.change
    ]  # fmt: skip
    output = [each.word for each in found]
    shares = [output.count(word) / trials for word in (trend.RISING, trend.FLAT, trend.FALLING, trend.UNKNOWN)]
    return shares, sum(wrong) / trials


def percent(share: float) -> str:
    """A share in the format of the tables."""
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="fewer cells and trials")
    args = parser.parse_args()
    trials = 30 if args.quick else args.trials
    levels = LEVELS[1:2] if args.quick else LEVELS
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, {trials} trials a cell, numpy {np.__version__}\n")
    print(
        "| device | processes differ by | left-out size held, worst to best noise | further process held "
        "| tile law rejected | line rejected |"
    )
    print("|---|---|---|---|---|---|")
    for device, level in product(DEVICES, levels):
        machines = [Machine(shape, process=level * np.sqrt(0.5), call=level / 2) for shape in noise.SHAPES]
        shares, further = zip(*(coverage(rng, device, machine, trials) for machine in machines), strict=True)
        own = max(refusals(rng, device, machine, False, trials // 2)[0] for machine in machines)
        lines = [refusals(rng, device, machine, True, trials // 2) for machine in machines]
        line, misses = min(share for share, _ in lines), lines[0][1]
        print(
            f"| {device.name} | {level:.0%} | {percent(min(shares))}–{percent(max(shares))} "
            f"| {percent(min(further))}–{percent(max(further))} | {percent(own)} "
            f"| {percent(line)}, which misses {percent(misses)} |", flush=True,
        )  # fmt: skip
    print(
        "\n| speed-up | processes differ by | still rising | flat | falling | not decided | wrong interval of change |"
        "\n|---|---|---|---|---|---|---|"
    )
    for (name, shape), level in product(SHAPES.items(), levels):
        machine = Machine(process=level * np.sqrt(0.5), call=level / 2)
        shares, wrong = words(rng, shape, machine, trials)
        print(f"| {name} | {level:.0%} | " + " | ".join(percent(share) for share in [*shares, wrong]) + " |")


if __name__ == "__main__":
    main()
