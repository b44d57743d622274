"""A large file that arrives damaged is refused and never stays where an engine would find it."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from harness.engines import downloads
from harness.engines.cellpose4 import weights
from harness.errors import CellbenchError

CONTENT = np.random.default_rng(0).bytes(40_000)


def archive() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo("cpsam/data/0"), CONTENT)
    return stream.getvalue()


@pytest.mark.parametrize("place", [0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_damaged_file_does_not_stay(
    place: float, resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "FEWEST_BYTES", 100)
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path / "models"))
    content = bytearray(archive())
    content[int(place * len(content))] ^= 1
    sent = [bytes(content), archive()]
    if resumed:  # the damage is in the part that was there before
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / ".cpsam.part").write_bytes(content)

    def transfer(_: object, part: Path) -> None:
        if not part.exists():
            part.write_bytes(sent[1] if resumed else sent.pop(0))

    monkeypatch.setattr(downloads, "_continue", transfer)
    with pytest.raises(CellbenchError, match="arrived damaged"):
        weights.resolve("cpsam", "published")
    assert list((tmp_path / "models").iterdir()) == []
    assert weights.resolve("cpsam", "published").kind == "published"
    assert (tmp_path / "models" / "cpsam").read_bytes() == archive()
