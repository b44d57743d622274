"""The entry point of the `cellbench` command; it runs before anything else is imported.

Until main() has set its handler, Ctrl-C shows a traceback: so this module imports almost nothing.
"""

import signal
import sys


def main() -> None:
    """Run the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load: nothing has begun, so no message
    try:
        from harness.cli.app import run
    except Exception as error:  # of a package that is broken or hidden
        _refuse(error)
    else:
        run()


def _refuse(error: Exception) -> None:
    """Report which package cannot be imported, and exit."""
    from harness.machine.packages import explained

    print("cellbench: {}\n  where: {}\n  fix:   {}".format(*explained(error)), file=sys.stderr)
    sys.exit(2)
