"""The result of a check of this machine, and its printed form."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from harness.errors import CellbenchError

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"
VERDICT_COLUMNS, NAME_COLUMNS = 9, 17


@dataclass(frozen=True)
class Check:
    """One check: the evidence, the verdict whether this machine can measure, and the fix.

    verdict: ok, warn (can measure, with this caveat), fail (numbers would be wrong or missing) or skipped.
    """

    name: str
    verdict: str
    evidence: str
    fix: str | None = None


def attempt(name: str, look: Callable[[], Check | list[Check]]) -> list[Check]:
    """Run a check; an error of the check becomes a failed check and hides no other."""
    try:
        found = look()
    except CellbenchError as error:
        return [Check(name, FAIL, f"{error.what} ({error.where})" if error.where else error.what, error.fix)]
    except Exception as error:  # any error is the finding of this check
        fix = "if that is not clear, report it together with the output of cellbench doctor --json"
        return [Check(name, FAIL, f"the check itself failed: {type(error).__name__}: {error}", fix)]
    return found if isinstance(found, list) else [found]


def show(checks: Iterable[Check], as_json: bool = False) -> list[Check]:
    """Print checks on stdout, each as soon as it is there (as JSON: all at the end), and return them."""
    # Piped output is never wrapped: a program reads it.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    shown = []
    for check in checks:
        shown.append(check)
        if not as_json:
            print(text(check, columns), flush=True)
    if as_json:
        json.dump([asdict(check) for check in shown], sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        print(summary(shown))
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
