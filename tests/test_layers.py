"""The rooms of the house and who may enter them (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harness"

# Top to bottom; a room may import from rooms below it only.
FLOORS = (
    ("cli",),
    ("screen", "report"),
    ("bench", "charts"),
    ("fleet", "query"),
    ("worker", "store"),
    ("workload", "weights"),
    ("images", "plan"),
    ("config", "probe", "timing", "schema", "synthetic", "published"),
    ("errors",),
    ("__init__",),
)

# Heavy libraries and the one room (or the few) that may import each.
OWNERS = {
    "ray": {"fleet"},
    "torch": {"workload"},
    "cellpose": {"workload"},
    "cv2": {"workload"},
    "numba": {"workload"},
    "altair": {"charts"},
    "vl_convert": {"charts", "report"},
    "jinja2": {"report"},
    "duckdb": {"query"},
    "tifffile": {"images"},
    "typer": {"cli"},
    "rich": {"screen"},
    "scipy": {"synthetic"},
}

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(module: str) -> set[str]:
    """Every module that this one imports, at any depth, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "harness":
            names |= {f"harness.{alias.name}" for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if module in rooms)


def test_every_module_has_a_room() -> None:
    assert sorted(room for rooms in FLOORS for room in rooms) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    below = {name.split(".")[1] for name in imported(module) if name.startswith("harness.")}
    assert [name for name in below if floor(name) <= floor(module)] == []


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_have_one_owner(module: str) -> None:
    roots = {name.split(".")[0] for name in imported(module)}
    assert {root for root in roots & OWNERS.keys() if module not in OWNERS[root]} == set()
