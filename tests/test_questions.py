"""The questions that users ask most, each answered by one command over results that exist."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.judge import annotations
from harness.schema import Sample
from tests.conftest import make_sample, make_store
from tests.staged import ON_CPU, stage_samples

BEFORE, AFTER = "20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb"
CPU = {"backend": "cpu", "device": "cpu", "device_name": "AMD EPYC 9R14", "workload": "cellpose", "source": "measured"}
GPU = CPU | {"backend": "cuda", "device": "cuda:0", "device_name": "NVIDIA H200"}
SIZES = {"224": (224, 224), "896": (896, 896), "full": (2160, 2560)}


def timed(seconds_per_mpx: float, **columns: Any) -> list[Sample]:
    """Three processes of three calls at each size."""
    return [
        make_sample(**{
            "crop": crop, "height_px": height_px, "width_px": width_px, "block": block, "repetition": i,
            "elapsed_s": seconds_per_mpx * height_px * width_px / 1e6 * (1 + block / 100 + i / 500), **columns,
        })
        for block in range(3) for crop, (height_px, width_px) in SIZES.items() for i in range(3)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on a processor and a card, before and after an update, with two models and a stage pass in the last."""
    folder = tmp_path_factory.mktemp("questions") / "results"
    rows = [
        row for run_id, slower in ((BEFORE, 1.0), (AFTER, 1.6)) for row in timed(14.0 * slower, **CPU, run_id=run_id)
    ]
    rows += timed(0.15, **GPU, run_id=AFTER)
    rows += timed(0.45, **GPU, run_id=AFTER, model="cpsam_v2", engine="cellpose4")
    rows += stage_samples(ON_CPU, {"224": 1.1}, run_id=AFTER, source="measured", **{"device_name": "AMD EPYC 9R14"})
    make_store(folder, rows)
    annotations.add(folder, [annotations.new("tag", BEFORE, name="before-update")])
    return folder


# Question: the command, and texts that its answer has.
QUESTIONS: dict[str, tuple[list[str], list[str]]] = {
    "Which device for 2048 px?": (["query", "fastest-device", "--param", "px=2048"], ["cuda:0", "full"]),
    "How long do 500 images of 2160 x 2560 px take here?": (
        ["estimate", "500", "--size", "2160x2560"], ["about (min)", "NVIDIA H200", "AMD EPYC 9R14"],
    ),
    "Is the GPU of my environment used?": (["doctor", "--python", sys.executable], ["torch"]),
    "Which GPU takes less than 1 s per image?": (["estimate", "1", "--size", "2160x2560"], ["s per image", "0.8"]),
    "What does Cellpose-SAM cost here?": (["report", "--md"], ["takes 3.00 times", "as long as cyto3"]),
    "Where does the time go, and what do I change?": (["show", "--stages"], ["network", "cellbench tune"]),
    "Is the machine slower since the update?": (["compare", "before-update", "latest"], ["slower"]),
    "This figure in my paper": (
        ["chart", "time", "--for", "paper", "--to", "FOLDER/f.pdf"], ["f.pdf", "f.caption.txt"],
    ),
    "A sentence to cite": (["report", "--to", "FOLDER/r.html"], ["r.html"]),
    "Share my results": (["anonymise", "--to", "FOLDER/shared"], ["shared", "with other names"]),
}  # fmt: skip
WRITTEN = {
    "This figure in my paper": ("f.caption.txt", "Evaluated with Cellbench"),
    "A sentence to cite": ("r.html", "To cite: “"),
    "Share my results": ("shared", ""),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_command_answers(question: str, store: Path, tmp_path: Path) -> None:
    words, texts = QUESTIONS[question]
    done = cellbench(*(word.replace("FOLDER", str(tmp_path)) for word in words), "--out", str(store))
    assert done.exit_code in ((0, 3) if words[0] == "doctor" else (0,)), done.exception
    answer = (done.stdout + done.stderr).replace("\u00a0", " ")
    assert [text for text in texts if text not in answer] == [], answer
    name, text = WRITTEN.get(question, ("", ""))
    assert not name or (tmp_path / name).is_dir() or text in (tmp_path / name).read_text("utf-8")


def cellbench(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))
