"""The passes: a module each, with run(bench, row, task); schema/enumerations.py lists them."""
