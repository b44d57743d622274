"""The smallest foreign use of the processors that raises the flag load, found on a machine with a made-up clock.

    python scripts/benchmarks/smallest_load.py

Prints the table of docs/measurement.md: processors' worth of time by the length of a repetition, found by bisection.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.machine.interference import Machine, Watch

SPANS_S = (0.04, 0.05, 0.1, 0.3, 1.0, 10.0, 100.0)
N_LOGICAL = (1, 2, 16, 256)
STEPS = 40


def is_seen(foreign: float, span_s: float, n_logical: int, root: Path) -> bool:
    """Whether this foreign load in processors raises the flag, while our own work uses all the others."""
    clock_s = [0.0, 0.0]  # passed, ours
    machine = Machine(
        root, "linux", lambda _: None, {},
        busy_s=lambda: clock_s[1] + foreign * clock_s[0], own_cpu_s=lambda: clock_s[1], awake_s=lambda: clock_s[0],
        through_sleep_s=lambda: clock_s[0], wall_s=lambda: clock_s[0], n_logical=n_logical,
    )  # fmt: skip
    finish = Watch(None, machine).begin()
    clock_s[:] = [span_s, span_s * max(n_logical - foreign, 0.0)]
    return "load" in finish()["flags"].split()


def smallest(span_s: float, n_logical: int, root: Path) -> float | None:
    """The smallest use that is seen, in processors; None where even one of them whole is not."""
    low, high = 0.0, 1.0
    if not is_seen(high, span_s, n_logical, root):
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle, span_s, n_logical, root) else (middle, high)
    return high


def table() -> str:
    """Markdown: a row for each number of processors, a column for each span."""
    head = ["processors", *(f"{span_s:g} s" for span_s in SPANS_S)]
    lines = [head, ["---:"] * len(head)]
    with tempfile.TemporaryDirectory() as root:
        for n_logical in N_LOGICAL:
            found = [smallest(span_s, n_logical, Path(root)) for span_s in SPANS_S]
            lines.append([str(n_logical), *("never" if each is None else f"{each:.2f}" for each in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
