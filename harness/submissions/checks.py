"""The checks of a submission: small functions, each of which gives the reasons to doubt or reject it.

A file is read with limits of bytes and rows, as data of known columns and types; nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import schema
from harness.engines import registry
from harness.errors import CellbenchError
from harness.plan import config
from harness.schema import Phase, Role, Row, Status, identity
from harness.store import anonymous
from harness.submissions import collection, form
from harness.submissions.collection import Aliases, Hardware, Notes, Tier, Verdict

MAX_BYTES = 512 * 1024  # of either file; a thorough run of ten sizes needs a quarter
MAX_ROWS = 20_000
MAX_LETTERS = 200
OWN = "samples"  # a folder of the reference set that is a store of the maintainers' other runs
PROFILES = {path.stem: config.load(path.stem) for path in sorted(config.PROFILES.glob("*.toml"))}
# The pixels of the built-in images.
IMAGES = {
    "sparse": "63128ddcf19ef0e9ea58ca4e0c021eae7fd2928cd0656ca59b194cb10e330cb4",
    "dense": "4a3845726461e8b059810d02d65133d9d92b68d2b762a983ea7a9ee5113a6fc0",
    form.CONTROL: "484014f396eda0cf753e9e426204e5a1c83afe67ce67db2550a673756866b1ee",
}
SIDES_PX, CONTROL_PX = (2160, 2560), (224, 224)
PHASES, STATUSES = frozenset(Phase), frozenset(Status)
WEIGHTS = ("published", "standin")
MASKS_OF = (
    "engine", "model", "weights_sha256", "image_sha256", "crop", "diameter_asked_px", "result_variant",
)  # fmt: skip
CELLS = 0.05  # relative difference in the number of cells that rounding on other hardware may cause
AP50_MIN = 0.99
CEILING = 3.0  # Winograd convolutions need fewer operations than are counted
# What a check of the work needs to see once.
WORK = (
    "role", "profile", "engine", "model", "weights", "workload", "variant", "result_variant", "image", "image_sha256",
    "image_is_synthetic", "crop", "height_px", "width_px",
)  # fmt: skip
WORDS = re.compile(r"(?![-+=@])[A-Za-z0-9 .,:;()@+=_/#%…®™~-]*")
KINDS = {
    **dict.fromkeys(form.VERSIONS, re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,60}")),
    **{name: re.compile(r"[0-9a-f]{64}") for name in form.COLUMNS if name.endswith("sha256")},
    "case_id": re.compile(r"[0-9a-f]{16}"),
    "series_key": re.compile(r"[0-9a-f]{16}"),
}
PRIVATE = {
    "a path or a mail address": anonymous.PATH,
    "a unique id": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{24,}\b|GPU-[0-9a-f]{4,}", re.I),
    "a network address": re.compile(r"\b(\d{1,3}\.){3}\d{1,3}\b|\b([0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", re.I),
    "a host name": re.compile(r"\b[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}\b", re.I),
    "a time of day": re.compile(r"\b\d{1,2}:\d\d(:\d\d)?\b"),
}


@dataclass(frozen=True)
class Reason:
    """A result of a check. verdict: OK for a note, such as a check that was impossible."""

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Submission:
    """A submission as it was read, with the values of all columns."""

    slug: str
    number: str
    month: str
    rows: list[Row]
    manifest: Any
    sha256: str

    @property
    def device_name(self) -> str:
        """The name of its device; of the first one, where there are several."""
        return str(self.rows[0]["device_name"])

    def hardware(self, known: Known) -> Hardware | None:
        """The hardware of its device; None where aliases.toml lacks it."""
        return known.aliases.find(self.device_name, self.rows[0]["backend"])

    def cases(self) -> dict[tuple[Any, ...], list[Row]]:
        """Its successful timed repetitions by case."""
        timed = (row for row in self.rows if row["role"] == Role.TIMED and row["status"] == Status.OK)
        return identity.grouped(timed, lambda row: tuple(map(row.get, form.WORK)))


@dataclass(frozen=True)
class Known:
    """What a submission is compared with. times: fingerprint → id. masks: work → pairs of hash and number of cells."""

    aliases: Aliases
    notes: Notes
    today: date
    times: dict[str, str]
    masks: Mapping[tuple[Any, ...], set[tuple[str, int]]]


Check = Callable[[Submission, Known], Iterator[Reason]]


def known(folder: Path, today: date | None = None) -> Known:
    """What the submissions of a folder, which were accepted, are compared with."""
    found = collection.load(folder, ("role", "status", "elapsed_s", "mask_sha256", "n_cells", *MASKS_OF))
    rows = [row for row in found.samples.to_pylist() if row["role"] == Role.TIMED and row["status"] == Status.OK]
    masks: dict[tuple[Any, ...], set[tuple[str, int]]] = {}
    for row in rows:
        if row["tier"] in (Tier.FIRST_PARTY, Tier.REPRODUCED):
            masks.setdefault(tuple(map(row.get, MASKS_OF)), set()).add((row["mask_sha256"], row["n_cells"]))
    times = {
        fingerprint(same): number for number, same in identity.grouped(rows, lambda row: row["submission"]).items()
    }
    now = today or datetime.now(UTC).date()
    return Known(collection.aliases(folder), collection.notes(folder), now, times, masks)


def fingerprint(timed: list[Row]) -> str:
    """A name for the successful timed repetitions, equal for copies of them."""
    return hashlib.sha256(json.dumps(sorted(row["elapsed_s"] for row in timed)).encode()).hexdigest()


def read(path: Path) -> Submission:
    """Read a submission within limits; CellbenchError for a file that is none."""
    name = collection.NAME.fullmatch(path.stem)
    other = path.with_suffix(".json")
    if not name or path.suffix != ".parquet":
        raise _malformed("the name is not <yyyymm>-<12 hex digits>.parquet", path)
    contents = {}
    for each in (path, other):
        if each.is_symlink() or path.parent.is_symlink() or not each.is_file():
            raise _malformed("it is not a plain file", each)
        with each.open("rb") as file:
            contents[each] = file.read(MAX_BYTES + 1)
        if len(contents[each]) > MAX_BYTES:
            raise _malformed(f"it has more than {MAX_BYTES:,} bytes", each)
    try:
        manifest = json.loads(contents[other])
    except (ValueError, RecursionError) as error:
        raise _malformed(f"the manifest is not valid JSON: {error}", other) from error
    sha256 = hashlib.sha256(contents[path]).hexdigest()
    month = f"{name[1][:4]}-{name[1][4:]}"
    return Submission(path.parent.name, name[2], month, _rows(contents[path], path), manifest, sha256)


def _rows(content: bytes, path: Path) -> list[Row]:
    """The rows of a Parquet file of listed columns."""
    try:
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
        names, metadata = file.schema_arrow.names, file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        # Not by chunk.compression: of a damaged footer it ends the process.
        is_plain = all(chunk.total_compressed_size == chunk.total_uncompressed_size for chunk in chunks)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _malformed(f"it cannot be read as Parquet: {error}", path) from error
    if unlisted := sorted(set(names) - set(form.COLUMNS)):
        raise _malformed(f"columns that a submission does not have: {', '.join(unlisted)[:MAX_LETTERS]}", path)
    if missing := sorted({column.name for column in schema.SAMPLES if column.always} - set(names)):
        raise _malformed(f"columns are missing: {', '.join(missing)}", path)
    if len(set(names)) < len(names) or not is_plain:
        raise _malformed("it was not written by cellbench submit", path)
    if wrong := [field.name for field in file.schema_arrow if field.type != form.SCHEMA.field(field.name).type]:
        raise _malformed(f"columns of another type: {', '.join(wrong)}", path)
    if not 0 < metadata.num_rows <= MAX_ROWS:
        raise _malformed(f"it has {metadata.num_rows:,} rows; 1 to {MAX_ROWS:,} are allowed", path)
    # Texts as dictionaries: a text that repeats takes its memory once.
    texts = [name for name in names if form.SCHEMA.field(name).type == pa.string()]
    try:
        table = pq.read_table(io.BytesIO(content), read_dictionary=texts, page_checksum_verification=True)
        for name in texts:
            for chunk in table[name].chunks:
                if any(len(text or "") > MAX_LETTERS for text in chunk.dictionary.to_pylist()):
                    raise _malformed(f"a text in column {name} has more than {MAX_LETTERS} letters", path)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _malformed(f"it cannot be read as Parquet: {error}", path) from error
    empty = dict.fromkeys(form.COLUMNS)
    return [empty | row for row in rows]


def _malformed(what: str, path: Path) -> CellbenchError:
    return CellbenchError(what, str(path), "make the files with: cellbench submit")


# ---------------------------------------------------------------- malformed: rejected


def texts(found: Submission, _: Known) -> Iterator[Reason]:
    """Texts have the letters and the form of their column."""
    for name, value in _texts(found):
        if not KINDS.get(name, WORDS).fullmatch(value):
            yield _reject(f"{name} has a text that cellbench does not write: {value[:40]!r}")


def privacy(found: Submission, _: Known) -> Iterator[Reason]:
    """Names of hardware and systems contain nothing that identifies a machine or a person."""
    for name, value in _texts(found):
        for kind, pattern in PRIVATE.items():
            if name in anonymous.SEARCHED and pattern.search(value):
                yield _reject(f"{name} contains what looks like {kind}")


def _texts(found: Submission) -> Iterator[tuple[str, str]]:
    for name in form.COLUMNS:
        for value in dict.fromkeys(row[name] for row in found.rows):
            if isinstance(value, str):
                yield name, value


def values(found: Submission, _: Known) -> Iterator[Reason]:
    """Each row has the columns of its role, known words, and the keys that its columns give."""
    for row in found.rows:
        try:
            schema.check({name: value for name, value in row.items() if value is not None})
        except KeyError as error:
            yield _reject(str(error.args[0]))
            return
        if row["phase"] not in PHASES or row["status"] not in STATUSES:
            yield _reject(f"phase {row['phase']} with status {row['status']} is unknown")
            return
        numbers = [value for value in row.values() if isinstance(value, float)]
        if not all(math.isfinite(value) for value in numbers):
            yield _reject("a number is not finite")
            return
        if (row["case_id"], row["series_key"]) != form.keys(row):
            yield _reject("case_id and series_key do not belong to the other columns")
            return
        if row["status"] == Status.OK and not 0 < row["elapsed_s"] < 1e6:
            yield _reject(f"a duration of {row['elapsed_s']:g} s is impossible")
            return


def place(found: Submission, known: Known) -> Iterator[Reason]:
    """One device; folder, name and times agree with the samples."""
    common = {
        "run_id": form.run_id(found.month, found.number), "started_at": form.begin(found.month), "source": "measured",
        "node": form.slug(found.device_name, found.rows[0]["backend"]), "device_name": found.rows[0]["device_name"],
        "backend": found.rows[0]["backend"], "schema_version": schema.VERSION,
    }  # fmt: skip
    for name, value in common.items():
        if any(row[name] != value for row in found.rows) or value is None:
            yield _reject(f"{name} is not {value} in every row")
    hardware = found.hardware(known)
    expected = hardware.slug if hardware else common["node"]
    if found.slug != expected:
        yield _reject(f"the folder of this hardware is {expected}")
    if any((row["ram_bytes"] or 0) != form.rounded(row["ram_bytes"] or 0) for row in found.rows):
        yield _reject("ram_bytes is not rounded")


def manifest(found: Submission, _: Known) -> Iterator[Reason]:
    """The manifest is the one that the samples give."""
    expected = form.manifest(found.rows, found.number, found.sha256)
    if found.manifest != expected:
        given = found.manifest if isinstance(found.manifest, dict) else {}
        wrong = sorted({*expected, *given} - {name for name in expected if given.get(name) == expected[name]}, key=str)
        yield _reject(f"the manifest does not agree with the samples: {', '.join(map(str, wrong))[:MAX_LETTERS]}")


def work(found: Submission, _: Known) -> Iterator[Reason]:
    """A published profile on a built-in image, with known engines, models and weights."""
    for row in {tuple(map(row.get, WORK)): row for row in found.rows}.values():
        profile, crop = PROFILES.get(row["profile"]), row["crop"]
        if profile is None:
            yield _reject(f"{row['profile']} is not a published profile: {', '.join(PROFILES)}")
            return
        if row["role"] == Role.COLD and crop is None:
            continue
        if row["image_sha256"] != IMAGES.get(row["image"]) or not row["image_is_synthetic"]:
            yield _reject(f"{row['image']} is not a built-in image with known pixels")
        sizes = {str(side): (side, side) for side in profile.crops} | {"full": SIDES_PX, form.CONTROL: CONTROL_PX}
        if (row["height_px"], row["width_px"]) != sizes.get(crop):
            yield _reject(f"{crop} of {row['width_px']} × {row['height_px']} px is not a size of {row['profile']}")
        if row["workload"] != "cellpose" or row["weights"] not in WEIGHTS:
            yield _reject(f"workload {row['workload']} with {row['weights']} weights measures no published model")
        try:
            engine = registry.engine_of(row["model"])
            is_known = engine.name == row["engine"] and str(engine.variant(row["variant"])) == row["variant"]
            is_known &= registry.result_variant(engine.name, row["variant"]) == row["result_variant"]
        except CellbenchError:
            is_known = False
        if not is_known:
            yield _reject(f"{row['engine']} has no model {row['model']} with variant {row['variant']}")


def processes(found: Submission, _: Known) -> Iterator[Reason]:
    """Every case was measured in as many processes as its profile requires."""
    if not found.cases() and not any(row["status"] not in schema.FINE for row in found.rows):
        yield _reject("nothing was timed")
    for rows in found.cases().values():
        needed, n = PROFILES[rows[0]["profile"]].blocks, len({row["block"] for row in rows})
        if n < needed:
            yield _reject(f"crop {rows[0]['crop']} was timed in {n} of {needed} processes")
            return


# ---------------------------------------------------------------- doubtful: flagged


def spread(found: Submission, _: Known) -> Iterator[Reason]:
    """Times differ, as measured ones do."""
    cases = [[row["elapsed_s"] for row in rows] for rows in found.cases().values()]
    if any(len(case) > 1 and len(set(case)) == 1 for case in cases):
        yield _flag("all repetitions of a case have the same time")
    seconds = [each for case in cases for each in case]
    if seconds and all(abs(value * 100 - round(value * 100)) < 1e-9 for value in seconds):
        yield _flag("all times are round")


def growth(found: Submission, _: Known) -> Iterator[Reason]:
    """An image of four times as many pixels does not take less time."""
    lines = identity.grouped(
        found.cases().values(), lambda rows: tuple(map(rows[0].get, identity.without(form.WORK, "crop")))
    )
    for cases in lines.values():
        sizes = [(rows[0]["height_px"] * rows[0]["width_px"], median(r["elapsed_s"] for r in rows)) for rows in cases]
        if any(a_px >= 4 * b_px and a_s < 0.9 * b_s for a_px, a_s in sizes for b_px, b_s in sizes):
            yield _flag("a larger image takes less time than a smaller one")


def ceiling(found: Submission, known: Known) -> Iterator[Reason]:
    """No rate is above what the hardware can do: its maker's number, or the ceiling that the submission measured."""
    hardware = found.hardware(known)
    measured = [
        row["work_gflop"] / row["elapsed_s"]
        for row in found.rows
        if row["role"] == Role.CEILING and row["status"] == Status.OK and row["work_gflop"]
    ]
    if hardware and hardware.peak_tflops:
        limit, source = 1e3 * hardware.peak_tflops, "the hardware can do"
    elif measured:
        limit, source = CEILING * max(measured), "its own ceiling pass allows"
    else:
        yield Reason(Verdict.OK, "not checked: the rate, since no peak of this hardware is known")
        return
    for rows in found.cases().values():
        row, least_s = rows[0], median(each["elapsed_s"] for each in rows)
        task = registry.engine(row["engine"]).work(row["model"], row["height_px"], row["width_px"], row["diameter_px"])
        if task.gflop / least_s > limit:
            rate = f"{task.gflop / least_s / 1e3:.3g} TFLOP/s at crop {row['crop']}"
            yield _flag(f"{rate} is more than {source}, {limit / 1e3:.3g} TFLOP/s")
            return


def masks(found: Submission, known: Known) -> Iterator[Reason]:
    """The masks are those of the reference for this engine and these weights: a proof that the work was done."""
    n_unknown = n_similar = 0
    for rows in found.cases().values():
        expected = dict(known.masks.get(tuple(map(rows[0].get, MASKS_OF)), ()))
        others = [row["n_cells"] or 0 for row in rows if row["mask_sha256"] not in expected]
        n_unknown += not expected
        n_similar += bool(expected and others)
        for n in others if expected else []:
            if all(abs(n - each) > max(1, CELLS * each) for each in expected.values()):
                yield _flag(f"crop {rows[0]['crop']} has {n} cells; the reference has {min(expected.values())}")
                return
    if n_unknown:
        yield Reason(Verdict.OK, f"not checked: masks of {n_unknown} of {len(found.cases())} cases; no reference")
    if n_similar:
        yield Reason(Verdict.OK, f"masks of {n_similar} of {len(found.cases())} cases are not those of the reference; "
                                 "the number of cells agrees")  # fmt: skip
    if any(
        row["role"] == Role.MASKS and (row["ap50"] if row["ap50"] is not None else 1) < AP50_MIN for row in found.rows
    ):
        yield _flag(f"masks agree with stock Cellpose on the CPU by less than {AP50_MIN} (AP at IoU 0.5)")


def duplicate(found: Submission, known: Known) -> Iterator[Reason]:
    """The times are not those of another submission."""
    timed = [row for rows in found.cases().values() for row in rows]
    other = known.times.get(fingerprint(timed)) if timed else None
    if other not in (None, found.number):
        yield _flag(f"the times are those of submission {other}")


def month(found: Submission, known: Known) -> Iterator[Reason]:
    """The month is not in the future."""
    if found.month > f"{known.today:%Y-%m}":
        yield _flag(f"{found.month} is in the future")


def note(found: Submission, known: Known) -> Iterator[Reason]:
    """The maintainers' reasons for doubt."""
    yield from map(_flag, known.notes.reasons.get(found.number, ()))


def hardware(found: Submission, known: Known) -> Iterator[Reason]:
    """The hardware is in aliases.toml; new hardware is never rejected for that."""
    if not found.hardware(known):
        yield Reason(Verdict.PENDING, f"{found.device_name} is not in aliases.toml yet")


def _reject(text: str) -> Reason:
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return Reason(Verdict.REJECTED, printable)


def _flag(text: str) -> Reason:
    return Reason(Verdict.FLAGGED, text)


# In order; those after a rejection are not made.
CHECKS: tuple[Check, ...] = (
    texts, privacy, values, place, manifest, work, processes, spread, growth, ceiling, masks, duplicate, month, note,
    hardware,
)  # fmt: skip
WORST = (Verdict.REJECTED, Verdict.FLAGGED, Verdict.PENDING, Verdict.OK)


def check(found: Submission, known: Known) -> tuple[Verdict, list[Reason]]:
    """The verdict of all checks and their reasons, the gravest first."""
    reasons: list[Reason] = []
    for each in CHECKS:
        reasons += each(found, known)
        if any(reason.verdict == Verdict.REJECTED for reason in reasons):
            break
    reasons.sort(key=lambda reason: WORST.index(reason.verdict))
    return (reasons[0].verdict if reasons else Verdict.OK), reasons


def missing(folder: Path, accepted: Path) -> Iterator[tuple[Path, Verdict, list[Reason]]]:
    """The accepted submissions that a changed copy of their folder lacks, or has with other content."""
    is_copy = (folder / "flags.toml").is_file()
    for path in collection.files(accepted) if is_copy else []:
        for each in (path, path.with_suffix(".json")):
            other = folder / each.relative_to(accepted)
            if not other.is_file() or other.stat().st_size > MAX_BYTES or other.read_bytes() != each.read_bytes():
                text = "an accepted submission is never changed or deleted; to withdraw it, add a flag to flags.toml"
                yield other, Verdict.REJECTED, [_reject(text)]


def validate(folder: Path, known: Known) -> Iterator[tuple[Path, Verdict, list[Reason]]]:
    """Read and check the files of a folder of submissions; the times of each are known to the checks of the next."""
    for path in sorted(folder.glob("*/*")):
        is_manifest = path.suffix == ".json" and path.with_suffix(".parquet").is_file()
        if is_manifest or path.parent.name == OWN:
            continue
        try:
            found = read(path)
        except CellbenchError as error:
            yield path, Verdict.REJECTED, [_reject(error.what)]
            continue
        verdict, reasons = check(found, known)
        timed = [row for rows in found.cases().values() for row in rows]
        if verdict != Verdict.REJECTED and timed:
            known.times.setdefault(fingerprint(timed), found.number)
        yield path, verdict, reasons
