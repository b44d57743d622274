"""What driving many nodes costs: a simulated fleet on this machine whose calls sleep instead of segmenting.

    python scripts/benchmarks/fleet_scale.py --nodes 1,4,16
    python scripts/benchmarks/fleet_scale.py --nodes 1,64,256 --share 32 --sleep 2 --cases 5 --lose 8

Each node is a raylet of its own (ray.cluster_utils.Cluster, about 130 MB each), which gets the same block of the
simulated engine: cases × repetitions of one sleep. It is measured inside the node's actor, not in a process of its
own, since this machine lacks the memory for these. Samples come through the dispatch and the journal of a real run.
With --share N each raylet stands for N nodes, whose relays are threads of one actor: hundreds of raylets need more
memory than most machines have. The driver makes the same requests, over fewer connections. With --lose N, a raylet
joins after a third of the samples, and at least N nodes are lost after half of them; each of their cases must end as a
row. Prints, per number of nodes: the makespan against that of one node, the time until the last node begins its first
call, the gap between two repetitions of a node (a perfect driver leaves none), and the driver's own processor time and
memory. Then the time to plan 1,000 nodes × 20 cases. Run it on an otherwise idle machine; start-up is not counted.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness import images, schema
from harness.engines.simulated.engine import Simulated
from harness.engines.simulated.script import Script
from harness.fleet import ray_settings
from harness.fleet.driver import scheduler
from harness.fleet.driver.actor import Relay
from harness.machine import probe
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


class Nodes:
    """Several simulated nodes in one actor, which has a thread for each.

    They look at the machine once: real nodes do it at the same time, each on its own processor.
    """

    def __init__(self, n_nodes: int, perform: Any) -> None:
        probe.facts, probe.environment = cache(probe.facts), cache(probe.environment)
        self._relays = [Relay(perform) for _ in range(n_nodes)]

    def begin(self, index: int, order: Order) -> Any:
        return self._relays[index].begin(order)

    def next(self, index: int) -> Any:
        return self._relays[index].next()


class Handle:
    """What the driver has of one of them: it looks like the handle of an actor."""

    def __init__(self, actor: Any, index: int) -> None:
        self.actor = actor
        self.begin = SimpleNamespace(remote=partial(actor.begin.remote, index))
        self.next = SimpleNamespace(remote=partial(actor.next.remote, index))


def accident(relays: dict[str, Any], n_lost: int, kill: Callable[[Any], None]) -> set[str]:
    """End the actors of at least this number of nodes; returns the names of the nodes."""
    lost: set[str] = set()
    for relay in list(relays.values()):
        if len(lost) >= n_lost:
            break
        if not any(relays[name].actor is relay.actor for name in lost):
            kill(relay.actor)
            lost |= {name for name, each in relays.items() if each.actor is relay.actor}
    return lost


def measure(
    ray: Any, relays: dict[str, Any], args: argparse.Namespace, folder: Path, join: Callable[[], object] | None = None
) -> dict[str, float]:
    """One run over these nodes; join: adds another one, for a run in which nodes are lost."""
    run_id = new_run_id(time.time())
    np.save(folder / "image.npy", PIXELS)
    todo = orders(len(relays), args.cases, args.repeats, folder / "image.npy", run_id)
    n_cases = len(relays) * args.cases
    n_planned = n_cases * (WARMUPS + args.repeats)
    n_samples, n_done, lost, n_lost_cases = 0, 0, set[str](), 0
    ends: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with Store.make(folder).journal(run_id) as journal:
        start_s, start_cpu_s, begin_s = time.perf_counter(), time.process_time(), time.time()
        for sample in journal.record(scheduler.batches(ray, relays, todo, {name: {} for name in relays})):
            n_samples += 1
            if join and n_samples == n_planned // 3:
                join()
            if join and n_samples == n_planned // 2:
                lost = accident(relays, args.lose, ray.kill)
            n_lost_cases += sample["status"] == "node_lost"
            if sample["phase"] != "call" or sample["elapsed_s"] is None:
                continue
            n_done += sample["role"] == "timed" and sample["repetition"] == args.repeats - 1
            begun_s = sample["started_at"].timestamp()
            ends[sample["node"]].append((begun_s, begun_s + sample["elapsed_s"]))
        makespan_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    n_calls = 1 + args.cases * (WARMUPS + args.repeats)  # the first one is the process's own
    assert {len(spans) for name, spans in ends.items() if name not in lost} == {n_calls}, "samples are missing"
    assert n_done + n_lost_cases == n_cases, "a case has no end"
    gaps_s = sorted(b[0] - a[1] for spans in ends.values() for a, b in pairwise(spans))
    return {
        "makespan_s": makespan_s,
        "start_s": max(spans[0][0] for spans in ends.values()) - begin_s,
        "gap_ms": 1e3 * statistics.median(gaps_s),
        "gap_p95_ms": 1e3 * gaps_s[int(0.95 * len(gaps_s))],
        "driver_ms_per_sample": 1e3 * cpu_s / n_samples,
        "driver_ms_per_case": 1e3 * cpu_s / n_cases,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "lost": len(lost),
    }


def fleet(n_nodes: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Start that many nodes, wait until their relays run, measure, and end them."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    quiet = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    late: list[subprocess.Popen[bytes]] = []
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    try:
        names = [node.name for node in simulated_nodes(n_nodes)]
        parts = [names[i : i + args.share] for i in range(0, n_nodes, args.share)]

        def add(label: str) -> None:
            cluster.add_node(
                num_cpus=1, resources={"bench_slot": 1}, labels={"bench/host": label}, object_store_memory=STORE_BYTES
            )

        def join() -> None:
            words = [f"--address={cluster.address}", "--block", "--num-cpus=1", '--resources={"bench_slot":1}']
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            late.append(subprocess.Popen([sys.executable, "-m", "ray.scripts.scripts", "start", *words], **quiet))

        for part in parts:
            add(part[0])
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ids = {node["Labels"].get("bench/host"): node["NodeID"] for node in ray.nodes()}
        perform, relays = partial(performed, Script(call_s=args.sleep)), {}
        for part in parts:
            actor = (
                ray.remote(Nodes)
                .options(
                    num_cpus=0, resources={"bench_slot": 1}, max_concurrency=len(part),
                    scheduling_strategy=NodeAffinitySchedulingStrategy(ids[part[0]], soft=False),
                )
                .remote(len(part), perform)
            )  # fmt: skip
            relays |= {name: Handle(actor, index) for index, name in enumerate(part)}
        ray.get([relay.next.remote() for relay in relays.values()])  # each runs, without any event yet
        measure(ray, relays, argparse.Namespace(**{**vars(args), "cases": 1, "repeats": 2}), folder)  # connections
        loses = args.lose and n_nodes > args.lose
        return measure(ray, relays, args, folder, join if loses else None)
    finally:
        for process in late:
            process.terminate()
            process.wait()
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
    parser.add_argument("--share", type=int, default=1, help="simulated nodes for each raylet")
    parser.add_argument("--lose", type=int, default=0, help="nodes that are lost in the middle")
    parser.add_argument("--sleep", type=float, default=0.2, help="seconds of one repetition")
    args = parser.parse_args()
    # No other user is on this machine's loopback, so no token is needed.
    os.environ.update({**ray_settings.ENVIRONMENT, "RAY_AUTH_MODE": "disabled"})
    print(
        "| nodes | lost | makespan, s | to one node | first calls, s | gap, ms | gap p95, ms | driver CPU, ms/sample "
        "| driver CPU, ms/case | driver, MB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    base_s = None
    with TemporaryDirectory() as folder:
        for n_nodes in config.split(args.nodes):
            print(f"starting {n_nodes} nodes", file=sys.stderr, flush=True)
            found = fleet(n_nodes, args, Path(folder))
            base_s = base_s or found["makespan_s"]
            ratio = found["makespan_s"] / base_s
            print(
                f"| {n_nodes} | {found['lost']} | {found['makespan_s']:.2f} | {ratio:.3f} | {found['start_s']:.2f} "
                f"| {found['gap_ms']:.1f} | {found['gap_p95_ms']:.1f} | {found['driver_ms_per_sample']:.2f} "
                f"| {found['driver_ms_per_case']:.2f} | {found['driver_mb']:.0f} |",
                flush=True,
            )
    print(f"planning 1,000 nodes × 20 cases: {min(planning_s(1000, 20) for _ in range(3)):.3f} s")


if __name__ == "__main__":
    main()
