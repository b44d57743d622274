"""Starts the measuring process: python start.py VERSION ENGINE, under any interpreter.

It makes this program importable there, and nothing that lies beside it: another interpreter has packages of its own.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Import this program from where it lies, and greet."""
    del sys.path[0]  # the folder of this file
    spec = spec_from_file_location("harness", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no program in {PACKAGE}")
    sys.modules["harness"] = harness = module_from_spec(spec)
    spec.loader.exec_module(harness)
    _, version, engine = sys.argv
    harness.__version__ = version  # where it is not installed, nothing tells it
    from harness.measure import child

    child.main(engine)


if __name__ == "__main__":
    main()
