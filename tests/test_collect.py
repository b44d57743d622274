"""Verdicts: realistic submissions, each with one fault, and a submission of a run in which every fact is private."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from typer.testing import CliRunner

from harness import images, schema
from harness.cli.app import app
from harness.images import synthetic
from harness.machine import facts
from harness.schema import Sample
from harness.store import Store, reference
from harness.submissions import checks, form
from harness.submissions.collection import Verdict
from tests import submitted
from tests.test_anonymous import HOME, HOST, IMAGE, USER, environment

TODAY = date(2026, 11, 28)
FIRST = submitted.number_of(0)  # first-party, accepted before
H200, L4, ARC = 0, 3, 11


def table(rows: list[Sample]) -> pa.Table:
    return pa.Table.from_pylist([{**row, **dict(zip(("case_id", "series_key"), form.keys(row), strict=True))}
                                 for row in rows], form.SCHEMA)  # fmt: skip


def made(
    i: int, hardware: int = H200, change: Callable[[Sample], dict[str, Any]] = lambda _: {}, **options: Any
) -> pa.Table:
    """Submission i: realistic times with noise; change: columns of a row that it changes."""
    rng = random.Random(i)
    rows = submitted.rows(hardware, number=submitted.number_of(i), **options)
    noisy = [{**row, "elapsed_s": row["elapsed_s"] and row["elapsed_s"] * rng.lognormvariate(0, 0.01)} for row in rows]
    return table([{**row, **change(row)} for row in noisy])


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    """A collection with one first-party submission and the names of some hardware."""
    folder = tmp_path / "accepted"
    submitted.write(folder, made(0), FIRST)
    tables = [
        f'[{form.slug(name)}]\nname = "{name}"\nnames = ["{name}"]\npeak_tflops = {peak}\n'
        for name, peak in (("NVIDIA H200", 990), ("NVIDIA L4", 121))
    ]
    (folder / "aliases.toml").write_text("\n".join(tables))
    (folder / "flags.toml").write_text(f'first_party = {{ {FIRST} = "" }}\n')
    return folder


def verdict(folder: Path, samples: pa.Table, i: int, accepted: Path, **changes: Any) -> tuple[Verdict, str]:
    """The verdict of a submission that is written to a folder; changes: of its manifest."""
    path = submitted.write(folder, samples, submitted.number_of(i))
    if changes:
        other = path.with_suffix(".json")
        other.write_text(json.dumps(json.loads(other.read_text()) | changes))
    return judged(folder, accepted)


def judged(folder: Path, accepted: Path) -> tuple[Verdict, str]:
    [(_, found, reasons)] = checks.validate(folder, checks.known(accepted, TODAY))
    return found, "; ".join(reason.text for reason in reasons if reason.verdict != Verdict.OK)


def renamed(folder: Path) -> None:
    """elapsed_s under another name."""
    path = next(folder.glob("*/*.parquet"))
    found = pq.read_table(path)
    pq.write_table(found.rename_columns(["seconds" if n == "elapsed_s" else n for n in found.column_names]), path)


REALISTIC: dict[str, tuple[pa.Table, Verdict, str]] = {
    "same hardware": (made(1), Verdict.OK, ""),
    "other hardware, where masks differ by rounding": (made(2, L4), Verdict.OK, ""),
    "out of memory": (made(3, 9, model="cpsam_v2"), Verdict.PENDING, "GTX 1650 is not in aliases.toml"),
    "an unknown GPU": (made(4, ARC), Verdict.PENDING, "A770 Graphics is not in aliases.toml"),
    "a duplicate": (
        made(5).set_column(form.SCHEMA.get_field_index("elapsed_s"), "elapsed_s", made(0)["elapsed_s"]),
        Verdict.FLAGGED,
        f"the times are those of submission {FIRST}",
    ),
    "a wrong mask": (
        made(6, change=lambda row: {"n_cells": 3, "mask_sha256": "0" * 64} if row["crop"] == "full" else {}),
        Verdict.FLAGGED,
        "crop full has 3 cells; the reference has 160",
    ),
    "an impossible rate": (
        made(7, L4, lambda row: {"elapsed_s": row["elapsed_s"] / 1e4}),
        Verdict.FLAGGED,
        "TFLOP/s at crop 224 is more than the hardware can do",
    ),
    "a private fact": (
        made(8, change=lambda _: {"os": "Ubuntu 24.04 on kolibri7.uni.example"}),
        Verdict.REJECTED,
        "os contains what looks like a host name",
    ),
    "a date in the future": (made(9, month="2027-01"), Verdict.FLAGGED, "2027-01 is in the future"),
    "few processes": (
        table([row for row in made(10).to_pylist() if row["block"] < 2]),
        Verdict.REJECTED,
        "timed in 2 of 3 processes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REALISTIC)
def test_realistic_submissions_get_their_verdict(name: str, accepted: Path, tmp_path: Path) -> None:
    samples, expected, reason = REALISTIC[name]
    found, reasons = verdict(tmp_path / "new", samples, list(REALISTIC).index(name) + 1, accepted)
    assert (found, reason in reasons) == (expected, True), reasons


def test_a_renamed_column_is_rejected(accepted: Path, tmp_path: Path) -> None:
    submitted.write(tmp_path / "new", made(1), submitted.number_of(1))
    renamed(tmp_path / "new")
    assert judged(tmp_path / "new", accepted) == (
        Verdict.REJECTED,
        "columns that a submission does not have: seconds",
    )


ROWS: dict[str, tuple[dict[str, Any], Verdict]] = {
    "text": ({"os": "<script>"}, Verdict.REJECTED),
    "formula of a spreadsheet": ({"os": "=1+2"}, Verdict.REJECTED),
    "hash": ({"mask_sha256": "x"}, Verdict.REJECTED),
    "path": ({"cpu_model": "AMD EPYC /home/x"}, Verdict.REJECTED),
    "uuid": ({"cpu_model": "GPU-0123-4567"}, Verdict.REJECTED),
    "address": ({"os": "Linux at 10.0.0.17"}, Verdict.REJECTED),
    "time of day": ({"os": "Linux 03:04"}, Verdict.REJECTED),
    "time": ({"started_at": datetime(2026, 11, 3, 4, 5, tzinfo=UTC)}, Verdict.REJECTED),
    "memory": ({"ram_bytes": 67_234_567_890}, Verdict.REJECTED),
    "status": ({"status": "fine"}, Verdict.REJECTED),
    "role": ({"role": "tune", "n_cells": None, "stop_reason": "x"}, Verdict.REJECTED),
    "column of another role": ({"peak_rss_bytes": 1}, Verdict.REJECTED),
    "zero": ({"elapsed_s": 0.0}, Verdict.REJECTED),
    "negative": ({"elapsed_s": -1.0}, Verdict.REJECTED),
    "nan": ({"elapsed_s": float("nan")}, Verdict.REJECTED),
    "infinite": ({"elapsed_s": float("inf")}, Verdict.REJECTED),
    "source": ({"source": "imported"}, Verdict.REJECTED),
    "node": ({"node": "kolibri7"}, Verdict.REJECTED),
    "profile": ({"profile": "custom"}, Verdict.REJECTED),
    "image": ({"image": "image-1"}, Verdict.REJECTED),
    "pixels": ({"image_sha256": "0" * 64}, Verdict.REJECTED),
    "size": ({"height_px": 10}, Verdict.REJECTED),
    "crop": ({"crop": "225"}, Verdict.REJECTED),
    "engine": ({"engine": "simulated"}, Verdict.REJECTED),
    "model": ({"model": "cyto9"}, Verdict.REJECTED),
    "weights": ({"weights": "custom"}, Verdict.REJECTED),
    "workload": ({"workload": "simulated"}, Verdict.REJECTED),
    "variant": ({"variant": "fast"}, Verdict.REJECTED),
    "constant": ({"elapsed_s": 1.2345678}, Verdict.FLAGGED),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_column_with_another_value(name: str, accepted: Path, tmp_path: Path) -> None:
    changes, expected = ROWS[name]
    found, reasons = verdict(tmp_path / "new", made(1, change=lambda _: changes), 1, accepted)
    assert found == expected, reasons


def test_round_times_and_times_that_fall_with_size_are_flagged(accepted: Path, tmp_path: Path) -> None:
    round_s = made(1, change=lambda row: {"elapsed_s": row["height_px"] / 100 + row["block"] + row["repetition"] / 10})
    assert "round" in verdict(tmp_path / "a", round_s, 1, accepted)[1]
    falling = made(1, change=lambda row: {"elapsed_s": row["elapsed_s"] * (224 / row["height_px"]) ** 3})
    assert "larger image" in verdict(tmp_path / "b", falling, 1, accepted)[1]


@pytest.mark.parametrize("key", ["sha256", "cases", "hardware", "id", "n_rows", "more"])
def test_a_manifest_that_differs_from_the_samples_is_rejected(key: str, accepted: Path, tmp_path: Path) -> None:
    found, reasons = verdict(tmp_path / "new", made(1), 1, accepted, **{key: "x"})
    assert (found, key in reasons) == (Verdict.REJECTED, True)


def test_a_submission_of_another_folder_name_or_a_link_is_rejected(accepted: Path, tmp_path: Path) -> None:
    path = submitted.write(tmp_path / "new", made(1), submitted.number_of(1))
    other = tmp_path / "moved" / "nvidia-l4"
    other.parent.mkdir()
    path.parent.rename(other)
    assert judged(tmp_path / "moved", accepted) == (Verdict.REJECTED, "the folder of this hardware is nvidia-h200")
    link = tmp_path / "linked" / "nvidia-h200" / path.name
    link.parent.mkdir(parents=True)
    link.symlink_to(other / path.name)
    assert judged(tmp_path / "linked", accepted)[1] == "it is not a plain file"
    stray = tmp_path / "stray" / "nvidia-h200" / "run.sh"
    stray.parent.mkdir(parents=True)
    stray.write_text("echo")
    assert judged(tmp_path / "stray", accepted)[0] == Verdict.REJECTED


def test_accepted_submissions_are_never_changed_or_deleted(accepted: Path, tmp_path: Path) -> None:
    def texts() -> list[str]:
        return [str(path.name) for path, *_ in checks.missing(tmp_path / "copy", accepted)]

    shutil.copytree(accepted, tmp_path / "copy")
    [path] = (tmp_path / "copy").glob("*/*.parquet")
    assert texts() == []
    path.with_suffix(".json").write_text("{}")
    assert texts() == [path.with_suffix(".json").name]
    path.unlink()
    assert texts() == [path.name, path.with_suffix(".json").name]
    done = CliRunner().invoke(app, ["collect", str(tmp_path / "copy"), "--reference", str(accepted), "--json"])
    assert (done.exit_code, "never changed or deleted" in done.stdout) == (2, True)


def test_a_large_file_and_many_rows_are_rejected_before_they_are_read(
    accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = submitted.write(tmp_path / "new", made(1), submitted.number_of(1))
    monkeypatch.setattr(checks, "MAX_ROWS", 59)
    assert "60 rows" in judged(tmp_path / "new", accepted)[1]
    path.write_bytes(b"x" * (checks.MAX_BYTES + 1))
    assert "more than" in judged(tmp_path / "new", accepted)[1]


@pytest.mark.slow
@pytest.mark.parallel
def test_the_known_images_are_those_that_are_drawn() -> None:
    drawn = {name: images.load(name) for name in synthetic.BUILT_IN}
    hashes = {name: image.sha256 for name, image in drawn.items()}
    assert {**hashes, form.CONTROL: images.hash_pixels(synthetic.control())} == checks.IMAGES
    assert {image.pixels.shape for image in drawn.values()} == {checks.SIDES_PX}
    assert synthetic.control().shape == checks.CONTROL_PX


# ------------------------------------------------------------------ the commands


def private_store(folder: Path) -> None:
    """A run of a published profile with something private wherever there is a place for it."""
    answer = environment()
    own = {
        "run_id": "20261103T030405Z-aaaaaa", "node": HOST, "machine_id": "feedfacecafe0123", "openmp_threads": HOST,
        "ram_bytes": 67_234_567_890, "os": f"Debian 12, kernel 6.1.2-{HOST}", "cpu_model": f"AMD EPYC {HOME}/x",
    }  # fmt: skip
    rows = [{**row, **own, "started_at": datetime(2026, 11, 3, 3, 4, 5, i, tzinfo=UTC)}
            for i, row in enumerate(submitted.rows(H200))]  # fmt: skip
    cold = {"role": "cold", "phase": "model_load", "crop": None, "environment": json.dumps(answer)}
    failed = {"role": "warmup", "status": "crash", "error_type": f"{USER}Error", "error_message": f"{HOME}/{IMAGE}"}
    rows += [{**rows[0], **cold}, {**rows[0], **failed, "elapsed_s": None}]
    Store.make(folder).add(schema.table(rows))


def test_a_submission_has_none_of_the_private_facts(
    accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "FOLDER", accepted)
    private_store(tmp_path / "own")
    words = ["submit", "--out", str(tmp_path / "own"), "--to", str(tmp_path / "new")]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert not (tmp_path / "new").exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    path = next((tmp_path / "new").glob("*/*.parquet"))
    cells = json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False)
    published = [done.stdout, dry.stdout, path.name, cells, path.with_suffix(".json").read_text()]
    answer = environment()
    secrets = [str(answer[each.name]) for each in facts.FACTS if each.private]
    secrets += [str(value) for value in answer.values() if isinstance(value, str) and HOST in value]
    secrets += [HOST, HOST.partition(".")[0], USER, HOME, IMAGE, "feedface", "67234567890", "03:04", "T0304", "aaaaaa"]
    for word in secrets:
        for text in published:
            assert word.lower() not in text.lower(), word
        assert word.encode() not in path.read_bytes()
    collected = CliRunner().invoke(app, ["collect", str(tmp_path / "new"), "--json"])
    assert (collected.exit_code, json.loads(collected.stdout)[0]["verdict"]) == (0, "ok"), collected.stdout
    assert {path.suffix for path in (tmp_path / "new").glob("*/*")} == {".parquet", ".json"}
    assert "not empty" in str(CliRunner().invoke(app, words).exception)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"profile": "mine"}, "custom is not a published profile"),
        ({"image": "cells.tif", "image_is_synthetic": False}, "is not a built-in image"),
        ({"crop": "225", "height_px": 225, "width_px": 225}, "225 of 225 × 225 px is not a size"),
        ({"block": 0}, "1 of 3 processes"),
        ({"weights": "custom"}, "custom weights"),
        ({"device_name": None}, "no device with a name"),
    ],
)
def test_a_run_that_does_not_qualify_is_an_error_that_names_how_to_make_one(
    change: dict[str, Any], reason: str, accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "FOLDER", accepted)
    Store.make(tmp_path / "own").add(schema.table({**row, **change} for row in submitted.rows(H200)))
    done = CliRunner().invoke(app, ["submit", "--out", str(tmp_path / "own"), "--to", str(tmp_path / "new")])
    assert reason in str(done.exception)
    assert "cellbench run --profile article" in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_a_footer_with_an_unknown_codec_is_rejected(accepted: Path, tmp_path: Path) -> None:
    """Arrow ends the process where the codec of such a footer is requested: scripts/fuzz.py found it."""
    path = submitted.write(tmp_path / "new", made(1), submitted.number_of(1))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"elapsed_s\x15\x00", b"elapsed_s\x15\x15"))
    assert path.read_bytes() != content
    found, reason = judged(tmp_path / "new", accepted)
    assert (found, "codec" in reason) == (Verdict.REJECTED, True)


@pytest.mark.parametrize(("names", "code"), [(["same hardware", "an unknown GPU"], 0), (["a duplicate"], 1),
                                             (["a duplicate", "few processes"], 2)])  # fmt: skip
def test_the_exit_code_is_that_of_the_gravest_verdict(
    names: list[str], code: int, accepted: Path, tmp_path: Path
) -> None:
    for name in names:
        number = submitted.number_of(list(REALISTIC).index(name) + 1)
        submitted.write(tmp_path / "new", REALISTIC[name][0], number)
    done = CliRunner().invoke(app, ["collect", str(tmp_path / "new"), "--reference", str(accepted)])
    assert done.exit_code == code, done.output
    assert all(name in done.stdout for name in ("file", "verdict", "reasons"))


def test_the_reference_set_of_this_project_is_accepted() -> None:
    known = checks.known(reference.FOLDER)
    verdicts = {found for _, found, _ in checks.validate(reference.FOLDER, known)}
    assert verdicts <= {Verdict.OK, Verdict.PENDING}
