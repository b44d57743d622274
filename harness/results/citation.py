"""A sentence by which measurements can be cited: program, hardware, versions, weights, run."""

from __future__ import annotations

from harness import __version__
from harness.results.formatting import device_label, listed, model_name, short_name, text
from harness.results.tables import Tables

N_DEVICES, N_RUNS = 4, 3  # that a sentence names


def sentence(tables: Tables) -> str:
    """Program, work, hardware, versions and runs of the cases."""
    rows = tables.cases
    if not rows:
        return f"Made with Cellbench {__version__}; nothing was timed."

    def distinct(column: str) -> str:
        return listed(sorted({text(row[column], "unknown") for row in rows}))

    devices = list(dict.fromkeys(f"{device_label(row)}{_host(row)}" for row in rows))
    work = (
        f"{listed(sorted({model_name(row) for row in rows}))}, {distinct('weights')} weights, image {distinct('image')}"
    )
    versions = f"Cellpose {distinct('cellpose_version')}, PyTorch {distinct('torch_version')}"
    runs = listed(sorted({row["run_id"] for row in rows}), N_RUNS)
    # The rows may have been measured by another version of this program, which drew them.
    measured = f"Measured with Cellbench (protocol {distinct('protocol')}; {work}) on {listed(devices, N_DEVICES)}"
    return f"{measured}; {versions}; run {runs}. Evaluated with Cellbench {__version__}."


def _host(row: dict[str, object]) -> str:
    """The processor of an accelerator's machine."""
    cpu = row.get("cpu_model")
    return f" in a machine with {short_name(str(cpu))}" if cpu and row["backend"] != "cpu" else ""
