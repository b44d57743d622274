"""The rooms of the house and who may enter them (docs/architecture.md)."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

UNREADABLE = "a module whose name is computed"
BY_NAME = re.compile(r"(importlib\.)?(import_module|__import__)")
MODULE = re.compile(r"harness(\.\w+)+\.?(:\w+)?")
STARTS = re.compile(
    r"(os\.)?(fork|forkpty|system|popen|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?)"
    r"|(\w+\.)*(create_subprocess_\w+|ProcessPoolExecutor)"
)
PACKAGE = Path(__file__).parent.parent / "harness"

# Top to bottom; a room, a module or a package, may import from rooms below it only.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("doctor", "schedule", "slurm"),
    ("site",),
    ("report",),
    ("charts", "terminal"),
    ("results",),
    ("judge",),
    ("run",),
    ("submissions",),
    ("fleet", "query"),
    ("store",),
    ("measure",),
    ("plan",),
    ("engines",),
    ("images", "machine"),
    ("schema", "stats"),
    ("services",),
    ("locks", "settings"),
    ("files", "markdown"),
    ("errors",),
    ("__init__",),
)

# Heavy libraries and the one module, folder or room (or the few) that may import each.
OWNERS = {
    "ray": {"fleet.driver.cluster", "fleet.nodes.control_service"},
    "torch": {"machine.accelerators", "measure.passes", "measure.selfcheck", "engines"},
    "cellpose": {"engines.cellpose", "engines.cellpose3", "engines.cellpose4"},
    "cv2": {"engines"},
    "numba": {"engines"},
    "pynvml": {"machine.nvidia"},
    "altair": {"charts"},
    "vl_convert": {"charts.rendering"},
    "jinja2": {"report"},
    "rich": {"terminal"},
    "prompt_toolkit": {"terminal.prompt"},
    "duckdb": {"query"},
    "tifffile": {"images"},
    "typer": {"cli"},
    "scipy": {"engines.cellpose4.surrogate", "images.synthetic", "measure.agreement", "stats"},
}


def name_of(path: Path) -> str:
    """A module's name inside the package: 'query', 'node.probe', 'node' for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str) -> set[str]:
    """Every module that a source imports, at any depth and by name too, as dotted names."""
    return imported_as_such(source) | imported_by_name(source)


def imported_as_such(source: str) -> set[str]:
    """What the import statements of a source name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if name.removeprefix("harness.") in FILES}
            names |= modules or {node.module}
    return names


def imported_by_name(source: str) -> set[str]:
    """What a source imports by import_module; where a name is computed, each text that may be the begin of one."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [node.args[0] for node in calls if BY_NAME.fullmatch(ast.unparse(node.func))]
    found = {name.value for name in names if isinstance(name, ast.Constant)}
    is_computed = any(not isinstance(name, ast.Constant) for name in names)
    return found | (named(tree) or {UNREADABLE} if is_computed else set())


def named(tree: ast.AST) -> set[str]:
    """The modules of this program whose names stand in a tree as text: 'harness.a.b', 'harness.a.', 'harness.a:B'."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text.partition(":")[0].rstrip(".") for text in texts if MODULE.fullmatch(text)}


@cache
def imported(module: str) -> set[str]:
    return imports(FILES[module].read_text())


def within(names: set[str]) -> set[str]:
    """The modules of this program among imported ones; the package itself gives its version only."""
    return {name.removeprefix("harness.") for name in names if name.startswith("harness.")}


def reached(room: str) -> set[str]:
    """The modules that are there once a room has been imported and all of its functions were called."""
    found: set[str] = set()
    ahead = {module for module in FILES if module.split(".")[0] == room}
    while ahead:
        module = ahead.pop()
        found.add(module)
        packages = {module.rsplit(".", i)[0] for i in range(1, module.count(".") + 1)}
        ahead |= ((within(imported(module)) | packages) & FILES.keys()) - found
    return found


def starts_processes(source: str) -> set[str]:
    """What a source imports or calls that starts a process."""
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    roots = {name.split(".")[0] for name in imports(source)}
    return (roots & {"subprocess", "multiprocessing", "pty"}) | set(filter(STARTS.fullmatch, calls))


def floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if module.split(".", maxsplit=1)[0] in rooms)


def test_every_module_has_a_room() -> None:
    assert {room for rooms in FLOORS for room in rooms} == {module.split(".")[0] for module in FILES}


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module: str) -> None:
    room = module.split(".", maxsplit=1)[0]
    others = {name for name in within(imported(module)) if name.split(".")[0] != room}
    assert [name for name in others if floor(name) <= floor(module)] == []


def test_no_module_imports_itself_by_a_detour() -> None:
    # A registry imports what it lists by name, and what is listed may ask the registry.
    TopologicalSorter({module: within(imported_as_such(path.read_text())) for module, path in FILES.items()}).prepare()


@pytest.mark.parametrize("module", FILES)
def test_heavy_libraries_have_one_owner(module: str) -> None:
    roots = {name.split(".")[0] for name in imported(module)}
    parts = module.split(".")
    may = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    assert {root for root in roots & OWNERS.keys() if not may & OWNERS[root]} == set()


@pytest.mark.parametrize("room", ["query", "results", "charts", "report"])
def test_what_shows_results_neither_measures_nor_starts_a_process(room: str) -> None:
    assert {module for module in reached(room) if module.split(".")[0] == "measure"} == set()
    own = [module for module in FILES if module.split(".")[0] == room]
    found = {module: starts_processes(FILES[module].read_text()) | imported(module) & {UNREADABLE} for module in own}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from harness.measure import block",
        "def draw():\n    import harness.measure.block",
        "from importlib import import_module\nimport_module('harness.measure.block')",
        "import importlib\ndef draw(): return importlib.import_module('harness.measure.block').samples",
        "block = __import__('harness.measure.block')",
        "BLOCK = 'harness.measure.block:samples'\nimport_module(BLOCK.split(':')[0])",
        "import_module(f'harness.measure.block.{name}')",
    ],
)
def test_every_way_to_import_is_seen(source: str) -> None:
    assert "harness.measure.block" in imports(source)


def test_a_computed_name_is_seen() -> None:
    assert imports("import_module(room + '.block')") == {UNREADABLE}


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "def draw():\n    from subprocess import run",
        "from multiprocessing import Process",
        "import os\nos.fork()",
        "from os import execvp\nexecvp('a', [])",
        "import os\nos.posix_spawn('a', [], {})",
        "import asyncio\nasyncio.create_subprocess_exec('a')",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()",
        "import_module('subprocess')",
    ],
)
def test_every_way_to_start_a_process_is_seen(source: str) -> None:
    assert starts_processes(source)
