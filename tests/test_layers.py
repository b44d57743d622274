"""The rooms of the house and who may enter them (docs/architecture.md)."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harness"

# Top to bottom; a room, a module or a package, may import from rooms below it only.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("doctor", "schedule"),
    ("report",),
    ("charts", "terminal"),
    ("results",),
    ("judge",),
    ("run",),
    ("fleet", "query"),
    ("store",),
    ("measure",),
    ("plan",),
    ("engines",),
    ("images", "machine"),
    ("schema", "stats"),
    ("errors",),
    ("__init__",),
)

# Heavy libraries and the one module or room (or the few) that may import each.
OWNERS = {
    "ray": {"fleet.driver.cluster", "fleet.nodes.control_service"},
    "torch": {"machine.accelerators", "measure.passes", "measure.selfcheck", "engines"},
    "cellpose": {"engines.cellpose3", "engines.cellpose4"},
    "cv2": {"engines"},
    "numba": {"engines"},
    "pynvml": {"machine.nvidia"},
    "altair": {"charts"},
    "vl_convert": {"charts.rendering"},
    "jinja2": {"report"},
    "rich": {"terminal"},
    "prompt_toolkit": {"terminal.prompt"},
    "duckdb": {"query"},
    "tifffile": {"images.tiff"},
    "typer": {"cli"},
    "scipy": {"engines.cellpose4.surrogate", "images.synthetic", "measure.agreement", "stats"},
    "ruptures": {"stats"},
}


def name_of(path: Path) -> str:
    """A module's name inside the package: 'query', 'node.probe', 'node' for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> set[str]:
    """Every module that this one imports, at any depth, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if name.removeprefix("harness.") in FILES}
            names |= modules or {node.module}
    return names


def within(module: str) -> set[str]:
    """The modules of this program that it imports; the package itself gives its version only."""
    return {name.removeprefix("harness.") for name in imported(module) if name.startswith("harness.")}


def floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if module.split(".", maxsplit=1)[0] in rooms)


def test_every_module_has_a_room() -> None:
    assert {room for rooms in FLOORS for room in rooms} == {module.split(".")[0] for module in FILES}


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    room = module.split(".", maxsplit=1)[0]
    others = {name for name in within(module) if name.split(".")[0] != room}
    assert [name for name in others if floor(name) <= floor(module)] == []


def test_no_module_imports_itself_by_a_detour() -> None:
    TopologicalSorter({module: within(module) for module in FILES}).prepare()


@pytest.mark.parametrize("module", FILES)
def test_heavy_libraries_have_one_owner(module: str) -> None:
    roots = {name.split(".")[0] for name in imported(module)}
    parts = module.split(".")
    may = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    assert {root for root in roots & OWNERS.keys() if not may & OWNERS[root]} == set()
