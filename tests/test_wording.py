"""Numbers, devices and series as people read them."""

from __future__ import annotations

import math

import pytest

from harness.results import formatting


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.98, 3, "0.980"), (9.996, 3, "10.0"), (1234.5, 3, "1,234"), (0.0, 3, "0"), (None, 3, "–"), (66.4, 2, "66")],
)
def test_number(value: float | None, digits: int, text: str) -> None:
    assert formatting.number(value, digits) == text


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.0123, "12.3 ms"), (1.0, "1 s"), (12.34, "12.3 s"), (123.4, "123 s"), (None, "–"), (math.nan, "–")],
)
def test_seconds(value_s: float | None, text: str) -> None:
    assert formatting.seconds(value_s) == text


@pytest.mark.parametrize(("share", "decimals", "text"), [(0.776, 0, "78 %"), (0.0312, 1, "3.1 %"), (None, 0, "–")])
def test_percent(share: float | None, decimals: int, text: str) -> None:
    assert formatting.percent(share, decimals).replace("\u00a0", " ") == text


def test_count() -> None:
    assert (formatting.count(1, "case"), formatting.count(0, "case")) == ("1 case", "0 cases")


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        ((0, 3, {}), None),
        ((1, 1, {"load": 1}), "1 of 1 repetition has a flag (load 1) and is included"),
        ((2, 4, {"load": 2, "drift": 1}), "2 of 4 repetitions have a flag (load 2, drift 1) and are included"),
    ],
)
def test_flags_are_counted_by_repetition_and_by_kind(
    flags: tuple[int, int, dict[str, int]], output: str | None
) -> None:
    assert formatting.flagged(*flags) == output


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Intel(R) Core(TM) i7-8086K CPU @ 4.00GHz", "Intel Core i7-8086K"),
        ("AMD EPYC 9R14 96-Core Processor", "AMD EPYC 9R14"),
        ("NVIDIA GeForce RTX 4070", "NVIDIA GeForce RTX 4070"),
        ("CPU", "CPU"),
        (None, "unknown"),
    ],
)
def test_short_name(name: str | None, short: str) -> None:
    assert formatting.short_name(name) == short


@pytest.mark.parametrize(("crop", "text"), [("224", "224 px"), ("full", "full image")])
def test_size_label(crop: str, text: str) -> None:
    assert formatting.size_label({"crop": crop}) == text
