"""The simulated engine: every part of the interface without torch, weights or a network."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from harness import __version__
from harness.engines.base import (
    STOCK,
    Effective,
    ModelFiles,
    ModelInfo,
    Part,
    Scalar,
    Segmentation,
    Stage,
    StageCatalogue,
    StageRecorder,
    Variant,
    Work,
)
from harness.engines.simulated import script as scripts
from harness.engines.simulated.script import Script, SimulatedMemoryError
from harness.errors import CellbenchError, DeviceFallbackError
from harness.machine.accelerators import Accelerator, Device
from harness.machine.checks import OK, Check

DEFAULTS = {"batch_size": 1, "diameter_asked_px": 0.0}
GFLOP_PER_MEGAPIXEL = 100.0
DIAMETER_PX = 30.0
# Variants: the speed-up of a call. fallback never runs as requested, late-fallback not after its first call.
SPEEDS = {"fast": 2.0, "slow": 0.5, "fallback": 1.0, "late-fallback": 1.0}
NO_ERROR = "nothing: a simulated call finds the same cells"


class SimulatedAccelerator(Accelerator):
    """A device of any kind that is only a name."""

    def __init__(self, backend: str) -> None:
        self.backend = self.torch_type = backend
        self.title = f"simulated {backend}"

    def name(self, index: int) -> str:
        return "simulated"

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, SimulatedMemoryError)


class SimulatedModel:
    """A model that sleeps. Its masks depend on the pixels, or on nothing, by the script."""

    columns: Mapping[str, Scalar] = {"diam_labels_px": DIAMETER_PX}

    def __init__(self, script: Script, device: str) -> None:
        self._script, self._device = script, device
        self._settings: dict[str, float] = {}
        self._n_calls = 0  # since the variant is in force
        self._recorder: StageRecorder | None = None
        self.proof()

    def segment(self, pixels: np.ndarray, diameter_px: float | None = None) -> Segmentation:
        """Sleep for the script's duration and draw masks."""
        scripts.witness("begin", os.getpid())
        self._n_calls += 1
        scripts.happen(self._script, len(pixels))
        speed = (self._script.speed or {}).get(self._device.partition(":")[0], 1.0)
        for name in self._settings:
            speed *= SPEEDS.get(name, 1.0)
        self._sleep((self._script.call_s + self._script.s_per_megapixel * pixels.size / 1e6) / speed)
        used_px = diameter_px or self._settings.get("diameter", DIAMETER_PX)
        found = Segmentation(self._masks(pixels, used_px), used_px)
        scripts.witness("fell" if self._has_fallen else "end", os.getpid(), found.sha256)
        return found

    def prepare(self, pixels: np.ndarray) -> None:
        """Nothing is needed."""

    @contextmanager
    def applied(self, variant: Variant) -> Iterator[Effective]:
        """Sleep shorter or longer while the context lasts."""
        before, self._settings, self._n_calls = self._settings, _settings(variant.names), 0
        try:
            in_force = ENGINE.in_force(variant)
            yield Effective(in_force, lambda: ["the simulated variant did not run"] if self._has_fallen else [])
        finally:
            self._settings = before

    @property
    def _has_fallen(self) -> bool:
        """Whether the applied variant does not run as requested."""
        return "fallback" in self._settings or ("late-fallback" in self._settings and self._n_calls > 0)

    @contextmanager
    def witnessed(self) -> Iterator[None]:
        """Outputs are where the model is."""
        yield

    def proof(self) -> str:
        """The device that the script puts the model on."""
        used = self._script.used or self._device
        if used != self._device:
            raise DeviceFallbackError(
                f"{self._device} was requested, but the network ran on {used}", self._device, "change the script"
            )
        return used

    @contextmanager
    def recorded(self, recorder: StageRecorder) -> Iterator[None]:
        """Half of a call is the network's."""
        self._recorder = recorder
        try:
            yield
        finally:
            self._recorder = None

    def _sleep(self, duration_s: float) -> None:
        if self._recorder is None:
            time.sleep(duration_s)
            return
        self._recorder.enter_pass("mask")
        with self._recorder.network(1, 1.0, 0.1):
            time.sleep(duration_s / 2)
        with self._recorder.stage("masks"):
            time.sleep(duration_s / 2)

    def _masks(self, pixels: np.ndarray, diameter_px: float) -> np.ndarray:
        """Labels of the pixels' own shape: the cells are stripes whose places follow from the pixels."""
        seed = hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + f"{diameter_px:g}".encode()).digest()
        random = np.random.default_rng(list(seed if self._script.same_masks else os.urandom(32)))
        masks = np.zeros(pixels.shape, np.uint32)
        n = min(self._script.n_cells, pixels.shape[0] // 2)
        for label, row in enumerate(sorted(random.choice(pixels.shape[0] // 2, n, replace=False)), 1):
            masks[2 * row, : 1 + int(random.integers(pixels.shape[1]))] = label
        return masks


class Simulated:
    """The engine of the model `sleep`."""

    name = "simulated"
    requirement = ""
    models = (ModelInfo("sleep", "a simulated model"),)
    stages = StageCatalogue(
        {"mask": "the only pass", "none": "outside the passes"},
        (
            Stage("network", "sleeping in the place of a network", "network", on_host=False),
            Stage("masks", "sleeping in the place of the host", "images, tiles and masks on the processor"),
            Stage("other", "what no hook claims", "not attributed"),
        ),
    )
    passes = frozenset({"stages", "memory", "energy", "masks"})
    dtypes = ("float32", "bfloat16")
    columns: Mapping[str, Scalar] = DEFAULTS
    searched = (("fast", "slow"), ("fallback", "late-fallback"), ("batch=2",))

    def __init__(self, script: Script | None = None) -> None:
        """script: what it plays; that of the process's environment if not given."""
        self._script = script

    @property
    def playing(self) -> Script:
        """The script that it plays."""
        return self._script or scripts.read()

    @property
    def patience_s(self) -> float:
        """The time in s that a process may be silent."""
        return self.playing.patience_s

    def version(self) -> str | None:
        """This program's own version."""
        return __version__

    def resolve(self, model: str, choice: str, trust: Sequence[str] = ()) -> ModelFiles:
        """No files at all."""
        return ModelFiles(model, "none", (), {"weights": "none"})

    def variant(self, text: str, backend: str | None = None) -> Variant:
        """fast, slow, fallback, late-fallback, batch=N, diameter=PX, joined by +."""
        words = [word.strip() for word in text.split("+")]
        found = _settings([word for word in words if word != STOCK])
        found = {name: value for name, value in found.items() if (name, value) != ("batch", 1)}
        names = tuple(name if name in SPEEDS else f"{name}={value}" for name, value in sorted(found.items()))
        return Variant(names, changes_result="diameter" in found)

    def in_force(self, variant: Variant) -> Mapping[str, Scalar]:
        """Batch size and diameter, where the variant sets them."""
        found, columns = _settings(variant.names), {"batch": "batch_size", "diameter": "diameter_asked_px"}
        return {columns[name]: type(DEFAULTS[columns[name]])(value) for name, value in found.items() if name in columns}

    def parts(self, variant: Variant) -> Sequence[Part]:
        """Describe each part of a variant."""
        return [Part(name, "another time to sleep", NO_ERROR) for name in variant.names]

    def work(
        self, model: str, height_px: int, width_px: int, diameter_px: float | None = None, is_given: bool = False
    ) -> Work:
        """One tile, and operations by the pixel."""
        return Work(1, GFLOP_PER_MEGAPIXEL * height_px * width_px / 1e6)

    def call_s(self, work: Work, device: Device, threads: int) -> float:
        """The script's duration of a call in s."""
        return self.playing.call_s + self.playing.s_per_megapixel * work.gflop / GFLOP_PER_MEGAPIXEL

    def check(self, model: str) -> Check:
        """Always fit."""
        return Check("weights", OK, "a simulated model has none")

    def recipe(self, variant: Variant, model: str) -> Sequence[str]:
        """There is nothing to copy."""
        return (f"# {variant} is simulated: there is nothing to copy",)

    # ------------------------------------------------------------ in the measuring process

    def apply(self, model: object, variant: str) -> None:
        """There is no package of it, so that no script has a model of it."""

    def devices(self) -> list[Device]:
        """The script's devices, the CPU last."""
        counts = {**(self.playing.devices or {}), "cpu": 1}
        return [Device(backend, index, "simulated") for backend, n in counts.items() for index in range(n)]

    def accelerator(self, device: str) -> Accelerator:
        """A name."""
        return SimulatedAccelerator(device.partition(":")[0])

    def prepare(self, model: str, folder: str, source: str) -> None:
        """There are no files."""

    def start(self) -> None:
        """Note that a process has started."""
        scripts.witness("python", os.getpid())

    def set_threads(self, n: int) -> Mapping[str, Scalar]:
        """Report n for every library, since none has threads."""
        return dict.fromkeys(("torch_threads", "opencv_threads", "numba_threads"), n)

    def load(self, model: str, device: str, dtype: str) -> SimulatedModel:
        """A model on a device."""
        return SimulatedModel(self.playing, device)

    def environment(self, device: str) -> Mapping[str, Scalar]:
        """No facts, since this process computes nothing."""
        return {}

    def status(self, error: BaseException) -> str:
        """The status of a row whose call raised this."""
        known = {MemoryError: "oom_host", SimulatedMemoryError: "oom_device"}
        return known.get(type(error), "crash")


def _settings(words: Sequence[str]) -> dict[str, float]:
    """The settings that words name; CellbenchError for an unknown or contradictory one."""
    found: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        value = 1.0 if name in SPEEDS and not text else _number(name, text)
        if value is None:
            known = ", ".join((*SPEEDS, "batch=N", "diameter=PX"))
            raise CellbenchError(f"unknown variant {word!r}", "--variant", f"known are {known}")
        if found.get(name, value) != value or {"fast", "slow"} <= {*found, name}:
            raise CellbenchError(f"{word} contradicts the others", "--variant", "choose one")
        found[name] = value
    return found


def _number(name: str, text: str) -> float | None:
    """The value of batch=N or diameter=PX, whole ones without a fraction; None for what is neither."""
    try:
        value = {"batch": int, "diameter": float}[name](text)
    except (KeyError, ValueError):
        return None
    if not 0 < value < 1e6:
        return None
    return int(value) if value == int(value) else value


ENGINE = Simulated()
