"""The passes: a module each, with run(bench, row, task); plan/passes.py lists them."""
