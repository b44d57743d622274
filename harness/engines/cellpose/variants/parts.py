"""The parts of a variant, and their canonical spelling; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.engines import base
from harness.engines.base import STOCK, Variant
from harness.errors import CellbenchError
from harness.machine.accelerators import ACCELERATORS

NOTHING = "nothing: the same operations on the same numbers"
CHOICE = "the result itself, by as much as the value differs from cellpose's own"
# The backends of torch's CUDA calls.
GPUS = tuple(name for name, kind in ACCELERATORS.items() if kind.torch_type == "cuda")

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SettingsT = TypeVar("SettingsT", bound="DataclassInstance")


@dataclass(frozen=True)
class Part:
    """One named change to how an engine is executed; a variant is made of parts."""

    name: str
    sets: dict[str, Any]
    what: str
    may_change: str = NOTHING
    unsafe: str = ""
    takes: type | None = None  # the type of the value in NAME=VALUE
    only: tuple[str, ...] = ()  # backends; any where empty
    limits: tuple[float, float] = field(default=(0, float("inf")))
    by_hand: str = ""  # the same in plain cellpose and torch, where that is possible; {} is the value


@dataclass(frozen=True)
class Parts(Generic[SettingsT]):
    """All parts of an engine.

    stock: the settings that change nothing. groups: several parts in one word. in_force: settings with implied ones,
    and without stock's own values. stored: column → the setting that it holds.
    """

    stock: SettingsT
    parts: Sequence[Part]
    groups: Mapping[str, tuple[str, ...]]
    in_force: Callable[[SettingsT], SettingsT]
    stored: Mapping[str, str]

    def split(self, variant: str | Iterable[str]) -> tuple[str, ...]:
        """'channels-last+lossless' or a list of names → the single parts, groups expanded; 'stock' is none."""
        words = variant.split("+") if isinstance(variant, str) else list(variant)
        flat = [name for word in words for name in self.groups.get(word.strip(), (word.strip(),))]
        return tuple(dict.fromkeys(name for name in flat if name != STOCK))

    def parse(self, variant: str | Iterable[str], backend: str | None = None) -> SettingsT:
        """The settings of the parts together; CellbenchError for an unknown, impossible or contradictory part."""
        made, origin = self.stock, {}
        for name in self.split(variant):
            chosen, values = self._one(name)
            if backend is not None and chosen.only and backend not in chosen.only:
                why = f"; {chosen.unsafe}" if chosen.unsafe else ""
                raise CellbenchError(
                    f"{name} is not for {backend}{why}", "--variant", f"it is for {', '.join(chosen.only)}"
                )
            for key, value in values.items():
                if key in origin and getattr(made, key) != value:
                    raise CellbenchError(f"{origin[key]} and {name} contradict each other", "--variant", "choose one")
                made, origin[key] = replace(made, **{key: value}), name
        return made

    def canonical(self, text: str, backend: str | None = None) -> Variant:
        """The canonical spelling: equal settings are equal values, in any order, group or form of number.

        CellbenchError for an unknown, impossible or contradictory one.
        """
        chosen = self.split(text)
        wanted = self.in_force(self.parse(chosen, backend))

        def is_same(words: Iterable[str]) -> bool:
            try:
                return self.in_force(self.parse(words)) == wanted
            except CellbenchError:
                return False

        values = {name.partition("=")[0]: self._written(name) for name in chosen}
        parts = [values.get(part.name, part.name) for part in self.parts if part.name in values or not part.takes]
        # Parts without further effect are named first, so that a group is seen whole; then implied parts are removed.
        implied = [name for name in parts if is_same([*chosen, name])]
        groups = [group for group, names in self.groups.items() if chosen and set(names) <= set(implied)]
        words = [*groups, *implied]
        for word in [*implied, *reversed(groups)]:
            fewer = [each for each in words if each != word]
            words = fewer if is_same(fewer) else words
        changes = any(self._one(name)[0].may_change == CHOICE for name in self.split(words))
        return Variant(tuple(words), changes)

    def columns(self, names: Iterable[str]) -> dict[str, base.Scalar]:
        """The columns that a variant sets, as they are stored; columns that it leaves alone are absent."""
        made = self.parse(names)
        sets = {column: getattr(made, key) for column, key in self.stored.items()}
        return {name: value for name, value in sets.items() if value is not None}

    def described(self, name: str) -> base.Part:
        """The description of a single part, with its value in the lines to copy."""
        part, _ = self._one(name)
        return base.Part(part.name, part.what, part.may_change, part.by_hand.replace("{}", name.partition("=")[2]))

    def _written(self, name: str) -> str:
        """A part with its number in one spelling: 016 → 16, 25.0 → 25."""
        part, values = self._one(name)
        if part.takes is None:
            return name
        value = next(iter(values.values()))
        return f"{part.name}={int(value) if value == int(value) else value!r}"

    def _one(self, word: str) -> tuple[Part, dict[str, Any]]:
        name, _, text = word.partition("=")
        chosen = next((part for part in self.parts if part.name == name), None)
        if chosen is None:
            known = ", ".join(part.name + ("=…" if part.takes else "") for part in self.parts)
            raise CellbenchError(
                f"unknown variant {word!r}", "--variant", f"known are {known}; {', '.join(self.groups)}"
            )
        if chosen.takes is None:
            if text:
                raise CellbenchError(f"{name} takes no value", f"--variant {word}", f"write {name}")
            return chosen, chosen.sets
        low, high = chosen.limits
        try:
            value = chosen.takes(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            kind = "a whole number" if chosen.takes is int else "a number"
            raise CellbenchError(
                f"{name} needs {kind} from {low:g} to {high:g}", f"--variant {word}", f"write {name}=…"
            )
        return chosen, dict.fromkeys(chosen.sets, value)
