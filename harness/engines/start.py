"""Starts a module of this program under any interpreter: python start.py VERSION MODULE [ARGUMENT…].

It makes this program importable there, and no other package of its folder: another interpreter has its own packages.
"""

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Import this program from its folder, and call the module's main()."""
    del sys.path[0]  # the folder of this file
    spec = spec_from_file_location("harness", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no program in {PACKAGE}")
    sys.modules["harness"] = harness = module_from_spec(spec)
    spec.loader.exec_module(harness)
    _, version, module, *arguments = sys.argv  # where it is not installed, this is the only source of its version
    vars(harness)["__version__"] = version
    import_module(module).main(*arguments)


if __name__ == "__main__":
    main()
