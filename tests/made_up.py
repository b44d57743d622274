"""Every table of two cases that differ only in a dimension which does not exist: python -m tests.made_up FOLDER.

It prints a JSON object, output → text. The dimension is put into the sources of the schema as they are imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEMA = Path(__file__).parents[1] / "harness" / "schema"
CHANGES = {
    "identity": ('"engine", "model",', '"engine", "model", "flavour",'),
    "columns": (
        '    Column("engine", TEXT,',
        '    Column("flavour", TEXT, "made up", since=4),\n    Column("engine", TEXT,',
    ),
}
FLAVOURS = ("sweet", "sour")


class MadeUp(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the schema with one dimension more."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> importlib.machinery.ModuleSpec | None:
        package, _, module = name.rpartition(".")
        known = package == "harness.schema" and module in CHANGES
        return importlib.util.spec_from_file_location(name, SCHEMA / f"{module}.py", loader=self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        source, (old, new) = Path(str(module.__file__)).read_text(), CHANGES[module.__name__.rpartition(".")[2]]
        if source.count(old) != 1:
            raise ValueError(f"{module.__name__} does not say {old!r} once")
        exec(compile(source.replace(old, new), str(module.__file__), "exec"), module.__dict__)


def samples() -> Iterator[dict[str, Any]]:
    """Eight nights of two cases with every pass, a ninth that is slower and lacks a size, and a search."""
    from tests import nights
    from tests.conftest import make_sample
    from tests.staged import ON_CPU, stage_samples

    gpu = {"backend": "cuda", "device": "cuda:0", "device_name": "GPU"}
    for flavour in FLAVOURS:
        for night in range(10):
            run, own = nights.run_id(night), {"flavour": flavour, "profile": "nightly"}
            level = 1.0 if night < 8 else 2.0
            yield from nights.timed(run, [level, 1.01 * level, 0.99 * level], **own)
            yield from nights.timed(run, [level / 4], **own, **gpu)
            if night < 9:
                yield from nights.timed(run, [4 * level], **own, crop="448", height_px=448, width_px=448)
        last = {"run_id": nights.run_id(9), "flavour": flavour, "profile": "nightly", "source": "measured"}
        word = "identical" if flavour == "sweet" else "different"
        yield make_sample(**last, role="masks", agreement=word, reference_n_cells=3, ap50=1.0, ap90=1.0)
        yield make_sample(**last, role="memory", peak_rss_bytes=10**9, rss_method="VmHWM")
        yield make_sample(**last, role="energy", energy_j=8.0, n_calls=4, energy_method="nvml gpu")
        yield make_sample(**last, role="cold", phase="import")
        yield make_sample(**last, role="warmup", status="crash", elapsed_s=None, error_type="SIGKILL", crop="96")
        yield from stage_samples(ON_CPU, {"224": 1.0}, **last)
        search = last | {"run_id": nights.run_id(10)}
        for variant, elapsed_s in (("stock", 2.0), ("bf16", 1.0)):
            for i in range(3):
                yield make_sample(**search, role="tune", variant=variant, repetition=i, elapsed_s=elapsed_s)
        yield make_sample(**search, role="throughput", n_images=4, n_processes=1, n_in_flight=1)


def outputs(folder: Path) -> dict[str, str]:
    """Everything that is printed about them."""
    from typer.testing import CliRunner

    from harness.cli.app import app
    from harness.query.named import QUERIES
    from tests import nights

    nights.store(folder, samples())
    out, last, search = ["--out", str(folder)], nights.run_id(9), nights.run_id(10)
    formats = ("", "--json", "--csv", "--md")
    commands = {f"show {kind} {form}": ["show", "--run", last, kind, form] for kind in ("", "--stages", "--passes")
                for form in formats}  # fmt: skip
    commands |= {f"races {form}": ["show", "--run", search, form] for form in formats}
    commands |= {f"alarms {form}": ["alarms", "--all", form] for form in ("", "--json", "--md")}
    commands |= {f"compare {form}": ["compare", nights.run_id(0), last, form] for form in ("", "--json", "--md")}
    for name, named in QUERIES.items():
        of_run = ["--param", f"run={last}"] if "run" in dict(named.defaults) else []
        if named.dimensions:
            commands |= {f"query {name} {form}": ["query", name, form, *of_run] for form in ("", "--json", "--md")}
    commands |= {
        f"view {view}": ["query", f"SELECT * FROM {view} WHERE run_id IN ('{last}', '{search}')", "--json"]
        for view in ("medians", "speedups", "coverage", "throughput", "stages", "memory", "energy", "agreement")
    }
    commands |= {"report": ["report", "--run", last, "--md"], "history": ["history"]}
    found = {}
    for name, words in commands.items():
        done = CliRunner().invoke(app, [*(word for word in words if word), *out])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        found[name] = done.stdout
    return found | {"history": (folder / "history.html").read_text()}


if __name__ == "__main__":
    sys.meta_path.insert(0, MadeUp())
    json.dump(outputs(Path(sys.argv[1])), sys.stdout)
