"""The seam: what holds for every engine, those of other packages included; the half that computes is tried once."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from harness import schema
from harness.engines import environments, registry
from harness.engines.base import STOCK, Engine
from harness.engines.cellpose.variants.parts import Parts
from harness.engines.cellpose3.variants import settings as cellpose3
from harness.engines.cellpose4.variants import settings as cellpose4
from harness.engines.simulated import engine as simulated
from harness.engines.simulated.engine import Simulated
from harness.engines.simulated.script import Script
from harness.errors import CellbenchError
from harness.machine import facts
from harness.machine.accelerators import Device
from harness.schema import PASSES
from tests import contract
from tests.conftest import REPOSITORY

NAMES = registry.names()
SINCE = {"cellpose4": "4.2"}  # the version that first has an engine's first model
COLUMNS = {column.name for column in schema.SAMPLES}
CPU = Device("cpu", 0, "Some CPU")
Words = list[str]

every_engine = pytest.mark.parametrize("engine", [registry.engine(name) for name in NAMES], ids=NAMES)


# ------------------------------------------------------------------ what is known before anything is imported


def test_a_model_belongs_to_one_engine() -> None:
    models = [(info.name, name) for name in NAMES for info in registry.engine(name).models]
    assert len(models) == len(dict(models))
    assert all(registry.engine_of(model).name == name for model, name in models)
    with pytest.raises(CellbenchError, match="there is no model 'nosuch'"):
        registry.engine_of("nosuch")


@every_engine
def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert registry.engine(engine.name) is engine
    assert engine.models
    assert all(info.name and info.title for info in engine.models)
    assert not engine.requirement or Requirement(engine.requirement).name
    assert engine.dtypes
    assert set(engine.dtypes) <= {"float32", "bfloat16", "float16"}
    assert engine.passes <= PASSES.keys()
    assert engine.columns.keys() <= COLUMNS
    assert engine.patience_s > 0
    assert {"network", engine.stages.stages[-1].name} <= {stage.name for stage in engine.stages.stages}


@every_engine
def test_stand_in_files_are_found_without_a_network(engine: Engine) -> None:
    info = engine.models[0]
    found = engine.resolve(info.name, "standin")
    assert (found.model, found.columns["weights"]) == (info.name, found.kind)
    assert found.columns.keys() <= COLUMNS
    assert all(path.is_file() for path in found.paths)
    assert found.kind == "none" or found.warning


@every_engine
def test_weights_that_do_not_exist_are_an_error_with_a_fix(engine: Engine, tmp_path: Path) -> None:
    if not engine.requirement:
        return
    with pytest.raises(CellbenchError) as raised:
        engine.resolve(engine.models[0].name, str(tmp_path / "nowhere"))
    assert raised.value.fix


SIDES_PX = st.integers(16, 3000)


@every_engine
@settings(deadline=None)
@given(sides_px=st.tuples(SIDES_PX, SIDES_PX), more_px=st.tuples(st.integers(0, 500), st.integers(0, 500)))
def test_more_pixels_are_no_less_work(engine: Engine, sides_px: tuple[int, int], more_px: tuple[int, int]) -> None:
    model = engine.models[0].name
    small = engine.work(model, *sides_px)
    large = engine.work(model, sides_px[0] + more_px[0], sides_px[1] + more_px[1])
    assert 1 <= small.n_tiles <= large.n_tiles
    assert 0 < small.gflop <= large.gflop
    for device in (CPU, Device("cuda", 0, "G"), Device("mps", 0, "M"), Device("xpu", 0, "of later")):
        assert 0 < engine.call_s(small, device, 4) <= engine.call_s(large, device, 4)
        assert engine.call_s(large, device, 8) <= engine.call_s(large, device, 4)


@every_engine
def test_what_a_search_tries_is_known_and_described(engine: Engine) -> None:
    for text in (each for group in engine.searched for each in group):
        variant = engine.variant(text)
        assert not variant.is_stock
        assert not variant.changes_result
        assert all(part.what and part.may_change for part in engine.parts(variant))
        assert len(engine.parts(variant)) >= len(variant.names)
        compile("\n".join(engine.recipe(variant, engine.models[0].name)), "recipe", "exec")


# ------------------------------------------------------------------ variants


def _of_parts(every: Parts[Any]) -> st.SearchStrategy[str]:
    numbers = {
        "batch": ["8", "16", "016", " 16"], "threads": ["2", "02", "3"], "overlap": ["0.1", ".1", "0.10", "0.2"],
        "diameter": ["30", "30.0", "3e1", "12.5"],
    }  # fmt: skip
    plain = [part.name for part in every.parts if part.takes is None]
    numbered = [f"{name}={text}" for name, texts in numbers.items() for text in texts]
    return st.sampled_from([STOCK, *plain, *every.groups, *numbered, "nosuch", "batch=0", f"{plain[0]}=1"])


WORDS: dict[str, st.SearchStrategy[str]] = {
    "cellpose3": _of_parts(cellpose3.ALL),
    "cellpose4": _of_parts(cellpose4.ALL),
    "simulated": st.sampled_from([
        STOCK, *simulated.SPEEDS, "batch=1", "batch=2", "batch=02", "batch=2.5", "diameter=30", "diameter=30.0",
        "diameter=12.3456789", "diameter=12.3456788", "fast=2", "x",
    ]),
}  # fmt: skip


# What is really in force for some words, by each engine's own account; equal where nothing differs.
IN_FORCE: dict[str, Callable[[Words], object]] = {
    "cellpose3": lambda words: cellpose3.ALL.in_force(cellpose3.ALL.parse(words)),
    "cellpose4": lambda words: cellpose4.ALL.in_force(cellpose4.ALL.parse(words)),
    "simulated": lambda words: {
        item for item in simulated._settings([word for word in words if word != STOCK]).items() if item != ("batch", 1)
    },
}


@every_engine
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_equal_settings_have_equal_text_and_others_do_not(engine: Engine, data: st.DataObject) -> None:
    words = st.lists(WORDS[engine.name], min_size=1, max_size=4)
    one = data.draw(words)
    other = data.draw(st.one_of(words, st.permutations(one), st.permutations([*one, *data.draw(words)])))
    in_force = [_or_refused(IN_FORCE[engine.name], each) for each in (one, other)]
    variants = [_or_refused(engine.variant, "+".join(each)) for each in (one, other)]
    assert [each is None for each in variants] == [each is None for each in in_force]
    if None not in variants:
        assert (variants[0] == variants[1]) == (in_force[0] == in_force[1])
        assert (str(variants[0]) == str(variants[1])) == (in_force[0] == in_force[1])
    for variant in filter(None, variants):
        assert engine.variant(str(variant)) == variant
        assert variant.is_stock == (str(variant) == STOCK)


def _or_refused(parse: Callable[[Any], Any], what: Any) -> Any:
    try:
        return parse(what)
    except CellbenchError:
        return None


@every_engine
@pytest.mark.parametrize("text", ["nosuch", "", "+", "stock+nosuch", "batch=", "=2"])
def test_what_is_unknown_is_refused_with_a_fix(engine: Engine, text: str) -> None:
    with pytest.raises(CellbenchError) as raised:
        engine.variant(text)
    assert raised.value.fix


# ------------------------------------------------------------------ what computes


@pytest.fixture(
    scope="module",
    params=[name if name == "simulated" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, dict[str, Any]]]:
    """An engine and what it did: the simulated one here, another in a process of its own environment."""
    engine = registry.engine(request.param)
    if isinstance(engine, Simulated):
        yield engine, json.loads(json.dumps(contract.tried(Simulated(Script(call_s=0.01)), "sleep")))
        return
    version = registry.version(engine.name)
    if version is None or version not in Requirement(engine.requirement).specifier:
        pytest.skip(f"{engine.requirement} is not installed")
    model = engine.models[0].name if Version(version) >= Version(SINCE.get(engine.name, "0")) else engine.models[1].name
    files, spec = engine.resolve(model, "standin"), environments.find(engine.name)
    folder = str(files.paths[0].parent) if files.paths else str(tmp_path_factory.mktemp("model"))
    done = subprocess.run(
        [spec.python, "-m", "tests.contract", engine.name, model, folder, files.source],
        cwd=REPOSITORY, env={**os.environ, **spec.environ()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    yield engine, json.loads(done.stdout.splitlines()[-1])


Seen = tuple[Engine, dict[str, Any]]


def test_devices_are_listed_the_cpu_last(seen: Seen) -> None:
    assert seen[1]["devices"][-1] == "cpu"
    assert len(seen[1]["devices"]) == len(set(seen[1]["devices"]))


def test_threads_are_what_was_asked_for(seen: Seen) -> None:
    answer = seen[1]["threads"]
    assert answer.keys() <= COLUMNS
    assert answer["torch_threads"] == contract.THREADS


def test_a_call_finds_the_same_labels_each_time(seen: Seen) -> None:
    answer = seen[1]
    assert tuple(answer["shape"]) == contract.SIDES_PX
    assert answer["kind"] in "iu"
    assert answer["n_cells"] == answer["n_labels"] > 0
    assert len(set(answer["hashes"])) == 1
    assert answer["pixels_stay"]
    assert answer["diameters_px"][0] > 0
    assert answer["diameters_px"][1] == contract.GIVEN_PX


def test_a_model_proves_its_device_and_tells_known_columns(seen: Seen) -> None:
    assert seen[1]["proof"] == "cpu"
    assert seen[1]["columns"].keys() <= COLUMNS


def test_stages_are_in_the_catalogue_and_sum_to_the_call(seen: Seen) -> None:
    engine, answer = seen
    names = [stage.name for stage in engine.stages.stages]
    assert {part["stage"] for part in answer["parts"]} <= set(names)
    assert {part["stage_pass"] for part in answer["parts"]} <= engine.stages.passes.keys()
    assert sum(part["elapsed_s"] for part in answer["parts"]) == pytest.approx(answer["total_s"])
    assert answer["parts"][-1]["stage"] == names[-1]
    assert sum(part["n_tiles"] or 0 for part in answer["parts"]) > 0


def test_what_it_tells_of_the_environment_are_facts(seen: Seen) -> None:
    known = {fact.name: fact.type for fact in facts.FACTS}
    for name, value in seen[1]["environment"].items():
        assert value is None or isinstance(value, known[name]), name


def test_errors_have_known_statuses(seen: Seen) -> None:
    assert seen[1]["statuses"] == ["crash", "crash", "oom_host", "crash", "crash"]
    assert set(seen[1]["statuses"]) <= set(schema.Status)


def test_a_variant_is_in_force_and_gone_again(seen: Seen) -> None:
    engine, answer = seen
    stored = {"batch": "batch_size", "diameter": "diameter_asked_px", "threads": "torch_threads"}
    assert answer["variants"] or not engine.searched
    for text, each in answer["variants"].items():
        assert each["columns"].keys() <= COLUMNS
        assert each["notes"] == []
        request = dict(word.split("=") for word in text.split("+") if "=" in word)
        assert {name: each["columns"][stored[name]] for name in request} == {k: float(v) for k, v in request.items()}
        assert each["diameter_px"] == float(request.get("diameter", each["diameter_px"]))
        assert each["threads"] in (None, int(request.get("threads", contract.THREADS)))
        assert each["is_restored"] == [True, True]
        assert each["sha256"] == answer["hashes"][0]


# ------------------------------------------------------------------ nothing else knows an engine by heart

NAMED = re.compile(r"cyto3|cyto2|cpsam", re.IGNORECASE)
# Where a model is named outside the engines. Data stay; the others are words for people that the engine is to say.
ALLOWED = {
    "query/reference_timings.py": "the article's own words about its figures",
    "schema/versions.py": "the model of rows that were written before there were engines",
    "site/queries.py": "the SQL of a page whose question names both models",
    "site/questions.py": "the question of that page",
    "store/csv_import.py": "the model of timings that name none, which are those of the article",
}
DYNAMIC = {"engines/registry.py", "engines/start.py", "measure/block.py"}  # modules of ours, by their names


def sources() -> Iterator[tuple[str, str]]:
    """Every module outside the packages of the engines, and of what those of cellpose share, and its text."""
    package = REPOSITORY / "harness"
    own = {package / "engines" / name for name in (*NAMES, "cellpose")}
    for path in sorted(package.rglob("*.py")):
        if not own & set(path.parents):
            yield path.relative_to(package).as_posix(), path.read_text()


def test_no_model_is_named_outside_its_engine() -> None:
    found = {name for name, text in sources() if NAMED.search(text)}
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set(), "no longer needed here"


def test_no_engine_is_imported_outside_its_package() -> None:
    packages = {
        Requirement(registry.engine(name).requirement).name for name in NAMES if registry.engine(name).requirement
    }
    imports: dict[str, set[str]] = {}
    for name, text in sources():
        for node in ast.walk(ast.parse(text)):
            imports.setdefault(name, set()).update(_imported(node))
    assert {name: found & packages for name, found in imports.items() if found & packages} == {}
    assert {name for name, found in imports.items() if "?" in found} == DYNAMIC


def _imported(node: ast.AST) -> Sequence[str]:
    """The packages that a node imports; ? for one whose name is made as it runs."""
    match node:
        case ast.Import(names=names):
            return [alias.name.partition(".")[0] for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module.partition(".")[0]]
        case ast.Call(func=ast.Name(id="import_module" | "__import__"), args=[argument, *_]):
            return [argument.value.partition(".")[0] if isinstance(argument, ast.Constant) else "?"]
    return []
