"""All submissions of a folder: the contract with the site and the reports that show them."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from harness.errors import CellbenchError
from harness.schema import Role, Status, identity
from harness.submissions import form

NUMBER = re.compile(r"[0-9a-f]{12}")
NAME = re.compile(rf"(20\d\d(?:0[1-9]|1[0-2]))-({NUMBER.pattern})")
SUBMITTERS_MIN = 3
AGREEMENT = 0.1  # relative difference from the median of all submitters up to which a submission agrees
OUTLIER = 2.0  # ratio to that median, or its inverse, beyond which a submission is flagged
PLAIN = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
# Equal for two submissions whose times are compared, of one hardware.
COMPARED = (
    "backend", *form.WORK, "image_sha256", "weights_sha256", "diameter_asked_px", "torch_threads", "engine_version",
)  # fmt: skip


class Tier(StrEnum):
    """The reason to trust a submission, the strongest first."""

    FIRST_PARTY = "first-party"  # measured by the maintainers
    REPRODUCED = "reproduced"  # at least three submitters agree
    COMMUNITY = "community"
    FLAGGED = "flagged"  # shown, and left out of rankings


class Verdict(StrEnum):
    """The result of the checks of a submission."""

    OK = "ok"
    PENDING = "pending"  # hardware that aliases.toml lacks
    FLAGGED = "flagged"  # there is a reason to doubt it; it is shown with the reason
    REJECTED = "rejected"  # malformed; it has no samples


@dataclass(frozen=True)
class Entry:
    """One submission: the samples of one run on one device.

    slug: the folder of the hardware. hardware: its name for people. month: YYYY-MM. notes: reasons of the verdict.
    path: of the Parquet file; the manifest is next to it.
    """

    id: str
    slug: str
    hardware: str
    backend: str
    month: str
    tier: Tier
    verdict: Verdict
    notes: tuple[str, ...]
    path: Path


@dataclass(frozen=True)
class Collection:
    """All submissions. samples: columns of form.COLUMNS, and submission (an id), slug, hardware and tier."""

    entries: tuple[Entry, ...]
    samples: pa.Table


@dataclass(frozen=True)
class Hardware:
    """One kind of hardware in aliases.toml.

    names: as devices report it. peak_tflops: highest dense rate of any number format that a network may use, as its
    maker states it in source; None where none is known.
    """

    slug: str
    name: str
    names: tuple[str, ...]
    peak_tflops: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Notes:
    """The maintainers' notes in flags.toml: their own submissions, reasons for doubt, submitters of several.

    first_party: id → the run in samples/ that the submission was made of; empty where that is not there.
    """

    first_party: Mapping[str, str]
    reasons: Mapping[str, tuple[str, ...]]
    submitters: Mapping[str, str]  # id → the id that stands for its submitter

    def submitter(self, number: str) -> str:
        """The id that stands for the submitter; each submission has its own unless a note joins it with others."""
        return Tier.FIRST_PARTY if number in self.first_party else self.submitters.get(number, number)

    def submitter_of_run(self, run_id: str) -> str:
        """The same for a run of the reference set; those in samples/ are the maintainers'."""
        number = run_id.rpartition("-")[2]
        return self.submitter(number) if NUMBER.fullmatch(number) else Tier.FIRST_PARTY


@dataclass(frozen=True)
class Aliases:
    """The known hardware, by slug."""

    by_slug: Mapping[str, Hardware]

    @cached_property
    def _by_name(self) -> dict[str, Hardware]:
        return {form.slug(name): each for each in self.by_slug.values() for name in (each.slug, *each.names)}

    def find(self, name: str, backend: str | None) -> Hardware | None:
        """The hardware that a device belongs to, by the name that it reports; None where it is unknown."""
        return self._by_name.get(form.slug(name, backend))


def aliases(folder: Path) -> Aliases:
    """aliases.toml of a folder of submissions; none are known where there is no such file."""
    tables = _toml(folder / "aliases.toml")
    try:
        known = (
            Hardware(key, table["name"], tuple(table["names"]), table.get("peak_tflops"), table.get("source", ""))
            for key, table in tables.items()
        )
        return Aliases({each.slug: each for each in known})
    except (KeyError, TypeError, AttributeError) as error:
        raise CellbenchError(f"a table lacks {error}", str(folder / "aliases.toml"), "give name and names") from error


def notes(folder: Path) -> Notes:
    """flags.toml of a folder of submissions; no notes where there is no such file."""
    found = _toml(folder / "flags.toml")
    try:
        reasons: dict[str, tuple[str, ...]] = {}
        for flag in found.get("flag", []):
            day = flag["date"]
            if not isinstance(day, date):
                raise TypeError("date")
            reasons[flag["id"]] = (*reasons.get(flag["id"], ()), f"{flag['reason']} ({day})")
        same = {number: each["ids"][0] for each in found.get("same_submitter", []) for number in each["ids"]}
        return Notes({str(number): str(run) for number, run in found.get("first_party", {}).items()}, reasons, same)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CellbenchError(
            f"a note is malformed: {error}", str(folder / "flags.toml"), "a flag needs id, reason and date"
        ) from error


def files(folder: Path) -> list[Path]:
    """The Parquet files of submissions in a folder, in order."""
    return sorted(path for path in folder.glob("*/*.parquet") if NAME.fullmatch(path.stem))


def comparable(folder: Path) -> list[Path]:
    """The Parquet files of submissions without a flag whose runs are not in samples/."""
    marks = notes(folder)
    left_out = {*marks.reasons, *(number for number, run in marks.first_party.items() if run)}
    return [path for path in files(folder) if path.stem.partition("-")[2] not in left_out]


def load(folder: Path, columns: Iterable[str] = form.COLUMNS) -> Collection:
    """Every submission of a folder, with these columns of its samples; about 1 ms each.

    The checks of `cellbench collect` are not repeated. Files that cannot be read are entries without samples.
    """
    known, marks, columns = aliases(folder), notes(folder), tuple(columns)
    entries = [_entry(path, known, marks) for path in files(folder)]
    paths = [entry.path for entry in entries if entry.verdict != Verdict.REJECTED]
    samples, errors = _samples(paths, tuple(dict.fromkeys((*columns, "role", "status", "elapsed_s", *COMPARED))))
    entries = [_rejected(entry, errors[entry.path]) if entry.path in errors else entry for entry in entries]
    entries = _compared(entries, samples, marks)
    return Collection(tuple(entries), _described(samples.select([*columns, "path"]), entries, marks))


def _entry(path: Path, known: Aliases, marks: Notes) -> Entry:
    month, number = path.stem.split("-")
    slug, reasons = path.parent.name, marks.reasons.get(number, ())
    hardware = known.by_slug.get(slug)
    entry = Entry(
        id=number,
        slug=slug,
        hardware=hardware.name if hardware else slug,
        backend="",
        month=f"{month[:4]}-{month[4:]}",
        tier=Tier.FLAGGED if reasons else Tier.FIRST_PARTY if number in marks.first_party else Tier.COMMUNITY,
        verdict=Verdict.FLAGGED if reasons else Verdict.OK if hardware else Verdict.PENDING,
        notes=reasons,
        path=path,
    )
    try:
        facts = json.loads(path.with_suffix(".json").read_bytes())["hardware"]
        name, backend = str(facts["device_name"]), str(facts["backend"])
        own = name + " (GPU)" * (backend == "mps")  # its processor has the same name
        return replace(entry, hardware=hardware.name if hardware else own, backend=backend)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return _rejected(entry, f"its manifest cannot be read: {error}")


def _rejected(entry: Entry, reason: str) -> Entry:
    return replace(entry, tier=Tier.FLAGGED, verdict=Verdict.REJECTED, notes=(*entry.notes, reason))


def _samples(paths: list[Path], columns: tuple[str, ...]) -> tuple[pa.Table, dict[Path, str]]:
    """The samples of all files with the file of each as column path, and the files that cannot be read, with why."""
    try:
        return _read(paths, columns), {}
    except (pa.ArrowException, OSError, ValueError):
        errors = {}
        for path in paths:
            try:
                _read([path], columns)
            except (pa.ArrowException, OSError, ValueError) as error:
                errors[path] = f"it cannot be read: {error}"
        return _read([path for path in paths if path not in errors], columns), errors


def _read(paths: list[Path], columns: tuple[str, ...]) -> pa.Table:
    found = ds.dataset([path.as_posix() for path in paths], schema=form.SCHEMA, format=PLAIN)
    table = found.to_table(columns=[*columns, "__filename"]).rename_columns([*columns, "path"])
    table.validate(full=True)  # texts are UTF-8
    return table


def _described(samples: pa.Table, entries: Iterable[Entry], marks: Notes) -> pa.Table:
    """The samples with submission, submitter, slug, hardware and tier of their entries in place of their path."""
    by_path = {entry.path.as_posix(): entry for entry in entries}
    coded = samples["path"].combine_chunks().dictionary_encode()
    found = [by_path[path] for path in coded.dictionary.to_pylist()]
    for name, values in {
        "submission": [entry.id for entry in found],
        "submitter": [marks.submitter(entry.id) for entry in found],
        "slug": [entry.slug for entry in found],
        "hardware": [entry.hardware for entry in found],
        "tier": [str(entry.tier) for entry in found],
    }.items():
        samples = samples.append_column(name, pa.array(values, pa.string()).take(coded.indices))
    return samples.drop_columns("path")


def _compared(entries: list[Entry], samples: pa.Table, marks: Notes) -> list[Entry]:
    """The entries with the tier and the flags that follow from a comparison of submitters, case by case."""
    seconds = pc.field("elapsed_s")
    is_timed = (
        (pc.field("role") == Role.TIMED) & (pc.field("status") == Status.OK) & (seconds > 0) & (seconds < math.inf)
    )
    timed = samples.filter(is_timed).group_by(["path", *COMPARED]).aggregate([("elapsed_s", "approximate_median")])
    by_path = {entry.path.as_posix(): entry for entry in entries if entry.verdict != Verdict.FLAGGED}
    rows = [row for row in timed.to_pylist() if row["path"] in by_path]
    agreements: dict[str, list[bool]] = {}
    outliers: dict[str, str] = {}
    for same in identity.grouped(rows, lambda row: (by_path[row["path"]].slug, *map(row.get, COMPARED))).values():
        found = [(by_path[row["path"]].id, row["elapsed_s_approximate_median"]) for row in same]
        submitters = identity.grouped(found, lambda each: marks.submitter(each[0])).values()
        middle_s = median(median(value_s for _, value_s in each) for each in submitters)
        ratios = [(number, value_s / middle_s) for number, value_s in found]
        close = {number for number, ratio in ratios if abs(ratio - 1) <= AGREEMENT}
        if len({marks.submitter(number) for number in close}) < SUBMITTERS_MIN:
            continue
        for number, ratio in ratios:
            agreements.setdefault(number, []).append(number in close)
            if not 1 / OUTLIER <= ratio <= OUTLIER:
                outliers[number] = f"{ratio:.2g} times the median of {len(submitters)} submitters"
    return [_ranked(entry, agreements.get(entry.id, []), outliers.get(entry.id)) for entry in entries]


def _ranked(entry: Entry, agreements: list[bool], outlier: str | None) -> Entry:
    if outlier:
        return replace(entry, tier=Tier.FLAGGED, verdict=Verdict.FLAGGED, notes=(*entry.notes, outlier))
    if entry.tier == Tier.COMMUNITY and agreements and all(agreements):
        return replace(entry, tier=Tier.REPRODUCED)
    return entry


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise CellbenchError("the file is not valid TOML", f"{path}: {error}", "correct that line") from error
