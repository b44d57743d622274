"""Every fact stands in one list and is told by someone; the stable ones make a key."""

from types import SimpleNamespace
from uuid import UUID

import pytest

from harness.engines import torch_process
from harness.engines.simulated.engine import Simulated
from harness.machine import accelerators, facts, probe
from harness.machine.accelerators.base import LIVE
from harness.measure import block, parent
from harness.measure.wire import EnvironmentRequest
from tests.test_nvidia import gpu

NAMES = {fact.name for fact in facts.FACTS}
# What the worker adds to a block's environment, or could.
WORKER = {"weights_sha256", "size_model_sha256", "image_sha256", "diam_labels_px"}

NODE = {
    "cpu_model": "Some CPU",
    "ram_bytes": 33_554_432_000,
    "gpu_name": "NVIDIA RTX 4070",
    "gpu_uuid": "GPU-1",
    "gpu_driver_version": "560.35.03",
    "torch_version": "2.13.0",
    "smt": True,
    "power_source": "mains",
}


def test_every_fact_has_one_name_with_its_unit_in_it() -> None:
    assert len(NAMES) == len(facts.FACTS)
    endings = {"bytes": "_bytes", "MHz": "_mhz", "W": "_w", "°C": "_c", "s": "_s", "ns": "_ns", "px": "_px", None: ""}
    assert [fact.name for fact in facts.FACTS if not fact.name.endswith(endings[fact.unit])] == []
    assert {fact.type for fact in facts.FACTS} == {str, int, float, bool}


def test_what_this_machine_tells_are_facts() -> None:
    assert probe.environment().keys() - NAMES == set()


@pytest.fixture
def of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A CUDA device in torch; the facts that torch tells about it alone."""
    import torch

    properties = SimpleNamespace(major=8, minor=9, multi_processor_count=46, uuid=UUID(int=7))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (11_000_000_000, 12_000_000_000))
    return set(accelerators.of("cuda").facts("cuda:0"))


@pytest.mark.slow
def test_every_fact_is_told_by_someone_and_with_its_type(of_a_gpu: set[str]) -> None:
    answer = parent.ask(EnvironmentRequest("cpu"))
    assert answer.keys() - NAMES == set()
    live = set(LIVE) & NAMES
    assert NAMES - answer.keys() - gpu().facts().keys() - of_a_gpu - live - WORKER == set()
    for fact in facts.FACTS:
        value = answer.get(fact.name)
        wanted = (int, float) if fact.type is float else fact.type
        assert value is None or (isinstance(value, wanted) and isinstance(value, bool) == (fact.type is bool)), fact


def test_what_a_gpu_tells_are_facts() -> None:
    assert gpu().facts().keys() - NAMES == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpu_name", "NVIDIA RTX 4080"),
        ("gpu_name", None),
        ("gpu_driver_version", "580.82.07"),
        ("torch_version", "2.14.0"),
        ("smt", False),
        ("power_source", "battery"),
        ("ram_bytes", 67_108_864_000),
        ("cgroup_cpu_limit", 2.0),
    ],
)
def test_another_environment_has_another_key(name: str, value: object) -> None:
    assert facts.stable_key(NODE | {name: value}) != facts.stable_key(NODE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((fact.name, "9") for fact in facts.GROUPS["at this moment"]),
        ("gpu_uuid", "GPU-2"),  # two machines of one model agree
        ("harness_commit", "abc"),
        ("image_sha256", "abc"),
        ("ram_bytes", 33_554_400_000),  # the kernel keeps a little more for itself
        ("turbo", None),
        ("not_a_fact", 1),
    ],
)
def test_live_readings_names_and_unknowns_do_not_change_the_key(name: str, value: object) -> None:
    assert facts.stable_key(NODE | {name: value}) == facts.stable_key(NODE)


def test_the_key_is_16_hex_digits_and_the_order_does_not_matter() -> None:
    key = facts.stable_key(NODE)
    assert len(key) == 16
    assert int(key, 16)
    assert facts.stable_key(dict(reversed(NODE.items()))) == key


@pytest.mark.parametrize(
    ("config", "blas"),
    [
        ("  - oneAPI Math Kernel Library Version 2024.2-Product\n  - Build settings: BLAS_INFO=mkl", "mkl 2024.2"),
        ("  - LAPACK is enabled\n  - Build settings: BLAS_INFO=accelerate, LAPACK_INFO=accelerate,", "accelerate"),
        ("  - Build settings: LAPACK_INFO=open", None),
    ],
)
def test_the_library_behind_matrix_products(config: str, blas: str | None) -> None:
    assert torch_process.blas(config) == blas


def test_the_driver_names_the_gpu_where_the_machine_has_no_name_for_it() -> None:
    driver = SimpleNamespace(facts=lambda: {"gpu_name": "NVIDIA H200"}, live=lambda: {"gpu_mhz": 1980})
    answer = block.environment(Simulated(), "cuda:0", {"torch_version": "2.11.0+cu130"}, driver)
    assert (answer["gpu_name"], answer["gpu_mhz"], answer["torch_version"]) == ("NVIDIA H200", 1980, "2.11.0+cu130")


@pytest.mark.slow
def test_a_cuda_device_tells_which_unit_it_is(of_a_gpu: set[str]) -> None:
    engine = torch_process.TorchProcess()
    answer = engine.environment("cuda:0")
    assert answer["gpu_uuid"] == str(UUID(int=7))
    assert (answer["gpu_compute_capability"], answer["gpu_multiprocessors"]) == ("8.9", 46)
    assert answer["gpu_memory_free_bytes"] == 11_000_000_000
    assert answer.keys() == engine.environment("cpu").keys() | of_a_gpu
