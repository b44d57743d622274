"""A copy of results without the identity of their owner: it contains only columns that are known to be safe.

Machines, images and runs get other names; times of day go, their order and the durations stay. Hashes of images and of
weights stay, since they identify equal work: only someone who has the file can recognise it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from harness import schema
from harness.errors import CellbenchError
from harness.machine import facts
from harness.plan.config import PROFILES
from harness.schema import Sample, identity
from harness.store import Store, parquet

# Texts that this program chose, hashes, versions, and names of products.
KEPT = {
    "source", "role", "phase", "status", "stop_reason", "sync", "dispatch", "workload", "engine", "protocol", "variant",
    "result_variant", "model", "weights", "weights_sha256", "size_model_sha256", "image_sha256", "crop", "dtype",
    "mask_sha256", "stage_pass", "stage", "rss_method", "energy_class", "energy_method", "agreement", "flags",
    "unwatched", "gpu_throttle", "backend", "device", "device_used", "instruction_set", "arch", "openmp_threads",
    "harness_version", "python_version", "torch_version", "engine_version", "cellpose_version", "numpy_version",
    "numba_version", "opencv_version", "ray_version",
}  # fmt: skip
SEARCHED = {"device_name", "cpu_model", "os", "error_type"}  # kept without the private names
RENAMED = {"run_id", "case_id", "series_key", "node", "machine_id", "image", "profile", "environment"}
DROPPED = {"error_message"}
SHORTEST = 3  # letters of a private name; a shorter one is part of too many words
LEFT_OUT = "…"
# A path in quotes, a word with a path, or a mail address.
PATH = re.compile(r"""(["'])(?:(?!\1).)*/(?:(?!\1).)*\1|\S*(?<!\w)[~.]*/\S+|\S*@\w\S*""")


def copy(store: Store, to: Path, run_id: str | None = None) -> tuple[int, int]:
    """Write every run, or one, into a new store without private data; returns the numbers of runs and samples.

    Raises CellbenchError for a folder that is not empty.
    """
    if to.exists() and any(to.iterdir()):
        raise CellbenchError("this folder is not empty", str(to), "name a new one: --to DIR")
    dataset = store.dataset()
    parts = parquet.parts(dataset.to_table(columns=["run_id", "node"]))
    runs = sorted({part[0] for part in parts})
    if run_id is not None and run_id not in runs:
        raise CellbenchError(f"there is no run {run_id}", str(store.root), "see: cellbench list")
    names = Names([*own_names(), *(name for _, node in parts for name in (node, node.partition(".")[0]))])
    target = Store.make(to)
    n_rows = 0
    chosen = runs if run_id is None else [run_id]
    for each in chosen:
        rows = dataset.to_table(filter=pc.field("run_id") == each).to_pylist()
        target.add(schema.table(names.rows(rows)))
        n_rows += len(rows)
    return len(chosen), n_rows


def own_names() -> list[str]:
    """The names of this machine and its user."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        user = str(os.getuid())
    return [host, host.partition(".")[0], user, Path.home().name]


class Names:
    """The names that replace others, equal for equal names within one copy."""

    def __init__(self, private: Iterable[str]) -> None:
        words = sorted({word for word in private if len(word) >= SHORTEST}, key=len, reverse=True)
        self._private = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, words)) or '(?!)'})(?!\w)", re.IGNORECASE)
        self._given: dict[tuple[str, str], str] = {}
        self._n_runs: dict[str, int] = {}  # of each day so far
        self._profiles = {path.stem for path in PROFILES.glob("*.toml")}

    def rows(self, rows: list[Sample]) -> list[Sample]:
        """The samples of one run without private data."""
        begins = min(row["started_at"] for row in rows)
        day = datetime.combine(begins.date(), time(), begins.tzinfo)
        number = self._n_runs[str(day)] = self._n_runs.get(str(day), -1) + 1
        begins_at = day + timedelta(seconds=number)  # runs of a day stay in their order
        run_id = f"{begins_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        return [self._row(row, run_id, begins_at - begins) for row in rows]

    def _row(self, row: Sample, run_id: str, later: timedelta) -> Sample:
        known = {
            name: value
            for name, value in row.items()
            if not isinstance(value, str) or name in KEPT  # an unknown text is left out
        }
        known |= {name: self.searched(row[name]) for name in SEARCHED if row.get(name)}
        known |= {
            "run_id": run_id,
            "started_at": row["started_at"] + later,
            "node": self._name("node", row["node"], "machine-{}"),
            "machine_id": row.get("machine_id") and self._name("machine_id", row["machine_id"], "{}"),
            "image": row["image"]
            if row.get("image_is_synthetic")
            else self._name("image", row.get("image"), "image-{}"),
            "profile": row["profile"] if row.get("profile") in self._profiles else row.get("profile") and "custom",
            "environment": self._environment(row.get("environment")),
        }
        return known | {
            "case_id": identity.key(known, identity.CASE),
            "series_key": identity.key(known, identity.SERIES),
        }

    def _name(self, kind: str, old: str | None, form: str) -> str | None:
        """A random name for each old one."""
        if old is None:
            return None
        return self._given.setdefault((kind, old), form.format(secrets.token_hex(8 if form == "{}" else 3)))

    def _environment(self, text: str | None) -> str | None:
        values = json.loads(text) if text else None
        if not isinstance(values, dict):
            return None
        public = {fact.name: values.get(fact.name) for fact in facts.FACTS if not fact.private}
        return json.dumps({name: self._fact(value) for name, value in public.items()})

    def _fact(self, value: Any) -> Any:
        return self.searched(value) if isinstance(value, str) else value if isinstance(value, int | float) else None

    def searched(self, text: str) -> str:
        """A text without private names, and without words that contain a path or a mail address."""
        return PATH.sub(LEFT_OUT, self._private.sub(LEFT_OUT, text))
