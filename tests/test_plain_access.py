"""The one-liners of docs/query.md, as they stand there, on a real store: no part of this program is needed."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, make_sample, make_store

PAGE = (REPOSITORY / "docs" / "query.md").read_text()
LINES = re.findall(r"^    ((?:python -c|duckdb -c) .*)$", PAGE, re.MULTILINE)


def test_the_page_has_one_for_each() -> None:
    assert len(LINES) == 4
    for library in ("pandas", "polars", "duckdb -c", "import duckdb"):
        assert library in PAGE


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_a_one_liner_prints_the_median(tmp_path: Path, line: str) -> None:
    needed = re.search(r"import (\w+)", line)
    if needed and importlib.util.find_spec(needed[1]) is None:
        pytest.skip(f"{needed[1]} is not installed")
    words = line
    if line.startswith("duckdb"):
        command = shutil.which("duckdb") or shutil.which("duckdb", path=Path(sys.executable).parent)
        if command is None:
            pytest.skip("the DuckDB command is not installed")
        words = line.replace("duckdb", command, 1)
    make_store(tmp_path / "results", [make_sample(repetition=i, elapsed_s=s) for i, s in enumerate((1.0, 2.0, 4.5))])
    words = words.replace("python", sys.executable, 1)
    done = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "224" in done.stdout
    assert "2.0" in done.stdout
