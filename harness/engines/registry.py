"""The engines by name, and their models: an engine is a package and a line here, or an entry point elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import distributions, entry_points
from typing import Any

from harness.engines import environments
from harness.engines.base import STOCK, Engine, ModelInfo, StageCatalogue, Variant
from harness.errors import CellbenchError

DEFAULT = "cellpose3"
BUILT_IN = {
    "cellpose3": "harness.engines.cellpose3.engine:ENGINE",
    "cellpose4": "harness.engines.cellpose4.engine:ENGINE",
    "simulated": "harness.engines.simulated.engine:ENGINE",
}
ENTRY_POINTS = "cellbench.engines"


@cache
def names() -> tuple[str, ...]:
    """The names of all engines that are installed here."""
    return (*BUILT_IN, *sorted({each.name for each in entry_points(group=ENTRY_POINTS)} - BUILT_IN.keys()))


@cache
def engine(name: str) -> Engine:
    """The engine of this name; nothing that computes is imported."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    for each in entry_points(group=ENTRY_POINTS):
        if each.name == name:
            try:
                if isinstance(found := each.load(), Engine):
                    return found
                raise TypeError("it is not an engine")
            except Exception as error:  # a package of another project may raise anything
                what = f"the engine {name!r} cannot be loaded: {type(error).__name__}: {error}"
                raise CellbenchError(what, each.value, "install its package again, or remove it") from error
    raise CellbenchError(f"there is no engine {name!r}", None, f"engines are {', '.join(names())}")


def version(name: str) -> str | None:
    """The version of an engine on this machine; None where none is installed or it is outside the supported range."""
    from packaging.requirements import Requirement  # accelerate() does not need it

    wanted = engine(name)
    folder = environments.overlay(name)
    if not wanted.requirement:
        return wanted.version()
    needed = Requirement(wanted.requirement)
    inside = (each.version for each in distributions(path=[str(folder)]) if each.name.lower() == needed.name)
    found = next(inside, None) if folder.is_dir() else wanted.version()
    return found if found and needed.specifier.contains(found, prereleases=True) else None


def default_model() -> str:
    """The model that is measured when none is named."""
    return engine(DEFAULT).models[0].name


def _loadable() -> Iterator[Engine]:
    """Every engine except those of broken packages, which must not disable the others."""
    for name in names():
        with suppress(CellbenchError):
            yield engine(name)


def engine_of(model: str) -> Engine:
    """The engine that a model belongs to; CellbenchError for an unknown model."""
    for each in _loadable():
        if any(info.name == model for info in each.models):
            return each
    known = ", ".join(info.name for each in _loadable() for info in each.models)
    raise CellbenchError(f"there is no model {model!r}", "--models", f"models are {known}")


def info(model: str) -> ModelInfo:
    """The facts about a model that people read; only its name where no engine here has it, as in rows of others."""
    known = (info for each in _loadable() for info in each.models if info.name == model)
    return next(known, ModelInfo(model, model))


DEFAULT_VARIANT = "lossless"


def accelerate(model: Any, variant: str = DEFAULT_VARIANT) -> Any:
    """Apply a variant to a loaded model and return the model: model = accelerate(models.CellposeModel()).

    CellbenchError where no engine has the model, or where the variant is unknown or impossible on its device.
    """
    apply(model, variant)
    return model


def apply(model: Any, variant: str = DEFAULT_VARIANT) -> Any:
    """Apply a variant as accelerate() does; returns what undoes it: an object with names and remove()."""
    for each in _loadable():
        if (applied := each.apply(model, variant)) is not None:
            return applied
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    fix = "give a models.Cellpose of Cellpose 3, or a models.CellposeModel of Cellpose 4"
    raise CellbenchError(f"a {kind} cannot be accelerated", "model", fix)


def variant(engine_name: str, text: str | None) -> Variant:
    """The canonical form of a stored variant; a variant that is unknown to this version stays as it is written."""
    try:
        return engine(engine_name).variant(text or "stock")
    except CellbenchError:
        return Variant((str(text),))


def canonical(engine_name: str, text: str | None) -> str:
    """The canonical text of a stored variant."""
    return str(variant(engine_name, text))


def result_variant(engine_name: str, text: str | None) -> str:
    """The part of a variant that changes the result, and so makes other work; stock where none does.

    A variant that is unknown to this version may change anything.
    """
    try:
        names = engine(engine_name).variant(text or STOCK).names
    except CellbenchError:
        return str(text)
    return "+".join(name for name in names if variant(engine_name, name).changes_result) or STOCK


@cache
def stages() -> StageCatalogue:
    """The stages and passes of all engines, for rows of any of them."""
    every = [each.stages for each in _loadable()]
    passes = {name: meaning for each in every for name, meaning in each.passes.items()}
    return StageCatalogue(passes, tuple({stage.name: stage for each in every for stage in each.stages}.values()))
