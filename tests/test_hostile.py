"""Hostile input is read or refused with a reason, never a traceback; scripts/fuzz.py does the same for long."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import hostile

FEW = settings(
    max_examples=30, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.mark.parametrize("kind", ["tiff", "profile", "sql", "journal", "path", "letters", "submission"])
@FEW
@given(seed=st.integers(0, 2**32))
def test_damaged_input_is_read_or_refused(kind: str, seed: int, tmp_path: Path) -> None:
    assert hostile.verdict(kind, hostile.draw(kind, random.Random(seed)), tmp_path) in ("fine", "refused")


@settings(FEW, max_examples=5)  # each opens a store anew
@given(seed=st.integers(0, 2**32))
def test_damaged_results_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    assert hostile.verdict("parquet", hostile.draw("parquet", random.Random(seed)), tmp_path) in ("fine", "refused")


@FEW
@given(data=st.binary(max_size=300), start=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b""]))
def test_any_bytes_are_an_image_or_refused(data: bytes, start: bytes, tmp_path: Path) -> None:
    hostile.verdict("tiff", start + data, tmp_path)


@FEW
@given(text=st.text(max_size=200))
def test_any_text_is_sql_and_a_profile_or_refused(text: str, tmp_path: Path) -> None:
    data = text.encode("utf-8", "replace")
    hostile.verdict("sql", data, tmp_path)
    hostile.verdict("profile", data, tmp_path)


def test_what_is_not_damaged_is_read(tmp_path: Path) -> None:
    fine = [("parquet", hostile.parquet()), ("journal", hostile.journal()), ("sql", b"SELECT 1")]
    fine += [("profile", profile) for profile in hostile.profiles()]
    kinds = [hostile.verdict(kind, data, tmp_path / f"{kind}{i}") for i, (kind, data) in enumerate(fine)
             if (tmp_path / f"{kind}{i}").mkdir() is None]  # fmt: skip
    assert kinds == ["fine"] * len(fine)
    readable = [hostile.verdict("tiff", data, tmp_path) for data in hostile.tiffs()]
    assert readable.count("fine") >= 9  # stacks and colours say what is to be picked


@pytest.mark.parametrize("damaged", [(b"elapsed_s", b"\xe2lapsed_s"), (b"cellbench.schema_version", None)])
def test_a_footer_whose_names_are_no_text_is_damage(damaged: tuple[bytes, bytes | None], tmp_path: Path) -> None:
    name, other = damaged
    content = hostile.parquet()
    if other is None:  # the version itself: the digits after its name and their length
        at = content.rindex(name) + len(name) + 2
        content = content[:at] + b"\xff" + content[at + 1 :]
    else:
        content = content.replace(name, other)
    assert hostile.verdict("parquet", content, tmp_path) == "fine"  # left out, and named
