"""Measure images a minute: many images, several processes and several images in flight, in interleaved rounds."""

from __future__ import annotations

import hashlib
import io
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness import files, images, schema
from harness.engines.base import STOCK, Engine
from harness.errors import CellbenchError
from harness.fleet import driver
from harness.fleet.driver import artifacts
from harness.measure.share import image_file
from harness.measure.wire import Order, ThroughputOrder
from harness.plan.cases import Task
from harness.run import bench, resume, tune
from harness.run.bench import Prepared
from harness.schema import Sample
from harness.stats import selection
from harness.store import Store, new_run_id

SUFFIXES = (".tif", ".tiff")
N_GROUPS = 2  # of an engine's variants: what keeps every bit, then the network; others compile for long or change masks
SEARCH_ROUNDS = 2


@dataclass(frozen=True)
class Way:
    """One way to segment many images; a process segments n_in_flight of them at a time."""

    variant: str = STOCK
    n_processes: int = 1
    n_in_flight: int = 1


@dataclass(frozen=True)
class Rate:
    """The result of one way on one device; speedups are to the first way, from interleaved rounds.

    same_masks: whether every image's masks are those of the first way; None where none has a cell.
    """

    node: str
    device: str
    way: Way
    images_per_minute: float | None
    n: int
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    same_masks: bool | None = None
    note: str = ""


def windows(pixels: np.ndarray, side_px: int, n: int) -> list[np.ndarray]:
    """Squares of an image, spread over it so that no two are the same."""
    height_px, width_px = (length - side_px for length in pixels.shape)
    n_columns = max(1, round((n * (width_px + 1) / (height_px + 1)) ** 0.5))
    n_rows = -(-n // n_columns)
    tops = np.linspace(0, height_px, n_rows).astype(int)
    lefts = np.linspace(0, width_px, n_columns).astype(int)
    corners = list(dict.fromkeys(itertools.product(tops, lefts)))[:n]
    if len(corners) < n:
        raise CellbenchError(
            f"there is no room for {n} different squares of {side_px} px", "--n-images, --crop", "ask for fewer"
        )
    return [np.ascontiguousarray(pixels[top : top + side_px, left : left + side_px]) for top, left in corners]


def folder(path: Path, plane: int | None = None, channel: int | None = None) -> list[images.Image]:
    """Every TIFF file of a folder, by name; CellbenchError for a file that cannot be segmented, or where none is."""
    if not path.is_dir():
        raise CellbenchError("there is no such folder of images", str(path), "name a folder")
    found = [each for each in files.listed(path) if each.suffix.lower() in SUFFIXES]
    if not found:
        raise CellbenchError("there is no image in it", str(path), f"files that end with {' or '.join(SUFFIXES)}")
    loaded = [images.load(str(each), plane, channel) for each in found]
    for image in loaded:
        images.check_crops(image, ["full"])
    return loaded


def measure(
    prepared: Prepared,
    here: driver.Fleet,
    pictures: Sequence[np.ndarray],
    ways: Sequence[Way],
    rounds: int,
    out: Path,
    name: str | None = None,
) -> Iterator[Sample]:
    """Measure each way once a round, in separate processes; every row is stored before it is yielded.

    name: the name of all images together; the material's image unless given.
    """
    if most := [way for way in ways if way.n_processes > len(pictures)]:
        raise CellbenchError(
            f"{most[0].n_processes} processes for {len(pictures)} images", "--processes", "give each one an image"
        )
    store, run_id = Store.make(out), new_run_id(time.time())
    resume.write(store, bench.manifest_of(prepared, here, run_id, "throughput"))
    places = here.deliver((*prepared.material.parcels(), *map(_parcel, itertools.count(), pictures)))
    orders = [
        _order(order, way, number, index, pictures, name)
        for index in range(rounds)
        for number, way in _rotated(ways, index)
        for order in bench.orders(_threaded(prepared, way), run_id, places)
    ]
    with store.journal(run_id) as journal, closing(here.batches(orders)) as batches:
        yield from journal.record(batches)


def search(timed: Callable[[list[Way]], Sequence[Rate]], engine: Engine, backend: str, n_images: int) -> Way:
    """Find the fastest way with stock's masks: variants first, then processes and images in flight.

    timed: measures ways in interleaved rounds, stock first. The rate of the answer was chosen as the highest, so it is
    known only from further rounds.
    """
    best = Way()
    for group in engine.searched[:N_GROUPS]:
        names, _ = tune.possible(engine, group, {best.variant}, backend)
        best = _fastest(timed, best, [replace(best, variant=name) for name in names])
    before = None
    while best != before:
        before = best
        more = replace(best, n_processes=2 * best.n_processes), replace(best, n_in_flight=2 * best.n_in_flight)
        best = _fastest(timed, best, [way for way in more if way.n_processes * way.n_in_flight <= n_images])
    return best


def _fastest(timed: Callable[[list[Way]], Sequence[Rate]], best: Way, others: Sequence[Way]) -> Way:
    """The fastest of these ways, if its masks are stock's and it beats the best so far by enough."""
    if not others:
        return best
    found = {rate.way: rate for rate in timed([*dict.fromkeys((Way(), best, *others))])}
    if found[Way()].same_masks is None:
        raise CellbenchError("no cell was found", "--auto", "equal masks prove nothing without cells: use other images")
    passing = {way: rate.images_per_minute or 0.0 for way, rate in found.items() if rate.same_masks and not rate.note}
    fastest = max(passing, key=lambda way: passing[way], default=best)
    return fastest if passing.get(fastest, 0.0) > tune.WORTH * passing.get(best, 0.0) else best


def rates(rows: Sequence[Sample]) -> list[Rate]:
    """The rows as one rate for each way and device, in the order in which the ways were given."""
    of: dict[tuple[str, str, Way], list[Sample]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["node"], row["device"], row["position"])):
        if row["role"] == "throughput":
            way = Way(row["variant"], row["n_processes"], row["n_in_flight"])
            of[row["node"], row["device"], way].append(row)
    first: dict[tuple[str, str], list[Sample]] = {}
    found = []
    for (node, device, way), its in of.items():
        good = sorted((row for row in its if row["status"] == "ok"), key=lambda row: row["repetition"])
        bad = [row for row in its if row["status"] not in schema.FINE]
        note = f"{bad[0]['status']}: {bad[0]['error_message']}" if bad else ""
        stock = first.setdefault((node, device), good)
        rate = statistics.median(60 * row["n_images"] / row["elapsed_s"] for row in good) if good else None
        turns = {row["repetition"]: row["elapsed_s"] for row in good}
        both = [(row["elapsed_s"], turns[row["repetition"]]) for row in stock if row["repetition"] in turns]
        known = _gain(both) if both and stock is not good else (None, None, None)
        masks = {row["mask_sha256"] for row in good} | {row["mask_sha256"] for row in stock}
        same = len(masks) == 1 if any(row["n_cells"] for row in (*good, *stock)) else None
        same_masks = same if good else None
        found.append(Rate(node, device, way, rate, len(good), known[0], known[1], known[2], same_masks, note))
    return found


def _gain(pairs: Sequence[tuple[float, float]]) -> tuple[float, float | None, float | None]:
    """The speed-up with its 95 % CI, from rounds of the first way and another, each in separate processes."""
    first_s, other_s = np.array(pairs).T[..., None]
    found = selection.gain(other_s, first_s)
    return found.times, found.low, found.high


def _parcel(index: int, pixels: np.ndarray) -> artifacts.Parcel:
    content = io.BytesIO()
    np.save(content, pixels)
    return artifacts.parcel(image_file(index), content.getvalue())


def _rotated(ways: Sequence[Way], index: int) -> list[tuple[int, Way]]:
    """The ways with their numbers; each round begins with another one."""
    numbered = list(enumerate(ways))
    start = index % len(ways)
    return numbered[start:] + numbered[:start]


def _threaded(prepared: Prepared, way: Way) -> Prepared:
    """Divide the cores of a node among its processes."""
    blocks = tuple(replace(block, threads=max(1, block.threads // way.n_processes)) for block in prepared.blocks)
    return replace(prepared, blocks=blocks)


def _order(
    order: Order, way: Way, number: int, index: int, pictures: Sequence[np.ndarray], name: str | None
) -> ThroughputOrder:
    """One way in one round: a block of its own."""
    case = replace(order.block.cases[0], variant=way.variant)
    together = hashlib.sha256("".join(map(images.hash_pixels, pictures)).encode()).hexdigest()
    constants = {**order.constants, "image_sha256": together} | ({"image": name} if name else {})
    block = replace(order.block, index=index, tasks=(Task("throughput", case, number),))
    counts = {"n_images": len(pictures), "n_processes": way.n_processes, "n_in_flight": way.n_in_flight}
    return ThroughputOrder(**{**vars(order), "block": block, "constants": constants, **counts})
