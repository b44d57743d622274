"""`cellbench checkup`: doctor, a quick run, mask agreement and a short search, in one file without private facts.

Every step is independent: a step that fails is recorded with its reason, and the next one starts.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import __version__, schema
from harness.doctor import environment, machine_checks
from harness.engines import registry
from harness.errors import CasesFailedError, CellbenchError, ChecksFailedError, MasksDisagreeError
from harness.fleet.driver import Fleet
from harness.machine import facts, machine_id
from harness.machine.checks import FAIL
from harness.plan import config
from harness.run import bench, tune
from harness.schema import Sample
from harness.store import Store, anonymous
from harness.terminal import tuning_view

CROPS, TUNE_CROP = ("224", "448"), "224"
PASSES = ("stages", "memory", "masks")
GATE, TUNE_BUDGET_S = "equivalent", 60.0
FACTS_S, DOCTOR_S, UNPLANNED_S = 5.0, 20.0, 120.0
# Checks whose evidence is a path, an address or a name: only their verdicts are kept.
PRIVATE_CHECKS = {"home", "disk", "other nodes", "ray", "ray token", "macOS"}
OK, FAILED, INTERRUPTED, NOT_RUN = "ok", "failed", "interrupted", "not run"
WHEN = (1980, 1, 1, 0, 0, 0)  # of every file in the archive: times of day are private
GUIDE = """\
The results of `cellbench checkup`, without names, paths, identifiers and times of day.

steps.json        each step, its status, duration and reason of failure
environment.json  facts about the machine
doctor.json       the checks of the machine
masks.json        mask agreement of a faster variant with stock Cellpose on the CPU
tune.txt          the short search for speed
results/          all repetitions as Parquet: cellbench show --out results; cellbench report --out results
"""


@dataclass
class Step:
    """One step. status: ok, failed, interrupted or not run. reason and trace: of a failure."""

    name: str
    estimate_s: float
    status: str = NOT_RUN
    elapsed_s: float | None = None
    reason: str | None = None
    trace: str | None = None


class Checkup:
    """The steps of a checkup and what they found.

    out: folder of the user's results, which is only examined. on_line: receives lines of progress.
    """

    def __init__(self, model: str | None, here: Fleet, out: Path, on_line: Callable[[str], None]) -> None:
        self._model, self._here, self._out, self._on_line = model or registry.default_model(), here, out, on_line
        self._engine = registry.engine_of(self._model)
        self._contents: dict[str, Any] = {}  # of the archive's files, by name
        self._private = [str(id_) for id_ in (machine_id.columns()["machine_id"],) if id_]
        self._work: dict[str, Callable[[Path], None]] = {
            "facts about the machine": self._look_up,
            "doctor": self._examine,
            "quick run with stages, memory and masks": self._measure,
            "mask agreement of a faster variant": self._verify,
            "short search for speed": self._search,
        }
        guesses = (
            lambda: FACTS_S,
            lambda: DOCTOR_S,
            lambda: self._planned().estimate_s,
            lambda: tune.verify_s(self._planned_race()),
            lambda: tune.search_s(self._planned_race(), TUNE_BUDGET_S),
        )
        self.steps = [Step(name, _guess_s(guess)) for name, guess in zip(self._work, guesses, strict=True)]

    def run(self, on_step: Callable[[Step], None]) -> None:
        """Perform the steps, each reported before and after; KeyboardInterrupt ends them and is recorded."""
        step = self.steps[0]
        with tempfile.TemporaryDirectory(prefix="cellbench-checkup-") as folder:
            try:
                for step in self.steps:
                    on_step(step)
                    self._perform(step, Path(folder))
                    on_step(step)
            except KeyboardInterrupt:
                step.status, step.reason, step.elapsed_s = INTERRUPTED, "stopped by the user", step.elapsed_s or 0.0
                on_step(step)
            with suppress(CellbenchError):  # where no step has stored a sample
                self._contents |= _anonymous(Path(folder))

    def archive(self) -> bytes:
        """The file to attach, a zip: every text is without private words and paths."""
        names = anonymous.Names([*anonymous.own_names(), *self._private])
        steps = {"cellbench": __version__, "model": self._model, "steps": [asdict(step) for step in self.steps]}
        texts = {"README.txt": GUIDE, "steps.json": steps, **self._contents}
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in texts.items():
                if isinstance(content, bytes):  # anonymous since it was copied
                    data = content
                elif isinstance(content, str):
                    data = names.searched(content).encode()
                else:
                    data = json.dumps(_searched(content, names), indent=2, ensure_ascii=False).encode()
                archive.writestr(zipfile.ZipInfo(name, WHEN), data, zipfile.ZIP_DEFLATED)
        return stream.getvalue()

    def _perform(self, step: Step, folder: Path) -> None:
        begin_s = time.monotonic()
        try:
            self._work[step.name](folder)
            step.status = OK
        except CellbenchError as error:
            step.status, step.reason = FAILED, error.what
        except Exception as error:  # the maintainers need its traceback
            step.status, step.reason = FAILED, f"{type(error).__name__}: {error}"
            step.trace = traceback.format_exc()
        finally:
            step.elapsed_s = round(time.monotonic() - begin_s, 1)

    # ------------------------------------------------------------ steps

    def _look_up(self, _: Path) -> None:
        found = environment.ask()
        self._private += [str(found[each.name]) for each in facts.FACTS if each.private and found[each.name]]
        self._contents["environment.json"] = {each.name: found[each.name] for each in facts.FACTS if not each.private}

    def _examine(self, _: Path) -> None:
        checks = list(machine_checks.examine(self._out))
        self._contents["doctor.json"] = [
            {**asdict(check), **({"evidence": None, "fix": None} if check.name in PRIVATE_CHECKS else {})}
            for check in checks
        ]
        if failed := [check.name for check in checks if check.verdict == FAIL]:
            raise ChecksFailedError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")

    def _measure(self, folder: Path) -> None:
        failed: list[Sample] = []
        n = 0

        def take(sample: Sample) -> None:
            nonlocal n
            n += 1
            if sample["status"] not in schema.FINE:
                failed.append(sample)

        bench.run(self._planned(), self._here, folder, take)
        if failed:
            raise CasesFailedError(f"{len(failed)} of {n} samples failed, the first: {_failure(failed[0])}")

    def _verify(self, folder: Path) -> None:
        prepared = self._planned_race()
        variant = self._variant(prepared.blocks[0].device.backend)
        rows = list(tune.verify(prepared, self._here, folder, variant))
        keys = ("variant", "device", "crop", "agreement", "ap50", "ap90", "mean_iou", "n_cells", "reference_n_cells")
        self._contents["masks.json"] = [{key: row.get(key) for key in keys} for row in rows]
        if failed := [row for row in rows if row["role"] != "masks"]:
            raise CasesFailedError(f"{variant} failed: {_failure(failed[0])}")
        tune.check_cells(rows)
        if bad := [
            row["agreement"] for row in rows if row["agreement"] and not tune.is_accepted(row["agreement"], GATE)
        ]:
            raise MasksDisagreeError(f"{variant}: masks are {bad[0]}, not {GATE}")

    def _search(self, folder: Path) -> None:
        found = tune.search(self._planned_race(), self._here, folder, GATE, TUNE_BUDGET_S, self._on_line)
        self._contents["tune.txt"] = tuning_view.text(found)

    # ------------------------------------------------------------ plans

    def _planned(self) -> bench.Prepared:
        flags = {"models": (self._model,), "crops": config.split(",".join(CROPS)), "passes": PASSES}
        return bench.prepare(bench.gather(config.load("quick", flags)), self._here.members)

    def _planned_race(self) -> bench.Prepared:
        return tune.prepare(self._here, TUNE_CROP, "auto", self._model)

    def _variant(self, backend: str) -> str:
        """The first variant of the engine's search that the device has."""
        for name in (name for group in self._engine.searched for name in group):
            with suppress(CellbenchError):
                return str(self._engine.variant(name, backend))
        raise CellbenchError(f"{self._engine.name} has no variant for {backend}", "this machine")


def _guess_s(guess: Callable[[], float]) -> float:
    """An estimate, or a constant where the step cannot be planned: it fails with its reason when it runs."""
    try:
        return guess()
    except Exception:
        return UNPLANNED_S


def _failure(sample: Sample) -> str:
    return f"{sample['device']}, crop {sample['crop']}: {sample['status']}, {sample.get('error_message')}"


def _anonymous(folder: Path) -> dict[str, bytes]:
    """The Parquet files of an anonymous copy of a store, by their names in the archive."""
    with tempfile.TemporaryDirectory(prefix="cellbench-checkup-") as other:
        anonymous.copy(Store.at(folder), Path(other))
        found = sorted(Path(other).rglob("*.parquet"))
        return {f"results/{path.relative_to(other)}": path.read_bytes() for path in found}


def _searched(value: Any, names: anonymous.Names) -> Any:
    """A value of JSON whose texts are without private words."""
    if isinstance(value, str):
        return names.searched(value)
    if isinstance(value, list):
        return [_searched(each, names) for each in value]
    if isinstance(value, dict):
        return {key: _searched(each, names) for key, each in value.items()}
    return value
