"""The `cellbench` command: the way in, before anything else is imported."""

import signal


def main() -> None:
    """Run the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load: nothing has begun, nothing to say
    from harness.cli.app import run

    run()
