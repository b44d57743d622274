"""The same contract for every kind of device, on a made-up torch that has one kind and notes what it is asked."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch as real_torch

from harness import schema
from harness.charts import encodings, rendering
from harness.fleet import tags
from harness.machine import accelerators, facts, nvidia
from harness.machine.accelerators import ACCELERATORS, GPUS, Accelerator, Device
from harness.measure.passes import memory
from harness.plan import config
from tests import recorded

NOWHERE = Path("/nonexistent/proc")  # so that the host's memory is sampled
FACTS = {fact.name for fact in facts.FACTS}


class Properties(SimpleNamespace):
    """What torch tells about a device; torch's stub must know each of the names."""


@dataclass
class Functions:
    """torch.cuda or torch.xpu with two devices; each call is noted with the device that it names."""

    properties: Properties
    n: int = 2
    calls: list[tuple[str, str]] = field(default_factory=list)

    def _note(self, name: str, device: object = None) -> None:
        self.calls.append((name, str(device)))

    def device_count(self) -> int:
        return self.n

    def get_device_name(self, device: int) -> str:
        return f"GPU number {device}"

    def get_device_properties(self, device: str) -> Properties:
        return self.properties

    def synchronize(self, device: object) -> None:
        self._note("synchronize", device)

    def empty_cache(self) -> None:
        self._note("empty_cache")

    def reset_peak_memory_stats(self, device: str) -> None:
        self._note("reset_peak_memory_stats", device)

    def max_memory_allocated(self, device: str) -> int:
        return 400 + int(device[-1])

    def max_memory_reserved(self, device: str) -> int:
        return 900 + int(device[-1])

    def mem_get_info(self, device: str) -> tuple[int, int]:
        return 7000 + int(device[-1]), 8000


class Tensor:
    """The product of two matrices of ones, on a device that computes."""

    def __init__(self, total: float) -> None:
        self._total = total

    def __matmul__(self, _: object) -> Tensor:
        return self

    def sum(self) -> Tensor:
        return self

    def cpu(self) -> float:
        return self._total


class FakeTorch(SimpleNamespace):
    """A torch build; it cannot compute on the devices in `broken`."""

    OutOfMemoryError = real_torch.OutOfMemoryError

    def __init__(self, backend: str) -> None:
        nvidia_like = Properties(uuid="5f0b1c2d", major=8, minor=9, multi_processor_count=46)
        amd = Properties(gcnArchName="gfx90a:sramecc+:xnack-", multi_processor_count=104, name="G", total_memory=8000)
        intel = Properties(name="G", driver_version="1.6", max_compute_units=512, total_memory=8000)
        is_cuda, is_rocm, is_mps, is_xpu = (backend == name for name in ("cuda", "rocm", "mps", "xpu"))
        self.computed: list[str] = []
        self.broken: set[str] = set()
        self.waited: list[str] = []
        # A build without a kind has its module all the same, with no device in it.
        super().__init__(
            version=SimpleNamespace(
                cuda="12.8" if is_cuda else None, hip="6.4.1" if is_rocm else None, xpu="20250301" if is_xpu else None
            ),
            cuda=Functions(amd if is_rocm else nvidia_like, 2 if is_cuda or is_rocm else 0),
            xpu=Functions(intel, 2 if is_xpu else 0),
            mps=SimpleNamespace(
                synchronize=lambda: self.waited.append("mps"), empty_cache=lambda: self.waited.append("empty_cache"),
                current_allocated_memory=lambda: 10, driver_allocated_memory=lambda: 30,
            ),
            backends=SimpleNamespace(
                mps=SimpleNamespace(is_available=lambda: is_mps, is_built=lambda: is_mps),
                cudnn=SimpleNamespace(version=lambda: 91002),
            ),
        )  # fmt: skip

    def device(self, name: str) -> str:
        return name

    def ones(self, *_: int, device: str) -> Tensor:
        self.computed.append(device)
        if device in self.broken:
            raise RuntimeError("an illegal instruction was encountered")
        return Tensor(64.0**3)


@dataclass(frozen=True)
class Contract:
    """What is promised of a kind: ids, what torch calls them, the module that is called, memory columns of a device."""

    ids: tuple[str, ...]
    torch_names: tuple[str, ...]
    functions: str | None
    sync_name: str
    columns: dict[str, int]
    errors: tuple[str, ...] = ()


def caching(index: int) -> dict[str, int]:
    return {"cuda_allocated_bytes": 400 + index, "cuda_reserved_bytes": 900 + index}


CONTRACTS = {
    "cuda": Contract(
        ("cuda:0", "cuda:1"), ("cuda:0", "cuda:1"), "cuda", "torch.cuda.synchronize", caching(1),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "CUDA error: out of memory",
         "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ),
    "rocm": Contract(
        ("rocm:0", "rocm:1"), ("cuda:0", "cuda:1"), "cuda", "torch.cuda.synchronize", caching(1),
        ("HIP out of memory. Tried to allocate 16.00 GiB.", "HIP error: out of memory"),
    ),
    "mps": Contract(
        ("mps",), ("mps",), None, "torch.mps.synchronize", {"mps_current_bytes": 10, "mps_driver_bytes": 30},
        ("MPS backend out of memory (MPS allocated: 9.05 GB)",),
    ),
    "xpu": Contract(
        ("xpu:0", "xpu:1"), ("xpu:0", "xpu:1"), "xpu", "torch.xpu.synchronize", caching(1),
        ("XPU out of memory. Tried to allocate 4.66 GiB.",
         "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    ),
    "cpu": Contract(("cpu",), ("cpu",), None, "none", {}),
}  # fmt: skip


@pytest.fixture(params=ACCELERATORS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def torch(backend: str, monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    fake = FakeTorch(backend)
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def kind(backend: str, torch: FakeTorch) -> Accelerator:
    return ACCELERATORS[backend]


@pytest.fixture
def contract(backend: str) -> Contract:
    return CONTRACTS[backend]


# ------------------------------------------------------------------ devices


def test_there_is_a_contract_for_every_kind_and_the_cpu_comes_last() -> None:
    assert CONTRACTS.keys() == ACCELERATORS.keys()
    assert list(ACCELERATORS)[-1] == "cpu"
    assert set(GPUS) == ACCELERATORS.keys() - {"cpu"}


def test_the_devices_of_a_kind_and_the_cpu_are_found_where_torch_has_them(torch: FakeTorch, contract: Contract) -> None:
    ids = list(dict.fromkeys([*contract.ids, "cpu"]))
    assert accelerators.listed() == [device.id for device in accelerators.found()] == ids
    assert torch.computed == list(dict.fromkeys([*contract.torch_names, "cpu"]))
    assert [accelerators.of(name).torch_name(name) for name in contract.ids] == list(contract.torch_names)


def test_a_device_that_torch_lists_but_that_does_not_compute_is_left_out(torch: FakeTorch, contract: Contract) -> None:
    torch.broken = {contract.torch_names[0]}
    torch.cuda.get_device_name = torch.xpu.get_device_name = lambda index: {1: "the good one"}[index]
    with pytest.warns(UserWarning, match=f"{contract.ids[0]} does not compute: an illegal instruction"):
        found = accelerators.found()
    assert contract.ids[0] not in [device.id for device in found]
    assert len(found) == len({*contract.ids, "cpu"}) - 1


def test_a_torch_without_intels_module_has_no_such_device(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTorch("cpu")
    del fake.xpu, fake.version.xpu
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert accelerators.listed() == ["cpu"]
    assert ACCELERATORS["xpu"].build() is None


def test_every_id_and_backend_is_a_word_for_flags_and_tags(backend: str, contract: Contract) -> None:
    for word in (backend, *contract.ids):
        assert accelerators.names(word)
        assert config.load("quick", {"devices": (word,)}).devices == (word,)
    assert tags.promised("desk", f"{backend}=2").resources()[f"bench_{backend}"] == 2
    assert backend in re.split("[, ]+", accelerators.device_words())


@pytest.mark.parametrize(
    "word", ["cpu:0", "mps:0", "cuda:", "cuda:x", "cuda:-1", "cuda:0:1", "cuda:²", "hip:0", "CUDA:0", "", ":0"]
)
def test_other_words_are_no_devices(word: str) -> None:
    assert not accelerators.names(word)


def test_a_device_of_a_backend_that_this_version_does_not_know_has_an_id() -> None:
    assert Device("tpu", 3, "v5e").id == "tpu:3"


# ------------------------------------------------------------------ waiting, memory


def test_it_is_waited_for_the_device_that_computes(torch: FakeTorch, kind: Accelerator, contract: Contract) -> None:
    assert kind.sync_name == contract.sync_name
    kind.synchronizer(contract.ids[-1])()
    if contract.functions:
        assert getattr(torch, contract.functions).calls == [("synchronize", contract.torch_names[-1])]
    assert torch.waited == (["mps"] if kind.backend == "mps" else [])
    # The function is the one whose name is stored.
    assert contract.sync_name == "none" or callable(_real(contract.sync_name))


def test_memory_columns_are_those_of_the_device(torch: FakeTorch, kind: Accelerator, contract: Contract) -> None:
    _, columns = memory.peak_memory(lambda: None, kind, contract.ids[-1], NOWHERE)
    of_device = {name: columns[name] for name in memory.COLUMNS if name not in ("peak_rss_bytes", "rss_method")}
    assert of_device == dict.fromkeys(of_device) | contract.columns
    assert set(columns) == set(memory.COLUMNS)
    if contract.functions:
        reset = [("empty_cache", "None"), ("reset_peak_memory_stats", contract.torch_names[-1])]
        assert getattr(torch, contract.functions).calls == reset


def test_errors_of_full_device_memory_are_known(torch: FakeTorch, kind: Accelerator, contract: Contract) -> None:
    assert all(kind.is_out_of_memory(RuntimeError(text)) for text in contract.errors)
    assert kind.is_out_of_memory(real_torch.OutOfMemoryError("full")) is (contract.functions is not None)
    others = ("mat1 and mat2 shapes cannot be multiplied", "DefaultCPUAllocator: can't allocate memory", "")
    assert not any(kind.is_out_of_memory(RuntimeError(text)) for text in others)


def test_no_kind_takes_anothers_full_memory_for_its_own(torch: FakeTorch, kind: Accelerator) -> None:
    others = [text for name, each in CONTRACTS.items() if name != kind.backend for text in each.errors]
    assert not any(kind.is_out_of_memory(RuntimeError(text)) for text in others)


# ------------------------------------------------------------------ driver, facts


def test_only_nvidias_gpus_have_a_monitor(
    torch: FakeTorch, kind: Accelerator, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "open_gpu", lambda uuid: f"NVML's view of {uuid}")
    expected = "NVML's view of 5f0b1c2d" if kind.backend == "cuda" else None
    assert kind.monitor(contract.ids[-1]) == expected
    assert kind.uuid(0) == ("5f0b1c2d" if kind.backend == "cuda" else None)


def test_a_monitor_by_uuid_does_not_touch_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "open_gpu", lambda uuid: f"NVML's view of {uuid}")
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    assert ACCELERATORS["cuda"].monitor("cuda:1", "abc") == "NVML's view of abc"


def test_facts_are_those_of_the_list(torch: FakeTorch, kind: Accelerator, contract: Contract) -> None:
    answer = kind.facts(contract.ids[-1])
    assert answer.keys() <= FACTS
    if contract.functions:
        assert answer["gpu_memory_free_bytes"] == 7001
    if kind.backend == "rocm":
        assert answer["gpu_compute_capability"] == "gfx90a"


def test_torch_is_built_for_the_kind_alone(torch: FakeTorch, backend: str) -> None:
    assert [name for name, kind in ACCELERATORS.items() if kind.build()] == list(dict.fromkeys([backend, "cpu"]))


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        (
            {f"proc/driver/nvidia/gpus/0000:0{i}:00.0/information": "" for i in (1, 2)},
            (2, 0),
        ),
        ({"sys/class/drm/card1/device/mem_info_vram_total": str(24 * 2**30)}, (0, 1)),
        ({"sys/class/drm/card0/device/mem_info_vram_total": str(512 * 2**20)}, (0, 0)),  # inside a processor
        ({"sys/class/drm/card0/device/vendor": "0x8086"}, (0, 0)),
    ],
)
def test_gpus_that_drivers_list(tmp_path: Path, files: dict[str, str], counts: tuple[int, int]) -> None:
    sources = recorded.linux(tmp_path, files)
    assert tuple(ACCELERATORS[name].driver_count(sources) for name in ("cuda", "rocm")) == counts
    assert [ACCELERATORS[name].driver_count(sources) for name in ("mps", "xpu", "cpu")] == [0, 0, 0]


# ------------------------------------------------------------------ what others read of a kind


def test_charts_tell_the_kinds_apart() -> None:
    looks = [(kind.hue, kind.shape) for kind in ACCELERATORS.values()]
    assert len(set(looks)) == len(looks)
    assert all(0 <= hue < len(rendering.HUES) for hue, _ in looks)


def test_a_kind_that_this_version_does_not_know_is_drawn_too() -> None:
    kinds = (*ACCELERATORS, "tpu", "npu", "gaudi", "neuron")
    rows = [{"kind": kind, "series": kind, "published": False} for kind in kinds]
    assert encodings.of_kinds(rows)
    assert len(set(encodings.kind_styles(kinds).values())) == len(kinds)


@pytest.mark.parametrize(("column", "attribute"), [("backend", "backend"), ("sync", "sync_name")])
def test_the_schema_names_what_every_kind_stores(column: str, attribute: str) -> None:
    meaning = next(each.meaning for each in schema.SAMPLES if each.name == column)
    assert {getattr(kind, attribute) for kind in ACCELERATORS.values()} <= set(re.findall(r"[\w.]+", meaning))


def test_every_kind_has_a_title() -> None:
    titles = [kind.title for kind in ACCELERATORS.values()]
    assert len(set(titles)) == len(titles)


# ------------------------------------------------------------------ the made-up torch is like the real one


def _real(name: str) -> Any:
    found: Any = real_torch
    for part in name.removeprefix("torch.").split("."):
        found = getattr(found, part)
    return found


FUNCTIONS = [name for name, _ in inspect.getmembers(Functions, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("module", ["cuda", "xpu"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_has_these_functions_and_they_take_as_many_arguments(module: str, name: str) -> None:
    fake: Callable[..., Any] = getattr(Functions, name)
    n_arguments = len(inspect.signature(fake).parameters) - 1  # without self
    inspect.signature(_real(f"torch.{module}.{name}")).bind(*["cuda:0"] * n_arguments)


@pytest.mark.parametrize(("backend", "stub"), [
    ("cuda", "_CudaDeviceProperties"), ("rocm", "_CudaDeviceProperties"), ("xpu", "_XpuDeviceProperties"),
])  # fmt: skip
def test_torchs_properties_have_these_names(backend: str, stub: str) -> None:
    text = (Path(real_torch.__file__).parent / "_C" / "__init__.pyi").read_text()
    known = re.search(rf"^class {stub}:\n((?:    .+\n)+)", text, re.MULTILINE)
    assert known is not None
    fake = FakeTorch(backend)
    names = vars((fake.xpu if backend == "xpu" else fake.cuda).properties)
    assert set(names) <= set(re.findall(r"^    (\w+):", known[1], re.MULTILINE))
