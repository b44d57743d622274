"""Run blocks on nodes and stream their samples; the only importer of ray.

Each block is one actor, pinned to its node and holding its `bench_slot`, so a node measures one thing
at a time. The actor only relays: the measuring process is the worker's own child, on any path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from harness.errors import FleetUnreachableError
from harness.measure import worker
from harness.measure.block import Order
from harness.schema import Sample

# Read when ray is imported. No start-up storm of idle workers on a machine that is about to be timed, no
# environment of its own making, no phoning home.
RAY_ENVIRONMENT = {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # By default Ray runs its workers at niceness 15, and what they start: everything else, Ray's own daemons
    # included, would go before the measuring process.
    "RAY_worker_niceness": "0",
}
OBJECT_STORE_BYTES = 100_000_000  # samples travel inline; the default of 30 % of memory is never needed


def samples(orders: Sequence[Order], use_ray: bool = True) -> Iterator[Sample]:
    """Perform every order on this machine and yield each sample as it is made.

    The next repetition begins only when the next sample is asked for. Nothing is left running when
    the iterator ends or is closed.
    """
    return _through_ray(orders) if use_ray else _in_process(orders)


def _in_process(orders: Sequence[Order]) -> Iterator[Sample]:
    for order in orders:
        for sample in worker.perform(order):
            yield {**sample, "dispatch": "process"}


def _through_ray(orders: Sequence[Order]) -> Iterator[Sample]:
    ray = start_local()
    try:
        node_id = ray.get_runtime_context().get_node_id()
        for order in orders:
            yield from _on_node(ray, node_id, order)
    finally:
        ray.shutdown()


def start_local() -> Any:
    """Start the embedded Ray of one node, tagged like a node of a fleet, and return the ray module."""
    os.environ.update(RAY_ENVIRONMENT)
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(
            address="local",
            num_cpus=1,
            resources={"bench_slot": 1},
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (RayError, RuntimeError, OSError, ValueError) as error:
        raise FleetUnreachableError(
            f"Ray could not be started: {error}", "this machine", "measure without it: cellbench run --no-ray"
        ) from error
    return ray


def _on_node(ray: Any, node_id: str, order: Order) -> Iterator[Sample]:
    """One block through one actor on one node; no retries, since a repeated measurement is another one."""
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor = (
        ray.remote(_Relay)
        .options(
            num_cpus=0,
            resources={"bench_slot": 1},
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            max_restarts=0,
            max_task_retries=0,
        )
        .remote(order)
    )
    try:
        while (sample := ray.get(actor.next_sample.remote())) is not None:
            yield {**sample, "dispatch": "ray", "ray_version": ray.__version__}
    except RayError as error:
        raise FleetUnreachableError(
            f"Ray lost the block on {order.block.device.id}: {error}", "this machine",
            "what was measured is saved; go on without Ray: cellbench run --no-ray",
        ) from error  # fmt: skip
    finally:
        ray.kill(actor)


class _Relay:
    """The actor: hands on the worker's samples one at a time, when asked."""

    def __init__(self, order: Order) -> None:
        self._samples = worker.perform(order)

    def next_sample(self) -> Sample | None:
        return next(self._samples, None)
