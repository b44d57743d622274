"""What driving many nodes costs: a simulated fleet on this machine whose calls sleep instead of segmenting.

    python scripts/benchmarks/fleet_scale.py --nodes 1,4,16

Each node is a raylet of its own (ray.cluster_utils.Cluster, about 130 MB each), which gets the same block of the
simulated engine: cases × repetitions of one sleep. It is measured inside the node's actor, not in a process of its
own, since this machine lacks the memory for these. Samples come through the dispatch and the journal of a real run.
Prints, per number of nodes: the makespan against that of one node, the gap between two repetitions of a node (a
perfect driver leaves none), and the driver's own processor time. Then the time to plan 1,000 nodes × 20 cases. Run it
on an otherwise idle machine; start-up is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from harness import images, schema
from harness.engines.simulated.engine import Simulated
from harness.engines.simulated.script import Script
from harness.fleet import ray_settings
from harness.fleet.driver import scheduler
from harness.fleet.driver.actor import Relay
from harness.machine.accelerators import Device
from harness.measure import block, parent
from harness.measure.block import Finished
from harness.measure.wire import Order
from harness.plan import blocks, config
from harness.plan.cases import Node
from harness.schema import Sample
from harness.store import Store, new_run_id

STORE_BYTES = 80 * 2**20  # the least that Ray takes
PIXELS = np.zeros((256, 256), np.uint16)
WARMUPS = 1


def performed(script: Script, order: Order) -> Iterator[Sample | Finished]:
    """A block, measured in this very process."""
    for each in block.samples(order, Simulated(script)):
        yield each if isinstance(each, Finished) else parent.from_wire(each)


def orders(n_nodes: int, n_cases: int, repeats: int, pixels_file: Path, run_id: str) -> list[Order]:
    flags = {"models": ("sleep",), "crops": tuple(range(64, 64 + n_cases)), "devices": ("cpu",), "repeats": repeats,
             "warmups": WARMUPS, "blocks": 1, "control": False, "idle_wait_s": 0.0}  # fmt: skip
    planned = blocks.blocks(config.load("quick", flags), *PIXELS.shape, simulated_nodes(n_nodes))
    constants = {"schema_version": schema.VERSION, "source": "measured", "run_id": run_id}
    return [
        Order(each, str(pixels_file), images.hash_pixels(PIXELS), "", {**constants, "node": each.node})
        for each in planned
    ]


def simulated_nodes(n_nodes: int) -> list[Node]:
    return [Node(f"sim{i:04}", (Device("cpu", 0, "simulated"),), 1) for i in range(n_nodes)]


def measure(ray: Any, relays: dict[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One run over these nodes."""
    run_id = new_run_id(time.time())
    np.save(folder / "image.npy", PIXELS)
    todo = orders(len(relays), args.cases, args.repeats, folder / "image.npy", run_id)
    n_samples = 0
    ends: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with Store.make(folder).journal(run_id) as journal:
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        for sample in scheduler.samples(ray, relays, todo, {name: {} for name in relays}):
            journal.append(sample)
            n_samples += 1
            if sample["phase"] != "call":
                continue
            begun_s = sample["started_at"].timestamp()
            ends[sample["node"]].append((begun_s, begun_s + sample["elapsed_s"]))
        makespan_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    n_calls = 1 + args.cases * (WARMUPS + args.repeats)  # the first one is the process's own
    assert {len(spans) for spans in ends.values()} == {n_calls}, "samples are missing"
    gaps_s = sorted(b[0] - a[1] for spans in ends.values() for a, b in pairwise(spans))
    n_cases = len(relays) * args.cases
    return {
        "makespan_s": makespan_s,
        "gap_ms": 1e3 * statistics.median(gaps_s),
        "gap_p95_ms": 1e3 * gaps_s[int(0.95 * len(gaps_s))],
        "driver_ms_per_sample": 1e3 * cpu_s / n_samples,
        "driver_ms_per_case": 1e3 * cpu_s / n_cases,
    }


def fleet(n_nodes: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Start that many nodes, wait until their relays run, measure, and end them."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    quiet = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    try:
        names = [node.name for node in simulated_nodes(n_nodes)]
        for name in names:
            cluster.add_node(
                num_cpus=1, resources={"bench_slot": 1}, labels={"bench/host": name}, object_store_memory=STORE_BYTES
            )
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ids = {node["Labels"].get("bench/host"): node["NodeID"] for node in ray.nodes()}
        pinned = {
            name: ray.remote(Relay).options(
                num_cpus=0, resources={"bench_slot": 1},
                scheduling_strategy=NodeAffinitySchedulingStrategy(ids[name], soft=False),
            )
            for name in names
        }  # fmt: skip
        perform = partial(performed, Script(call_s=args.sleep))
        relays = {name: each.remote(perform) for name, each in pinned.items()}
        ray.get([relay.next.remote() for relay in relays.values()])  # each runs, without any event yet
        measure(ray, relays, argparse.Namespace(**{**vars(args), "cases": 1, "repeats": 2}), folder)  # connections
        return measure(ray, relays, args, folder)
    finally:
        ray.shutdown()
        cluster.shutdown()


def planning_s(n_nodes: int, n_cases: int) -> float:
    """Seconds to plan one run."""
    start_s = time.perf_counter()
    todo = orders(n_nodes, n_cases, 5, Path("image.npy"), "planned")
    elapsed_s = time.perf_counter() - start_s
    assert sum(len(order.block.cases) for order in todo) == n_nodes * n_cases
    return elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,4,16", help="numbers of nodes; the first is what others are compared to")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sleep", type=float, default=0.2, help="seconds of one repetition")
    args = parser.parse_args()
    # No other user is on this machine's loopback, so no token is needed.
    os.environ.update({**ray_settings.ENVIRONMENT, "RAY_AUTH_MODE": "disabled"})
    print("| nodes | makespan, s | to one node | gap, ms | gap p95, ms | driver CPU, ms/sample | driver CPU, ms/case |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    base_s = None
    with TemporaryDirectory() as folder:
        for n_nodes in config.split(args.nodes):
            print(f"starting {n_nodes} nodes", file=sys.stderr, flush=True)
            found = fleet(n_nodes, args, Path(folder))
            base_s = base_s or found["makespan_s"]
            print(
                f"| {n_nodes} | {found['makespan_s']:.2f} | {found['makespan_s'] / base_s:.3f} | {found['gap_ms']:.1f} "
                f"| {found['gap_p95_ms']:.1f} | {found['driver_ms_per_sample']:.2f} "
                f"| {found['driver_ms_per_case']:.2f} |",
                flush=True,
            )
    print(f"planning 1,000 nodes × 20 cases: {min(planning_s(1000, 20) for _ in range(3)):.3f} s")


if __name__ == "__main__":
    main()
