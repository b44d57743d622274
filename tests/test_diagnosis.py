"""What a check says and how it is printed."""

import json

import pytest

from harness.errors import CellbenchError
from harness.machine import checks
from harness.machine.checks import FAIL, OK, SKIPPED, WARN, Check
from harness.terminal import checks_view

GOOD, BAD = Check("clock", OK, "ticks"), Check("sync cuda:0", FAIL, "stops\nearly", "mend   it")


def broken(error: Exception) -> Check:
    raise error


def test_a_look_that_breaks_is_a_failed_check() -> None:
    [check] = checks.attempt("disk", lambda: broken(ZeroDivisionError("by zero")))
    assert (check.name, check.verdict) == ("disk", FAIL)
    assert "ZeroDivisionError: by zero" in check.evidence
    assert check.fix


def test_an_error_of_ours_keeps_its_fix() -> None:
    error = CellbenchError("no weights", "/models", "fetch them")
    assert checks.attempt("weights", lambda: broken(error)) == [
        Check("weights", FAIL, "no weights (/models)", "fetch them")
    ]
    assert checks.attempt("x", lambda: broken(CellbenchError("no", None, None)))[0].evidence == "no"


def test_one_check_or_several() -> None:
    assert checks.attempt("a", lambda: GOOD) == [GOOD]
    assert checks.attempt("a", lambda: [GOOD, BAD]) == [GOOD, BAD]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert checks_view.show(iter([GOOD, BAD]), as_json=True) == [GOOD, BAD]
    assert json.loads(capsys.readouterr().out) == [
        {"name": "clock", "verdict": "ok", "evidence": "ticks", "fix": None},
        {"name": "sync cuda:0", "verdict": "fail", "evidence": "stops\nearly", "fix": "mend   it"},
    ]


def test_text_is_a_line_a_check_and_one_for_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    checks_view.show([GOOD, BAD])
    first, second, fix, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["ok", "clock", "ticks"]
    assert second.split() == ["fail", "sync", "cuda:0", "stops", "early"]
    assert fix.split() == ["fix:", "mend", "it"]
    assert last == "2 checks: 1 ok, 1 failed"


def test_text_fits_a_narrow_terminal() -> None:
    for check in (Check("n", WARN, "word " * 50, "word " * 50), Check("n", SKIPPED, "x" * 300)):
        assert max(map(len, checks_view.text(check, 60).splitlines())) <= 60
    long = "python -m pip install " + '"cellpose<4,>=3.1.1" ' * 5
    assert '"cellpose<4,>=3.1.1"' in checks_view.text(Check("n", FAIL, "", long), 60)


def test_each_check_is_shown_before_the_next_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    def looks():
        yield GOOD
        assert "clock" in capsys.readouterr().out
        yield BAD

    checks_view.show(looks())
