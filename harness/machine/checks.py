"""What a check of this machine says, and how it is printed."""

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
    """One thing that was looked at: what was seen, whether it is good enough to measure, and what would mend it.

    verdict: ok, warn (measure, but know this), fail (figures would be wrong or there would be none) or skipped.
    """

    name: str
    verdict: str
    evidence: str
    fix: str | None = None


def attempt(name: str, look: Callable[[], Check | list[Check]]) -> list[Check]:
    """What a look finds; a look that breaks is a failed check with its error, and hides no other."""
    try:
        found = look()
    except CellbenchError as error:
        return [Check(name, FAIL, f"{error.what} ({error.where})" if error.where else error.what, error.fix)]
    except Exception as error:  # whatever it is, this is what the check has found
        fix = "if that does not tell you what to do, report it together with what cellbench doctor --json prints"
        return [Check(name, FAIL, f"the check itself broke: {type(error).__name__}: {error}", fix)]
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
    """One check as people read it: verdict, name and evidence, and the fix below."""
    head = f"{check.verdict:{VERDICT_COLUMNS}}{check.name:{NAME_COLUMNS}} "
    margin = " " * len(head)
    # A child's last words come with line breaks of their own; filling makes one paragraph of them.
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
    """How many checks there were and how they ended."""
    count = Counter(check.verdict for check in checks)
    words = ((OK, "ok"), (WARN, "with a warning"), (FAIL, "failed"), (SKIPPED, "skipped"))
    return f"{len(checks)} checks: " + ", ".join(f"{count[name]} {word}" for name, word in words if count[name])
