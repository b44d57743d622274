"""Submissions: what a collection of them contains, and which tier each has."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from harness.errors import CellbenchError
from harness.schema import SAMPLES
from harness.store import anonymous
from harness.submissions import collection, form
from harness.submissions.collection import Tier, Verdict
from tests import submitted


def put(folder: Path, i: int, scale: float = 1.0, hardware: int = 0, month: str = "2026-11") -> Path:
    """Write submission i, whose times are those of the hardware times scale."""
    rows = submitted.rows(hardware, month=month, number=submitted.number_of(i))
    found = pa.Table.from_pylist([{**row, "elapsed_s": row["elapsed_s"] * scale} for row in rows], form.SCHEMA)
    return submitted.write(folder, found, submitted.number_of(i))


def tiers(folder: Path) -> list[tuple[Tier, Verdict]]:
    """Tier and verdict of submissions 0, 1, …"""
    found = {entry.id: entry for entry in collection.load(folder).entries}
    return [(found[number].tier, found[number].verdict) for number in map(submitted.number_of, range(len(found)))]


def test_a_column_is_private_until_it_is_listed_and_no_listed_text_is_private() -> None:
    texts = {column.name for column in SAMPLES if column.type == pa.string()}
    safe = anonymous.KEPT | anonymous.SEARCHED | {"run_id", "case_id", "series_key", "node", "image", "profile"}
    assert texts & set(form.COLUMNS) <= safe
    assert len(form.COLUMNS) == len(set(form.COLUMNS))


def test_a_collection_has_every_submission_and_all_of_its_samples(tmp_path: Path) -> None:
    paths = list(submitted.collection(tmp_path, 12))
    found = collection.load(tmp_path)
    assert {entry.path for entry in found.entries} == set(paths)
    assert found.samples.column_names == [*form.COLUMNS, "submission", "submitter", "slug", "hardware", "tier"]
    for entry in found.entries:
        manifest = json.loads(entry.path.with_suffix(".json").read_text())
        rows = found.samples.filter(pa.compute.field("submission") == entry.id).to_pylist()
        assert len(rows) == manifest["n_rows"]
        assert {(row["slug"], row["hardware"], row["tier"]) for row in rows} == {
            (entry.slug, entry.hardware, entry.tier)
        }
        assert {row["backend"] for row in rows} == {entry.backend}
        assert {f"{row['started_at']:%Y-%m}" for row in rows} == {entry.month}
    few = collection.load(tmp_path, ("crop",))
    assert few.samples.column_names == ["crop", "submission", "submitter", "slug", "hardware", "tier"]
    assert few.entries == found.entries


def test_an_empty_folder_is_a_collection(tmp_path: Path) -> None:
    found = collection.load(tmp_path)
    assert found.entries == ()
    assert found.samples.num_rows == 0


COMMUNITY, REPRODUCED = (Tier.COMMUNITY, Verdict.PENDING), (Tier.REPRODUCED, Verdict.PENDING)
OUTLIER = (Tier.FLAGGED, Verdict.FLAGGED)


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([1.0, 1.0], [COMMUNITY] * 2),
        ([1.0, 1.05, 0.95], [REPRODUCED] * 3),
        ([1.0, 1.0, 1.3], [COMMUNITY] * 3),  # only two agree
        ([1.0, 1.02, 0.98, 1.3], [REPRODUCED] * 3 + [COMMUNITY]),
        ([1.0, 1.02, 0.98, 3.0], [REPRODUCED] * 3 + [OUTLIER]),
        ([1.0, 1.02, 0.98, 0.3], [REPRODUCED] * 3 + [OUTLIER]),
    ],
)
def test_three_submitters_that_agree_reproduce_a_result(
    scales: list[float], expected: list[tuple[Tier, Verdict]], tmp_path: Path
) -> None:
    for i, scale in enumerate(scales):
        put(tmp_path, i, scale)
    assert tiers(tmp_path) == expected


def test_one_submitter_is_counted_once(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path, i)
    ids = json.dumps([submitted.number_of(0), submitted.number_of(2)])
    (tmp_path / "flags.toml").write_text(f"[[same_submitter]]\nids = {ids}\n")
    assert tiers(tmp_path) == [COMMUNITY] * 3


def test_notes_of_the_maintainers_decide(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path, i)
    (tmp_path / "flags.toml").write_text(
        f'first_party = {{ {submitted.number_of(0)} = "" }}\n'
        f'[[flag]]\nid = "{submitted.number_of(1)}"\nreason = "a laptop on battery"\ndate = 2026-11-28\n'
    )
    slug = form.slug(submitted.HARDWARE[0][0])
    (tmp_path / "aliases.toml").write_text(f'[{slug}]\nname = "H200"\nnames = ["NVIDIA H200"]\n')
    found = {entry.id: entry for entry in collection.load(tmp_path).entries}
    first, flagged, other, _ = (found[submitted.number_of(i)] for i in range(4))
    assert (first.tier, first.verdict, first.hardware) == (Tier.FIRST_PARTY, Verdict.OK, "H200")
    assert (flagged.tier, flagged.notes) == (Tier.FLAGGED, ("a laptop on battery (2026-11-28)",))
    assert (other.tier, other.verdict) == (Tier.REPRODUCED, Verdict.OK)


@pytest.mark.parametrize("name", ["aliases.toml", "flags.toml"])
@pytest.mark.parametrize(
    "text", ["x", "[[flag]]\nid = 1", "[a]\nname = 1", "flag = 1", "same_submitter = [1]", "a = 1"]
)
def test_a_malformed_file_of_the_maintainers_is_an_error_or_without_effect(
    name: str, text: str, tmp_path: Path
) -> None:
    put(tmp_path, 0)
    (tmp_path / name).write_text(text)
    try:
        assert tiers(tmp_path) == [COMMUNITY]
    except CellbenchError as error:
        assert name in str(error.where)


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf"), -1.0])
def test_impossible_times_are_compared_with_nothing(scale: float, tmp_path: Path) -> None:
    for i, each in enumerate((1.0, 1.01, 0.99, scale)):
        put(tmp_path, i, each)
    assert tiers(tmp_path)[:3] == [REPRODUCED] * 3


@pytest.mark.parametrize("broken", ["parquet", "json", "pages", "letters"])
def test_a_damaged_file_is_an_entry_without_samples(broken: str, tmp_path: Path) -> None:
    path, other = put(tmp_path, 0), put(tmp_path, 1)
    if broken == "letters":  # the fuzzer's 31/submission/3743: bytes of a text that are not UTF-8
        without_checksums = pq.read_table(path)
        pq.write_table(without_checksums, path, compression="none", store_schema=False)
        path.write_bytes(path.read_bytes().replace(b"standard", b"stand\xffrd"))
    elif broken == "pages":
        content = bytearray(path.read_bytes())
        content[100:5000] = bytes(4900)
        path.write_bytes(content)
    else:
        path.with_suffix(f".{broken}").write_text("{")
    found = collection.load(tmp_path)
    entry = next(entry for entry in found.entries if entry.path == path)
    assert (entry.tier, entry.verdict, len(entry.notes)) == (Tier.FLAGGED, Verdict.REJECTED, 1)
    assert set(found.samples["submission"].to_pylist()) == {other.stem.split("-")[1]}
