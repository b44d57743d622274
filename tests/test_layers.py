"""The rooms of the house and who may enter them (docs/architecture.md)."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harness"

# Top to bottom; a room, a module or a package, may import from rooms below it only.
FLOORS = (
    ("cli",),
    ("doctor", "dictionary"),
    ("installation", "show", "schedule"),
    ("alarms", "tune", "throughput"),
    ("compare", "history"),
    ("selection",),
    ("bench",),
    ("resume",),
    ("fleet", "join", "query"),
    ("store", "annotations"),
    ("measure",),
    ("weights", "images", "plan"),
    ("config",),
    ("variants",),
    ("node", "tiff"),
    ("schema", "synthetic", "published", "diagnosis", "stats"),
    ("errors",),
    ("__init__",),
)

# Heavy libraries and the one module or room (or the few) that may import each.
OWNERS = {
    "ray": {"fleet.cluster", "join.gcs"},
    "torch": {"measure.workload", "measure.stages", "measure.memory", "measure.selfcheck", "variants"},
    "cellpose": {"measure.workload", "measure.stages", "measure.agreement", "variants"},
    "cv2": {"measure.workload", "measure.selfcheck", "variants"},
    "numba": {"measure.workload", "measure.selfcheck", "variants"},
    "pynvml": {"node.nvidia"},
    "altair": {
        "show.drawing",
        "show.looks",
        "show.linechart",
        "show.stagechart",
        "show.dotchart",
        "show.gridchart",
        "show.stripchart",
        "show.charts",
        "show.historychart",
        "show.historystrip",
    },
    "vl_convert": {"show.drawing"},
    "jinja2": {"show.report", "show.history", "show.index"},
    "rich": {"show.screen", "show.progress", "show.coverage", "show.printing", "show.rows"},
    "prompt_toolkit": {"show.prompt"},
    "duckdb": {"query"},
    "tifffile": {"tiff"},
    "typer": {"cli"},
    "scipy": {"synthetic", "stats"},
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
    may = {module, module.split(".", maxsplit=1)[0]}
    assert {root for root in roots & OWNERS.keys() if not may & OWNERS[root]} == set()
