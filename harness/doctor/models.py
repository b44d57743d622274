"""The list of `cellbench models`: each model, its engine, the engine's environment, and the files of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.engines import environments, registry
from harness.errors import CellbenchError
from harness.measure import parent

T = TypeVar("T")


@dataclass(frozen=True)
class Listed:
    """A model, or an engine whose models are not known.

    version: of the engine, in its environment. weights: those of a run. problem: the reason why it cannot be measured.
    """

    engine: str
    model: str | None = None
    title: str | None = None
    version: str | None = None
    environment: str | None = None
    weights: str | None = None
    problem: str | None = None


def listed(python: str | None = None) -> Iterator[Listed]:
    """Every model of every engine, those that cannot be measured here with the reason; nothing is fetched.

    python: the user's own interpreter for the engines.
    """
    for name in registry.names():
        engine, problem = _tried(registry.engine, name)
        if engine is None:
            yield Listed(name, problem=problem)
            continue
        spec, problem = _tried(environments.find, name, python)
        version, problem = _tried(parent.version, spec) if spec else (None, problem)
        where = spec.where if spec else None
        for model in engine.models:
            check, flaw = _tried(engine.check, model.name)
            weights = check.evidence if check else flaw
            yield Listed(name, model.name, model.title, version, where, weights, problem)


def text(models: Sequence[Listed]) -> str:
    """The models of each engine, below where it is."""
    lines: list[str] = []
    width = max(len(each.model or "") for each in models)
    for each in models:
        head = [
            f"{each.engine} {each.version or ''}".strip(),
            each.problem,
            each.environment and f"in {each.environment}",
        ]
        line = ", ".join(filter(None, head))
        lines += [line] if line not in lines else []
        if each.model:
            lines.append(f"  {each.model:{width}}  {each.title}; weights: {each.weights}")
    return "\n".join(lines)


def _tried(look: Callable[..., T], *about: Any) -> tuple[T | None, str | None]:
    """The result of a look, or the reason why there is none: one engine's error hides no other."""
    try:
        return look(*about), None
    except CellbenchError as error:
        return None, f"{error.what} ({error.where})" if error.where else error.what
    except Exception as error:  # of an engine of another project
        return None, f"{type(error).__name__}: {error}"
