"""The rest of a run: its manifest contains the plan, its rows the finished tasks.

results/runs/<run_id>.json    config, image, weights, blocks and the fleet; written before measuring begins
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness import files, query, schema
from harness.errors import CellbenchError
from harness.plan.cases import Block, Task
from harness.plan.config import Config
from harness.schema import PASSES
from harness.store import Store, past_runs

VERSION = 2
SQL = """
    SELECT node, device, block, role, position, elapsed_s, status, stop_reason, attempt FROM samples
    WHERE run_id = $run AND phase <> 'stage' AND role NOT IN ('cold', 'warmup') ORDER BY started_at, repetition"""


@dataclass(frozen=True)
class Pairing:
    """Two runs that are the sides of one A/B measurement, and when it ends. labels: the sides as requested."""

    margin: float
    budget_s: float
    labels: tuple[str, str]
    runs: tuple[str, str] = ("", "")
    seed: int = 0


@dataclass(frozen=True)
class Manifest:
    """The plan of a command. model_files: hashes by model; versions: the software of each node by name."""

    run_id: str
    command: str
    config: Config
    image_sha256: str
    model_files: dict[str, dict[str, str | int | float | bool | None]]
    versions: dict[str, dict[str, str | None]]
    address: str | None
    use_ray: bool
    blocks: tuple[Block, ...]
    pairing: Pairing | None = None
    version: int = VERSION


_CODEC = TypeAdapter(Manifest)


def write(store: Store, manifest: Manifest) -> bool:
    """Write a run's manifest into its store, whole or not at all; False where one exists, which stays."""
    path = _path(store, manifest.run_id)
    if path.exists():
        return False
    store.put_text(path, _CODEC.dump_json(manifest).decode())
    return True


def read(store: Store, run_id: str) -> Manifest:
    """Read a run's manifest; CellbenchError where none can be read."""
    path = _path(store, run_id)
    try:
        text = path.read_text(encoding="utf-8")
        if json.loads(text)["version"] != VERSION:
            raise ValueError("it was written by another version of cellbench")
        return _CODEC.validate_json(text)
    except FileNotFoundError as error:
        raise CellbenchError(
            f"the plan of run {run_id} is not in this store", str(path),
            "a run is resumed in the store that it was begun in; or start a new run: cellbench run",
        ) from error  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "start a new run: cellbench run"
        raise CellbenchError(f"the plan of run {run_id} cannot be read: {error}", str(path), fix) from error


def latest(store: Store) -> str:
    """The newest run of this store that can be resumed."""
    names = [path.stem for path in files.listed(Path(store.root) / "runs", "*.json")]
    for run_id in reversed(past_runs(names)):
        if read(store, run_id).command in ("run", "ab"):
            return run_id
    raise CellbenchError("no run was begun in this store", str(store.root), "begin one: cellbench run")


def left(store: Store, manifest: Manifest, retry_failed: bool = False) -> tuple[Block, ...]:
    """The blocks with the tasks that have no end in the store yet; with retry_failed also the failed ones."""
    rows = query.Session(store).table(SQL, run=manifest.run_id).to_pylist()
    return remaining(manifest.blocks, rows, retry_failed)


def check_left(store: Store, run_id: str, todo: Sequence[Block]) -> None:
    """Raise CellbenchError if another command has resumed the run since these tasks were found."""
    now = {
        (block.node, block.device.id, block.index, task)
        for block in left(store, read(store, run_id), retry_failed=True)
        for task in block.tasks
    }
    if any((block.node, block.device.id, block.index, task) not in now for block in todo for task in block.tasks):
        raise CellbenchError(
            f"another command has resumed run {run_id} meanwhile", str(store.root), "see: cellbench resume"
        )


def remaining(blocks: Sequence[Block], rows: Iterable[Mapping[str, Any]], retry_failed: bool) -> tuple[Block, ...]:
    """The tasks that these rows do not finish, each with the durations of its repetitions so far."""
    of_task: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        of_task[row["node"], row["device"], row["block"], row["role"], row["position"]].append(row)
    found = []
    for block in blocks:
        begun = [
            (task, of_task[block.node, block.device.id, block.index, task.role, task.position]) for task in block.tasks
        ]
        tasks = tuple(_again(task, earlier) for task, earlier in begun if not _is_over(task, earlier, retry_failed))
        if tasks:
            found.append(replace(block, tasks=tasks))
    return tuple(found)


def _is_over(task: Task, rows: Sequence[Mapping[str, Any]], retry_failed: bool) -> bool:
    """Whether the last attempt at a task came to an end, successful or failed."""
    if not rows:
        return False
    good = [row for row in rows if row["status"] in schema.FINE]
    if task.role in PASSES:
        done = len(good) >= PASSES[task.role].n_rows or any(row["status"] == "skipped" for row in good)
    else:
        done = any(row["stop_reason"] for row in good)
    return done or (len(good) < len(rows) and not retry_failed)


def _again(task: Task, rows: Sequence[Mapping[str, Any]]) -> Task:
    earlier_s = tuple(row["elapsed_s"] for row in rows if row["status"] == "ok")
    attempts = [row["attempt"] or 0 for row in rows]
    return replace(task, earlier_s=earlier_s, attempt=max(attempts) + 1 if attempts else 0)


def _path(store: Store, run_id: str) -> Path:
    return Path(store.root) / "runs" / f"{run_id}.json"
