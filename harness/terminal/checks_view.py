"""Checks of a machine as text and JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

from rich.text import Text

from harness.machine.checks import FAIL, OK, SKIPPED, WARN, Check
from harness.terminal.table_printer import STYLES, stdout

VERDICT_COLUMNS, NAME_COLUMNS = 9, 17


def show(checks: Iterable[Check], as_json: bool = False) -> list[Check]:
    """Print checks on stdout, each as soon as it is there (as JSON: all at the end), and return them."""
    shown, to = [], stdout()
    for check in checks:
        shown.append(check)
        if not as_json:
            lines = Text(text(check, to.width))
            lines.stylize(STYLES.get(check.verdict, "dim"), 0, len(check.verdict))
            to.print(lines, soft_wrap=True)
    if as_json:
        json.dump([asdict(check) for check in shown], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        to.print(summary(shown), markup=False)
    return shown


def text(check: Check, columns: int) -> str:
    """One check for people: verdict, name and evidence, and the fix below."""
    head = f"{check.verdict:{VERDICT_COLUMNS}}{check.name:{NAME_COLUMNS}} "
    margin = " " * len(head)
    # The output of a child contains line breaks; filling makes one paragraph of it.
    lines = [textwrap.fill(check.evidence, columns, initial_indent=head, subsequent_indent=margin)]
    if check.fix:
        lines.append(
            textwrap.fill(
                check.fix, columns, break_long_words=False, break_on_hyphens=False, initial_indent=f"{margin}fix: ",
                subsequent_indent=f"{margin}     ",
            )
        )  # fmt: skip
    return "\n".join(lines)


def summary(checks: list[Check]) -> str:
    """The number of checks, and of each verdict."""
    count = Counter(check.verdict for check in checks)
    words = ((OK, "ok"), (WARN, "with a warning"), (FAIL, "failed"), (SKIPPED, "skipped"))
    return f"{len(checks)} checks: " + ", ".join(f"{count[name]} {word}" for name, word in words if count[name])
