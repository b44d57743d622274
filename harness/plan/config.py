"""The configuration of a run: a TOML profile and the flags that override it, as one frozen Config."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from harness.engines import registry
from harness.engines.base import STOCK
from harness.errors import CellbenchError
from harness.machine import accelerators
from harness.schema import CHOSEN_PASSES

PROFILES = Path(__file__).parent / "profiles"
MAX_BYTES = 1_000_000  # of a profile; a few hundred are enough


def _crop(value: object) -> int | Literal["full"]:
    if value == "full":
        return "full"
    if type(value) is int and value >= 1:
        return value
    raise ValueError("a crop is a positive whole number of px, or full")


def _device(value: object) -> str:
    if isinstance(value, str) and (value in ("auto", "fastest") or accelerators.names(value)):
        return value
    raise ValueError(f"unknown device; choose from auto, {accelerators.device_words()}")


def _selector(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[^/]+/[^/]+/[^/]+", value):
        return value
    raise ValueError("a case is NODE/DEVICE/CROP, each part may be *: desk1/cuda:0/448, */cpu/*")


def _model(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a model is a name")
    try:
        registry.engine_of(value)
    except CellbenchError as error:
        raise ValueError(f"{error.what}; {error.fix}") from error
    return value


def _pass(value: object) -> str:
    if value in CHOSEN_PASSES:
        return str(value)
    raise ValueError(f"unknown pass; choose from {', '.join(CHOSEN_PASSES)}")


Count = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Crop = Annotated[int | Literal["full"], PlainValidator(_crop)]
Selector = Annotated[str, PlainValidator(_selector)]
DeviceName = Annotated[str, PlainValidator(_device)]
ModelName = Annotated[str, PlainValidator(_model)]
Pass = Annotated[str, PlainValidator(_pass)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Protocol = Literal["standard", "article"]


class Config(BaseModel):
    """All settings of a run; the same words as the flags."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str
    description: str = ""
    image: str = Field(default="sparse", min_length=1)
    plane: int | None = Field(default=None, ge=0, strict=True)
    channel: int | None = Field(default=None, ge=0, strict=True)
    crops: tuple[Crop, ...]
    devices: tuple[DeviceName, ...] = ("auto",)
    protocols: tuple[Protocol, ...] = ("standard",)
    models: tuple[ModelName, ...] = Field(default_factory=lambda: (registry.default_model(),))
    dtypes: tuple[str, ...] = ()  # precisions to load the models with; none: each engine's own
    variants: tuple[str, ...] = (STOCK,)  # how the models are executed; names joined by +
    weights: str = Field(default="auto", min_length=1)
    trust: tuple[Sha256, ...] = ()  # of size models that may be unpickled
    warmups: Annotated[int, Field(strict=True, ge=0, le=1000)] = 1
    warmups_max: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0  # above warmups: continue until they settle
    repeats: Count = 5
    precision: Share | None = None  # none: exactly `repeats`; else more, until the mean's CI is this narrow
    repeats_max: Count = 50
    seconds_max: Seconds = 300.0  # of repetitions per case and block, where precision decides
    call_seconds_max: Seconds | None = None  # cases whose single call is estimated to take longer are left out
    blocks: Count = 1
    threads: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None  # none: torch's own number
    control: bool = True  # a small case first and last in each block, for drift
    idle_wait_s: Seconds = 30.0  # how long a block may wait for an idle machine
    passes: tuple[Pass, ...] = ()  # measured after the times, in the first block
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    engine_python: str | None = None  # the user's own interpreter for the engines
    only: tuple[Selector, ...] = ()  # NODE/DEVICE/CROP, each may have wildcards; none: everything

    @field_validator("precision")
    @classmethod
    def _enough_for_a_spread(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("repeats", 2) < 2:
            raise ValueError("one repetition has no spread; give repeats of at least 2")
        return value

    @field_validator("dtypes")
    @classmethod
    def _known_dtypes(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for model in info.data.get("models", ()):
            engine = registry.engine_of(model)
            if unknown := [each for each in values if each not in engine.dtypes]:
                raise ValueError(f"{model} cannot be loaded as {unknown[0]}; known are {', '.join(engine.dtypes)}")
        return values

    @field_validator("variants")
    @classmethod
    def _canonical(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Every variant in its canonical spelling, unless the models' engines spell it in several ways."""
        try:
            models = info.data.get("models", ())  # none where they are a mistake themselves
            spelled = {tuple(str(registry.engine_of(model).variant(each)) for each in values) for model in models}
        except CellbenchError as error:
            raise ValueError(f"{error.what}; {error.fix}") from error
        for each in spelled:
            _check_once(each)
        return spelled.pop() if len(spelled) == 1 else values

    @field_validator("crops", "devices", "protocols", "models", "dtypes", "variants", "passes", "only")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if not values and info.field_name not in ("passes", "only", "dtypes"):
            raise ValueError("at least one is needed")
        _check_once(values)
        return values


def _check_once(values: tuple[Any, ...]) -> None:
    twice = sorted({str(v) for v in values if values.count(v) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is given more than once")


def load(profile: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a built-in profile by name or a TOML file by path; overrides (from flags) win.

    All mistakes are reported together, each with its line in the file or its flag.
    """
    path = PROFILES / f"{profile}.toml"
    if not os.path.isfile(path):
        path = Path(os.path.expanduser(profile))
    if not os.path.isfile(path):
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise CellbenchError(
            f"there is no profile {profile!r}", str(path), f"built-in are {known}; or give a TOML file"
        )
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise CellbenchError(f"the profile has more than {MAX_BYTES:,} bytes", str(path), "name a TOML file")
        text = content.decode("utf-8")
        written = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers with thousands of digits, lists in lists in lists
        raise CellbenchError("the profile is not valid TOML", f"{path}: {error}", "correct that line") from error
    except OSError as error:
        raise CellbenchError(
            f"the profile cannot be read: {error.strerror}", str(path), "check its permissions"
        ) from error
    flags = {k: v for k, v in (overrides or {}).items() if v is not None}
    if "crops" in flags:  # requested sizes are measured, however long they take
        written.pop("call_seconds_max", None)
    try:
        return Config(**{**written, **flags, "profile": path.stem})
    except ValidationError as error:
        found = [_explain(e, text, path, flags) for e in error.errors()]
        many = f"{len(found)} mistakes" if len(found) > 1 else "a mistake"
        raise CellbenchError(f"{many} in the profile or the flags", "\n         ".join(found), _keys()) from error


def split(text: str | None) -> tuple[Any, ...] | None:
    """Read a flag's comma-separated list; numbers become integers: '224,full' → (224, 'full')."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    return tuple(int(word) if re.fullmatch(r"[+-]?[0-9]{1,18}", word) else word for word in words)


def _explain(error: Any, text: str, path: Path, flags: Mapping[str, Any]) -> str:
    """One validation error as 'file:line key: message', or '--flag: message'."""
    key = str(error["loc"][0])
    message = re.sub(r"^Value error, ", "", error["msg"])
    message = {"extra_forbidden": "unknown key", "missing": "this key is needed"}.get(error["type"], message)
    value = "" if isinstance(error["input"], dict) or len(repr(error["input"])) > 60 else f" (got {error['input']!r})"
    if key in flags:
        return f"--{'protocol' if key == 'protocols' else key.replace('_', '-')}: {message}{value}"
    lines = [
        n for n, line in enumerate(text.splitlines(), 1) if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line)
    ]
    return f"{path}:{lines[0] if lines else 1} {key}: {message}{value}"


def _keys() -> str:
    return "keys are " + ", ".join(name for name in Config.model_fields if name != "profile")
