"""What Ray uses of the processors and of memory while it waits for a measurement to end.

    python scripts/benchmarks/ray_idle.py                      the embedded Ray, as `cellbench run` starts it
    cellbench node start --head --port-base 21000              or a node of a fleet that runs here
    python scripts/benchmarks/ray_idle.py --port-base 21000

Lets it settle, and adds up the CPU time of its processes over a span; memory is their proportional set size.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psutil

from harness.fleet.driver import cluster
from harness.fleet.nodes import daemon
from harness.machine import folders

KINDS = ("gcs_server", "raylet", "log_monitor", "dashboard/agent", "dashboard", "runtime_env", "worker", "cellbench")


def cpu_s(family: list[psutil.Process]) -> Counter[str]:
    """CPU seconds so far of each kind of process."""
    spent: Counter[str] = Counter()
    for process in family:
        times = process.cpu_times()
        words = " ".join(process.cmdline())
        spent[next((kind for kind in KINDS if kind in words), process.name())] += times.user + times.system
    return spent


def family_of(port_base: int | None) -> list[psutil.Process]:
    """The processes of the node with this first port, or those that this one has started."""
    if port_base is None:
        return psutil.Process().children(recursive=True)
    [node] = [node for node in daemon.running(folders.home()) if node.port_base == port_base]
    return [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]


@contextmanager
def embedded() -> Iterator[None]:
    """Ray as a run starts it for this machine alone."""
    ray = cluster.start_local()
    try:
        yield
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settle", type=float, default=10.0, help="seconds before the span")
    parser.add_argument("--span", type=float, default=20.0, help="seconds")
    parser.add_argument("--port-base", type=int, help="of a node that runs here")
    args = parser.parse_args()
    with nullcontext() if args.port_base else embedded():
        time.sleep(args.settle)
        family = family_of(args.port_base)
        before = cpu_s(family)
        time.sleep(args.span)
        after = cpu_s(family)
        memory_mb = sum(process.memory_full_info().pss for process in family) / 1e6
    print("| process | of one processor |\n|---|---:|")
    for kind in sorted(after):
        print(f"| {kind} | {100 * (after[kind] - before[kind]) / args.span:.2f} % |")
    print(f"| all {len(family)} | {100 * (sum(after.values()) - sum(before.values())) / args.span:.2f} % |")
    print(f"\n{memory_mb:.0f} MB")


if __name__ == "__main__":
    main()
