"""The engines by name and the models they have: an engine is a package and a line here, or an entry point elsewhere."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from harness.engines.base import Engine, ModelInfo, StageCatalogue, Variant
from harness.errors import CellbenchError

DEFAULT = "cellpose3"
BUILT_IN = {
    "cellpose3": "harness.engines.cellpose3.engine:ENGINE",
    "cellpose4": "harness.engines.cellpose4.engine:ENGINE",
    "simulated": "harness.engines.simulated.engine:ENGINE",
}
ENTRY_POINTS = "cellbench.engines"


def names() -> tuple[str, ...]:
    """Every engine that is known here."""
    return (*BUILT_IN, *sorted({each.name for each in entry_points(group=ENTRY_POINTS)} - BUILT_IN.keys()))


@cache
def engine(name: str) -> Engine:
    """An engine by its name; nothing that computes is imported."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    for each in entry_points(group=ENTRY_POINTS):
        if each.name == name:
            return each.load()
    raise CellbenchError(f"there is no engine {name!r}", None, f"engines are {', '.join(names())}")


def default_model() -> str:
    """The model that is measured when none is named."""
    return engine(DEFAULT).models[0].name


def engine_of(model: str) -> Engine:
    """The engine that a model belongs to; CellbenchError for a model that no engine has."""
    for name in names():
        if any(each.name == model for each in engine(name).models):
            return engine(name)
    known = ", ".join(each.name for name in names() for each in engine(name).models)
    raise CellbenchError(f"there is no model {model!r}", "--models", f"models are {known}")


def info(model: str) -> ModelInfo:
    """What people read of a model; its bare name where no engine knows it, as in rows of others."""
    known = (each for name in names() for each in engine(name).models if each.name == model)
    return next(known, ModelInfo(model, model))


def variant(engine_name: str, text: str | None) -> Variant:
    """The canonical form of a stored variant; what this version does not know stays as it is written."""
    try:
        return engine(engine_name).variant(text or "stock")
    except CellbenchError:
        return Variant((str(text),))


def canonical(engine_name: str, text: str | None) -> str:
    """The canonical text of a stored variant."""
    return str(variant(engine_name, text))


@cache
def stages() -> StageCatalogue:
    """The stages and passes of all engines, for rows of any of them."""
    every = [engine(name).stages for name in names()]
    passes = {name: meaning for each in every for name, meaning in each.passes.items()}
    return StageCatalogue(passes, tuple({stage.name: stage for each in every for stage in each.stages}.values()))
