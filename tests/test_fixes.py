"""What messages and pages tell people to type exists: every command and option, and paths quoted for a shell."""

from __future__ import annotations

import ast
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.cli.app import app
from harness.cli.stopping import resumable
from harness.errors import CellbenchError, StorageError, StoreWarning, command
from harness.machine.accelerators import Device
from harness.plan import blocks, config
from harness.plan.cases import Node
from harness.schedule import definition
from harness.store import Store
from tests.conftest import REPOSITORY, RUN_ID, make_sample, make_store

ROOT = typer.main.get_command(app)
PLACE = "PLACE"  # what stands for a value in a text that is put together
PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
# Options of other programs that messages name.
OTHERS = {"--cpus", "--epp", "--only-binary", "--no-deps", "--target", "--time", "--user", "--generate", "--system",
          "--shm-size", "--now"}  # fmt: skip


def commands_of(group: Any) -> dict[str, Any]:
    """The commands of a group, none where it is none; typer has a click of its own."""
    return getattr(group, "commands", {})


def texts(source: str) -> Iterator[str]:
    """Every text of a module, those put together with a word for each value; docstrings are for programmers."""
    tree = ast.parse(source)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    skipped = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
            parts = (part.value if isinstance(part, ast.Constant) else PLACE for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def commands(text: str) -> list[list[str]]:
    """The commands that a text tells people to type, as words up to where the sentence goes on."""
    found = re.findall(r"(?:^|[\s`(/])cellbench ((?:node|run|resume|show|[a-z-]+)\b[^;&`\n#)|]*)", text)
    return [words for each in found if (words := re.split(r"\.\s", each)[0].split()) and words[0] in commands_of(ROOT)]


def wrong(words: list[str]) -> str | None:
    """What of a command does not exist."""
    current = ROOT
    for word in words:
        bare = word.strip(",.:'\"")
        if bare in commands_of(current):
            current = commands_of(current)[bare]
            continue
        if current.context_settings.get("ignore_unknown_options"):
            return None  # of another program
        for flag in re.findall(r"^\[?(--[a-z][a-z-]*)", word):
            names = {name for option in current.params for name in (*option.opts, *option.secondary_opts)}
            if flag not in names | {"--help"}:
                return f"{current.name} has no {flag}"
    return None


MODULES = sorted((REPOSITORY / "harness").rglob("*.py"))


def test_every_command_that_a_message_names_exists() -> None:
    known = [(path.name, text) for path in MODULES for text in texts(path.read_text("utf-8"))]
    found = [(name, words) for name, text in known for words in commands(text)]
    assert len(found) > 40
    assert [(name, flaw) for name, words in found if (flaw := wrong(words))] == []


def test_every_command_in_the_documentation_exists() -> None:
    found = [(path.name, words) for path in PAGES for words in commands(path.read_text("utf-8"))]
    assert len(found) > 100
    assert [(name, flaw) for name, words in found if (flaw := wrong(words))] == []


def test_that_would_find_what_does_not_exist() -> None:
    [words] = commands("see: cellbench run --nowhere X")
    assert wrong(words) == "run has no --nowhere"
    assert wrong(["node", "status", "--json"]) is None


def test_every_flag_that_an_error_names_exists() -> None:
    every = {
        name for each in _leaves(ROOT) for option in each.params for name in (*option.opts, *option.secondary_opts)
    }
    named = [
        (path.name, flag)
        for path in MODULES
        for text in errors(path.read_text("utf-8"))
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
    ]
    assert len(named) > 80
    assert [(name, flag) for name, flag in named if flag not in every | OTHERS] == []


def errors(source: str) -> Iterator[str]:
    """The texts within the arguments of the errors that a module raises."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
            yield from texts("\n".join(f"x({ast.unparse(each)})" for each in node.args))


def _leaves(group: Any) -> Iterator[Any]:
    yield group
    for each in commands_of(group).values():
        yield from _leaves(each)


# ---------------------------------------------------------------- paths in them

FOLDERS = (
    "results",
    "my results",
    "it's",
    'a "b"',
    "$(reboot)",
    "a;b",
    "-x",
    "a&b",
    "ü",
    "new\nline",
    "*",
    "~",
    "a\\b",
)


def _stopped(out: Path) -> str:
    """What Ctrl-C prints."""
    (out / "runs").mkdir(parents=True)
    (out / "runs" / f"{RUN_ID}.json").write_text("{}")
    printed = io.StringIO()
    with redirect_stderr(printed), pytest.raises(typer.Exit), resumable(RUN_ID, out):
        raise KeyboardInterrupt
    return printed.getvalue()


def _full(out: Path) -> str:
    (out / "runs").mkdir(parents=True)
    (out / "runs" / f"{RUN_ID}.json").write_text("{}")
    return _error(lambda: _raise_within(out))


def _raise_within(out: Path) -> None:
    with resumable(RUN_ID, out):
        raise StorageError("no room", str(out), "make room there")


def _damaged(out: Path) -> str:
    store = make_store(out, [make_sample()])
    for path in out.rglob("*.parquet"):
        path.write_bytes(b"PAR1" + bytes(40))
        os.utime(path, (1e9, 1e9))
    with pytest.warns(StoreWarning) as caught:
        Store.at(store.root).table()
    return str(caught[0].message)


def _error(call: Callable[[], object]) -> str:
    with pytest.raises(CellbenchError) as caught:
        call()
    return str(caught.value)


LINES: dict[str, Callable[[Path], str]] = {
    "stopped": _stopped,
    "full": _full,
    "no results": lambda out: _error(lambda: Store.at(out)),
    "no schedule": lambda out: _error(lambda: definition.read(out, "night")),
    "damaged": _damaged,
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", LINES)
def test_a_line_to_type_survives_the_shell(name: str, folder: str, tmp_path: Path) -> None:
    out = tmp_path / folder
    text = LINES[name](out)
    typed = shlex.split(text[text.rindex("cellbench ") :])
    assert typed[typed.index("--out") + 1] == str(out)
    assert wrong([word for word in typed[1:] if word != str(out)]) is None


def test_a_command_is_what_a_shell_takes() -> None:
    assert shlex.split(command("resume", "a b", "--out", Path("it's"))) == [
        "cellbench",
        "resume",
        "a b",
        "--out",
        "it's",
    ]


# ---------------------------------------------------------------- what cannot be measured as it was asked for

CPU, CUDA = Device("cpu", 0, "a"), Device("cuda", 0, "b")
NODE = Node("desk", (CUDA, CPU), 2, threads_max=4)


def planned(**changes: object) -> config.Config:
    return config.Config(**{"profile": "test", "crops": (64,), "models": ("sleep",), **changes})


NONSENSE: dict[str, tuple[dict[str, object], str]] = {
    "too many threads": ({"threads": 5}, "--threads"),
    "far too many": ({"threads": 999}, "--threads"),
    "in a variant": ({"variants": ("stock", "threads=5"), "models": ("cyto3",)}, "--variants"),
    "fp16 on a CPU": ({"variants": ("fp16",), "models": ("cyto3",)}, "--devices"),
    "in a group": ({"variants": ("stock", "lossless+fp16"), "models": ("cyto3",)}, "--devices"),
    "no such node": ({"only": ("desj/*/*",)}, "--only"),
    "no such device": ({"only": ("*/mps/*",)}, "--only"),
    "no such crop": ({"only": ("*/cpu/65",)}, "--only"),
    "one pattern of two": ({"only": ("*/*/*", "nobody/*/*")}, "--only"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_cannot_be_measured_is_refused_before_it_begins(name: str) -> None:
    changes, flag = NONSENSE[name]
    wanted = planned(**changes)
    with pytest.raises(CellbenchError) as caught:
        blocks.blocks(wanted, 128, 128, [NODE])
    assert flag in (caught.value.where or "")
    if flag == "--only":  # the fix names cases that there are
        named = re.search(r"there are ([^,]+)", caught.value.fix or "")
        assert named
        assert blocks.blocks(planned(only=(named[1],)), 128, 128, [NODE])


def test_what_can_be_measured_is_planned() -> None:
    for changes in ({"threads": 4}, {"only": ("desk/cuda:0/*",), "variants": ("fp16",), "models": ("cyto3",)}):
        assert blocks.blocks(planned(**changes), 128, 128, [NODE])


@pytest.mark.parametrize("key", [name for name in config.Config.model_fields if name not in ("profile", "description")])
def test_a_mistake_in_a_flag_names_a_flag_that_exists(key: str) -> None:
    options = {name for each in _leaves(ROOT) if each.name == "run" for option in each.params for name in option.opts}
    if f"--{key.rstrip('s')}".replace("_", "-") not in {name.rstrip("s") for name in options}:
        pytest.skip("a key of profiles only")
    with pytest.raises(CellbenchError) as caught:
        config.load("quick", {key: object()})
    assert set(re.findall(r"--[a-z_-]+", caught.value.where or "")) <= options
