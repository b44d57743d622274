"""Stopping a command that measures: measured samples are saved, and the command that resumes is printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from harness.errors import CasesFailedError, StorageError, command


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt; a second one ends the process at once, with exit code 130."""
    import os
    import signal

    def at_once(*_: object) -> None:
        os._exit(130)

    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: object) -> None:
        for each in signals:
            signal.signal(each, at_once)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, stop) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def resumable(run_id: str, out: Path) -> Iterator[None]:
    """Stop and save on Ctrl-C or SIGTERM; a second one stops at once. The exit code is 130.

    A disk that takes no more stops it in the same way, with an error of its own.
    """
    has_begun = (out / "runs" / f"{run_id}.json").is_file
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        typer.echo(f"cellbench: stopped; what was measured is saved in {out}", err=True)
        if has_begun():
            typer.echo(f"  resume: {command('resume', run_id, '--out', out)}", err=True)
        raise typer.Exit(130) from None
    except StorageError as error:
        if not has_begun():
            raise
        fix = f"{error.fix}; then resume: {command('resume', run_id, '--out', out)}"
        raise CasesFailedError(f"{error.what}; what was measured until then is kept", error.where, fix) from error
