"""The result of a check of this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import CellbenchError

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"


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
