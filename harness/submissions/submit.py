"""Make submissions of a run: a file for each machine and model of device, without anything that identifies them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness import files, schema
from harness.errors import CellbenchError
from harness.query import Session
from harness.schema import Row, identity
from harness.store import anonymous
from harness.submissions import checks, form
from harness.submissions.checks import Known, Reason
from harness.submissions.collection import Verdict

MAKE = "make a run that qualifies: cellbench run --profile article, with built-in image and without --crops"


@dataclass(frozen=True)
class Made:
    """A submission that was made. reasons: doubts and notes of the checks, which reviewers see, too."""

    slug: str
    stem: str
    content: bytes
    text: str
    samples: pa.Table
    reasons: list[Reason]

    def columns(self) -> dict[str, list[Any]]:
        """The different values of each column that the file has."""
        found = {name: self.samples[name].unique().drop_null().to_pylist() for name in form.COLUMNS}
        return {name: values for name, values in found.items() if values}

    def write(self, folder: Path) -> None:
        """Write the two files below a folder, in a folder for the hardware as in the repository."""
        path = folder / self.slug / f"{self.stem}.parquet"
        with files.replacing(path, make_folder=True, what="submission") as file:
            file.write(self.content)
        files.write(path.with_suffix(".json"), self.text, what="submission")


def make(session: Session, run_id: str, known: Known) -> list[Made]:
    """A submission for each machine and device model of a run; CellbenchError where the run does not qualify."""
    rows = session.table("SELECT * FROM samples WHERE run_id = $run", run=run_id).to_pylist()
    nodes = {name for row in rows for name in (row["node"], row["node"].partition(".")[0])}
    public = anonymous.Names([*anonymous.own_names(), *nodes]).rows(rows)
    for row, before in zip(public, rows, strict=True):  # a machine may be named after its hardware
        if known.aliases.find(before["device_name"] or "", before["backend"]):
            row["device_name"] = before["device_name"]
    devices = identity.grouped(public, lambda row: (row["node"], row["backend"], row.get("device_name")))
    made = [_made(each, known) for (_, _, name), each in devices.items() if name]
    if not made:
        raise CellbenchError("this run has no device with a name", run_id, MAKE)
    return made


def _made(rows: Iterable[Row], known: Known) -> Made:
    number, rows = secrets.token_hex(6), list(rows)
    month, name = f"{rows[0]['started_at']:%Y-%m}", rows[0]["device_name"]
    samples = pa.Table.from_pylist([_public(row, month, number) for row in rows], form.SCHEMA)
    content, hardware = form.encode(samples), known.aliases.find(name, rows[0]["backend"])
    sha256, public = hashlib.sha256(content).hexdigest(), samples.to_pylist()
    manifest = form.manifest(public, number, sha256)
    if anonymous.LEFT_OUT in name:
        fix = "add the name of the hardware to results/reference/aliases.toml first"
        raise CellbenchError("the name of the device contains a name of this machine or its user", name, fix)
    slug = hardware.slug if hardware else form.slug(name, rows[0]["backend"])
    verdict, reasons = checks.check(checks.Submission(slug, number, month, public, manifest, sha256), known)
    if verdict == Verdict.REJECTED:
        raise CellbenchError(f"this run cannot be submitted: {reasons[0].text}", name, MAKE)
    if len(content) > checks.MAX_BYTES:
        raise CellbenchError(f"its file has more than {checks.MAX_BYTES:,} bytes", name, MAKE)
    return Made(slug, form.stem(month, number), content, form.text(manifest), samples, reasons)


def _public(row: Row, month: str, number: str) -> Row:
    """The listed columns of a sample that anonymous.Names has renamed, without its day and its machine."""
    known = {name: row.get(name) for name in form.COLUMNS} | {
        "schema_version": schema.VERSION,
        "run_id": form.run_id(month, number),
        "started_at": form.begin(month),
        "node": form.slug(row["device_name"], row["backend"]),
        "ram_bytes": form.rounded(row["ram_bytes"] or 0) or None,
        "os": re.sub(r"(\d+(?:\.\d+)+)[-+]\S*", r"\1", row["os"] or "") or None,  # an own kernel may have any name
    }
    return known | dict(zip(("case_id", "series_key"), form.keys(known), strict=True))
