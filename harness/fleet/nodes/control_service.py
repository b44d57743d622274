"""A separate process that queries a head's control service (GCS). The only module of this package that imports ray.

Ray's client waits long where no head is, and may end its whole process; here nothing else is in it. A request comes on
stdin, the answer goes to stdout, both as one JSON value.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from harness.fleet.tags import BACKENDS

KEY, NAMESPACE = b"versions", b"cellbench"
ANSWER_S = 10


def look(address: str) -> dict[str, Any]:
    """The versions that the head has published, or only Ray's and Python's, and every node of the fleet."""
    client = _client(address)
    published = client.internal_kv_get(KEY, namespace=NAMESPACE, timeout=ANSWER_S)
    # The versions that Ray itself compares when a node joins (ray/_private/utils.py, check_version_info).
    metadata = client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster", timeout=ANSWER_S)
    cluster = json.loads(metadata) if metadata else {}
    rays = {"ray": cluster.get("ray_version"), "python": cluster.get("python_version")}
    nodes = client.get_all_node_info(timeout=ANSWER_S).values()
    return {
        "versions": json.loads(published) if published else {k: v for k, v in rays.items() if v},
        "is_ours": published is not None,
        "nodes": [_node(info) for info in sorted(nodes, key=lambda info: info.start_time_ms)],
    }


def publish(address: str, versions: Mapping[str, str | None]) -> None:
    """Store the head's versions for look()."""
    _client(address).internal_kv_put(KEY, json.dumps(versions).encode(), True, NAMESPACE, ANSWER_S)


def _client(address: str) -> Any:
    """Ray's own client of a head; the only part of Ray here that is not public, tried with Ray 2.52 to 2.60.

    There is no public one for a machine that has not joined: ray.init() needs a node here, the state API and the jobs
    API a dashboard, which listens on the head's loopback only, and Ray Client starts a process on the head.
    """
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without a stub

    return GcsClient(address=address)


def _node(info: Any) -> dict[str, Any]:
    """One row of Ray's table of nodes (GcsNodeInfo in gcs.proto) as plain values."""
    counts = {backend: int(info.resources_total.get(f"bench_{backend}", 0)) for backend in BACKENDS}
    return {
        "node_id": info.node_id.hex(),
        "name": info.labels.get("bench/host"),
        "ip": info.node_manager_address,
        "port": info.node_manager_port,
        "state": _state(info),
        "is_head": info.is_head_node,
        "counts": {backend: n for backend, n in counts.items() if n},
        "accelerator": info.labels.get("bench/accelerator"),
        "chip": info.labels.get("bench/chip"),
    }


def _state(info: Any) -> str:
    if info.state == info.ALIVE:
        return "up"
    return "lost" if info.death_info.reason == info.death_info.UNEXPECTED_TERMINATION else "stopped"


TASKS: dict[str, Callable[..., Any]] = {"look": look, "publish": publish}


def main() -> None:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of Ray must not look like an answer
    request = json.load(sys.stdin)
    from ray.exceptions import AuthenticationError, RayError

    try:
        answer = {"value": TASKS[request["task"]](**request["arguments"])}
    except AuthenticationError as error:
        answer = {"refused": error.message}
    except (RayError, RuntimeError, OSError) as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    json.dump(answer, answers)
    answers.flush()
    os._exit(0)  # Ray's threads may be waiting for a head that is not there


if __name__ == "__main__":
    main()
