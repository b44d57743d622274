"""What is said of Cellpose-SAM's memory before it is tried."""

from __future__ import annotations

import pytest

from harness.engines.cellpose4 import catalogue

GB = 1e9


@pytest.mark.parametrize(
    ("free", "gpus", "words"),
    [
        (16, (), []), (16, (24,), []), (6, (8,), []),
        (1.5, (), ["1.5 GB of memory are free"]),
        (16, (4,), ["A GPU here has 4.0 GB", "only bfloat16 fits"]),
        (16, (2,), ["A GPU here has 2.0 GB", "batch=1"]),
        (1, (4, 24, 2), ["1.0 GB of memory are free", "has 4.0 GB", "has 2.0 GB"]),
    ],
)  # fmt: skip
def test_a_shortage_is_said_with_what_to_expect(free: float, gpus: tuple[float, ...], words: list[str]) -> None:
    answer = " ".join(catalogue.shortages(free * GB, [each * GB for each in gpus]))
    assert bool(answer) == bool(words)
    assert [word for word in words if word not in answer] == []


def test_more_tiles_and_more_digits_need_more_memory() -> None:
    needs = [catalogue.memory_bytes(dtype, n) for dtype in ("bfloat16", "float32") for n in (1, 8, 32)]
    assert needs[0] < needs[1] < needs[2]
    assert all(half < full for half, full in zip(needs[:3], needs[3:], strict=True))
