"""Apple's GPU without a Mac: the calls exist in torch's own source, and the paths work on a made-up device."""

import ast
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.machine import accelerators
from harness.machine.accelerators import Device
from harness.measure.passes import memory
from harness.plan import blocks, config, estimate
from harness.plan.cases import Node
from tests.test_layers import FILES

TORCH = Path(importlib.util.find_spec("torch").origin).parent  # found, not imported
MAC = [Device("mps", 0, "Apple M1 GPU"), Device("cpu", 0, "Apple M1")]


def dotted(node: ast.AST) -> str:
    """torch.mps.synchronize, as it stands in the code; empty if it is no such name."""
    if isinstance(node, ast.Attribute):
        return f"{inner}.{node.attr}" if (inner := dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


@cache
def uses() -> dict[str, int | None]:
    """Every torch.mps.* and torch.backends.mps.* in the program, with its number of arguments where it is called."""
    found: dict[str, int | None] = {}
    for path in FILES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            name = dotted(node.func) if isinstance(node, ast.Call) else dotted(node)
            if name.startswith(("torch.mps.", "torch.backends.mps.")):
                n_arguments = len(node.args) + len(node.keywords) if isinstance(node, ast.Call) else None
                found[name] = n_arguments if found.get(name) is None else found[name]
    return found


def test_what_the_program_calls_on_mps() -> None:
    assert set(uses()) == {
        "torch.mps.synchronize", "torch.mps.empty_cache", "torch.mps.current_allocated_memory",
        "torch.mps.driver_allocated_memory", "torch.backends.mps.is_available", "torch.backends.mps.is_built",
    }  # fmt: skip


@pytest.mark.parametrize("name", uses())
def test_each_call_is_in_torch_with_that_signature_and_in_its_compiled_part(name: str) -> None:
    module, _, function = name.removeprefix("torch.").rpartition(".")
    tree = ast.parse((TORCH / module.replace(".", "/") / "__init__.py").read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    n_needed = len(found.args.args) - len(found.args.defaults)
    # A call that takes nothing is also what reads a value again and again (memory), and what waits (synchroniser).
    assert n_needed <= (uses()[name] or 0) <= len(found.args.args)
    compiled = re.findall(r"torch\._C\.(_\w+)", ast.unparse(found))
    assert compiled
    stub = (TORCH / "_C" / "__init__.pyi").read_text()
    assert all(re.search(rf"^(def )?{word}\b", stub, re.MULTILINE) for word in compiled)


def test_numbers_that_are_read_are_whole() -> None:
    stub = (TORCH / "_C" / "__init__.pyi").read_text()
    for word in ("_mps_currentAllocatedMemory", "_mps_driverAllocatedMemory"):
        assert re.search(rf"^def {word}\(\) -> _int: \.\.\.", stub, re.MULTILINE)


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A torch that has one MPS device and notes what it is asked for."""
    asked: list[str] = []

    class Tensor:
        def __init__(self, device: str) -> None:
            self.device = device

        def __matmul__(self, _: object) -> "Tensor":
            return self

        def sum(self) -> "Tensor":
            return self

        def cpu(self) -> float:
            return 64.0**3

    def ones(*_: int, device: str) -> Tensor:
        asked.append(device)
        return Tensor(device)

    torch = SimpleNamespace(
        asked=asked, ones=ones,
        cuda=SimpleNamespace(device_count=lambda: 0),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)),
        mps=SimpleNamespace(
            synchronize=lambda: asked.append("synchronize"), empty_cache=lambda: asked.append("empty_cache"),
            current_allocated_memory=lambda: 10, driver_allocated_memory=lambda: 30,
        ),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def test_mps_is_listed_first_once_it_computes(mac: SimpleNamespace) -> None:
    assert [device.id for device in accelerators.found()] == ["mps", "cpu"]
    assert mac.asked == ["mps", "cpu"]


def test_mps_that_does_not_compute_is_not_listed(mac: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*_: int, device: str) -> object:
        if device.startswith("mps"):
            raise RuntimeError("Placeholder storage has not been allocated on MPS device!")
        return good(device=device)

    good = mac.ones
    monkeypatch.setattr(mac, "ones", ones)
    with pytest.warns(UserWarning, match="mps does not compute"):
        assert [device.backend for device in accelerators.found()] == ["cpu"]


def test_mps_is_waited_for(mac: SimpleNamespace) -> None:
    kind = accelerators.of("mps")
    kind.synchronizer("mps")()
    assert (kind.sync_name, mac.asked) == ("torch.mps.synchronize", ["synchronize"])


def test_a_mac_is_planned_for() -> None:
    [node] = blocks.choose_on(("auto",), [Node("mac1", tuple(MAC), 8)])
    planned = blocks.blocks(config.load("thorough"), 2160, 2560, [node])
    assert {block.device.id for block in planned} == {"mps", "cpu"}
    assert all(estimate.block_s(block) > 0 for block in planned)


def test_memory_on_mps_has_its_own_columns(mac: SimpleNamespace, tmp_path: Path) -> None:
    _, columns = memory.peak_memory(lambda: None, "mps", tmp_path)
    assert (columns["mps_current_bytes"], columns["mps_driver_bytes"]) == (10, 30)
    assert columns["cuda_allocated_bytes"] is None
    assert "empty_cache" in mac.asked


def test_cellpose_is_told_the_device_and_has_the_mps_branches_that_the_program_counts_on() -> None:
    package = Path(importlib.util.find_spec("cellpose").origin).parent
    models, dynamics = ((package / f"{name}.py").read_text() for name in ("models", "dynamics"))
    assert "self.device = device if device is not None else sdevice" in models
    assert re.search(
        r"""device\.type\s*==\s*["']mps["']""", dynamics
    )  # seeds on the CPU: advice counts them as host work
