"""`python -m harness.cli` is `cellbench`."""

from harness.cli import main

main()
