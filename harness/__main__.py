"""`python -m harness` is `cellbench`."""

from harness.cli import main

main()
