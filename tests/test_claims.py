"""No sentence says more than its rows: whatever a store holds, tests/refute.py refutes no finding and no word of it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests import claims


def test_no_claim_of_an_odd_store_is_refuted() -> None:
    made, refuted = Counter[str](), []
    for seed in range(36):
        counts, found = claims.check(seed)
        made += counts
        refuted += found
    assert refuted == []
    assert made.total() > 1000
    assert {"Speedup", "BySize", "Fastest", "SameMasks", "Winner", "Change", "Compared", "Note"} <= made.keys()


@pytest.mark.slow
def test_no_claim_of_many_odd_stores_is_refuted() -> None:
    assert [text for seed in range(36, 236) for text in claims.check(seed)[1]] == []
