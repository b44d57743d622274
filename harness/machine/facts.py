"""Every fact about a node, once: stored with its results to explain a change in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    """One fact: its name, content and meaning.

    type: str, int, float or bool; null where the machine does not report it. stable: whether it is part of
    stable_key(); False for values that change by themselves, names of one unit, and facts of the workload or this
    program. private: whether it distinguishes one machine from others of its kind.
    """

    name: str
    type: type
    meaning: str
    unit: str | None = None
    stable: bool = True
    private: bool = False


GROUPS: dict[str, tuple[Fact, ...]] = {
    "machine": (
        Fact("machine_model", str, "maker and model of the machine"),
        Fact("arch", str, "architecture that Python runs as; x86_64 on an Apple chip means Rosetta"),
        Fact("virtualisation", str, "hypervisor, or none"),
        Fact("container", str, "kubernetes, docker, podman, apptainer, lxc or none"),
        Fact("cgroup_cpu_limit", float, "tightest processor quota of the control groups; null where there is none"),
        Fact("cgroup_memory_limit_bytes", int, "tightest memory limit; null where there is none", "bytes"),
        Fact("ram_bytes", int, "memory of the host", "bytes"),
        Fact("swap_bytes", int, "swap space; null on macOS, which makes it as it goes", "bytes"),
        Fact("transparent_hugepages", str, "always, madvise or never"),
    ),
    "processor": (
        Fact("cpu_model", str, "the processor's own name"),
        Fact("cpu_sockets", int, "processor packages"),
        Fact("cpu_physical_cores", int, "cores"),
        Fact("cpu_logical_cores", int, "hardware threads"),
        Fact("cpu_usable", int, "hardware threads that this process may use"),
        Fact("cpu_performance_cores", int, "cores of the fastest kind; null where all are of one kind"),
        Fact("cpu_efficiency_cores", int, "the other cores; null where all are of one kind"),
        Fact("cpu_l1d_bytes", int, "level 1 data cache of the first core", "bytes"),
        Fact("cpu_l2_bytes", int, "level 2 cache of the first core", "bytes"),
        Fact("cpu_l3_bytes", int, "level 3 cache of the first core", "bytes"),
        Fact("cpu_base_mhz", int, "nominal clock", "MHz"),
        Fact("cpu_max_mhz", int, "highest clock of the fastest core", "MHz"),
        Fact("cpu_instructions", str, "vector and matrix extensions that matter here; spaced, or none"),
        Fact("smt", bool, "whether cores run two threads at once"),
        Fact("numa_nodes", int, "memory domains"),
    ),
    "power": (
        Fact("power_source", str, "mains, battery or ups"),
        Fact("power_mode", str, "what the owner chose, in the system's own word"),
        Fact("cpu_governor", str, "Linux clock governors of the cores; spaced"),
        Fact("cpu_scaling_driver", str, "Linux driver that sets the clock"),
        Fact("cpu_energy_preference", str, "bias between speed and energy that the processor was given; spaced"),
        Fact("turbo", bool, "whether clocks above nominal are allowed"),
    ),
    "gpu": (
        Fact("gpu_name", str, "model of the GPU"),
        Fact("gpu_uuid", str, "which unit of that model", stable=False, private=True),
        Fact("gpu_driver_version", str, "version of the driver"),
        Fact("gpu_cuda_driver_version", str, "highest CUDA version that the driver supports"),
        Fact("gpu_compute_capability", str, "CUDA compute capability, or AMD's architecture (gfx90a)"),
        Fact("gpu_multiprocessors", int, "multiprocessors (NVIDIA) or compute units (AMD, Intel) that torch may use"),
        Fact("gpu_memory_bytes", int, "memory of the GPU", "bytes"),
        Fact("gpu_max_mhz", int, "highest clock of the multiprocessors", "MHz"),
        Fact("gpu_power_limit_w", float, "power that the driver enforces", "W"),
        Fact("gpu_pcie", str, "fastest link to the host that GPU and board allow: generation and lanes"),
        Fact("gpu_ecc", bool, "whether memory errors are corrected"),
        Fact("gpu_mig", bool, "whether the GPU is partitioned"),
        Fact("gpu_persistence", bool, "whether the driver stays loaded between processes"),
        Fact("gpu_cores", int, "cores of an Apple GPU"),
        Fact("metal_support", str, "Metal version or family that macOS reports"),
    ),
    "system": (
        Fact("os_name", str, "operating system and release"),
        Fact("os_kernel", str, "release of the kernel"),
        Fact("os_build", str, "build of the kernel (Linux) or of macOS"),
        Fact("clock_source", str, "what Linux keeps time with; tsc is the fast one"),
        Fact("clock_resolution_ns", float, "step of the clock that times repetitions", "ns"),
        Fact("python_version", str, "version of Python"),
        Fact("python_implementation", str, "which Python"),
    ),
    "torch": (
        Fact("torch_version", str, "version of torch, with its build"),
        Fact("torch_git_version", str, "commit that torch was built from"),
        Fact("torch_build", str, "the backend besides the CPU that torch was built for: cuda, rocm, mps, xpu or cpu"),
        Fact("torch_cuda_version", str, "CUDA version that torch was built with"),
        Fact("torch_cudnn_version", int, "cuDNN version that torch loaded, e.g. 91002 for 9.10.2"),
        Fact("torch_mps", bool, "whether torch can use Metal here"),
        Fact("torch_cudnn_tf32", bool, "whether convolutions may round to TF32"),
        Fact("torch_matmul_tf32", bool, "whether CUDA matrix products may round to TF32"),
        Fact("torch_matmul_precision", str, "precision of float32 matrix products: highest, high or medium"),
        Fact("torch_cudnn_benchmark", bool, "whether cuDNN tries its algorithms out"),
        Fact("torch_cudnn_deterministic", bool, "whether cuDNN uses only deterministic algorithms"),
        Fact("torch_deterministic", bool, "whether torch uses only deterministic algorithms"),
        Fact("torch_mkldnn", bool, "whether oneDNN is built in"),
        Fact("torch_cpu_capability", str, "vector instructions that torch's own kernels use, e.g. AVX2"),
        Fact("torch_blas", str, "linear algebra library of torch on the CPU"),
        Fact("torch_threads", int, "threads within an operation"),
        Fact("torch_interop_threads", int, "threads across operations"),
        Fact("torch_settings", str, "environment variables that steer torch and CUDA; spaced"),
    ),
    "libraries": (
        Fact("cellpose_version", str, "version of cellpose"),
        Fact("numpy_version", str, "version of numpy"),
        Fact("numba_version", str, "version of numba"),
        Fact("llvmlite_version", str, "version of llvmlite, numba's compiler"),
        Fact("opencv_version", str, "version of OpenCV"),
        Fact("scipy_version", str, "version of scipy"),
        Fact("ray_version", str, "version of Ray that is installed"),
        Fact("opencv_threads", int, "threads of OpenCV"),
        Fact("numba_threads", int, "threads of numba"),
        Fact("openmp_runtimes", str, "OpenMP libraries in the process; spaced"),
        Fact("niceness", int, "priority of the measuring process; 0 is normal, above it others go first"),
        Fact("thread_settings", str, "environment variables that set numbers of threads and where they run; spaced"),
        Fact("harness_version", str, "version of this program", stable=False),
        Fact("harness_commit", str, "commit of this program's checkout, -dirty if its code was edited", stable=False),
    ),
    "workload": (
        Fact("weights_sha256", str, "hash of the network's file", stable=False),
        Fact("size_model_sha256", str, "hash of the size model's file", stable=False),
        Fact("image_sha256", str, "hash of the whole image's pixels", stable=False),
        Fact("diam_labels_px", float, "mean training diameter stored in the weights", "px", stable=False),
    ),
    "at this moment": (
        Fact("cpu_mhz", float, "mean clock of the processors", "MHz", stable=False),
        Fact("cpu_temperature_c", float, "hottest processor sensor", "°C", stable=False),
        Fact("load_1min", float, "runnable tasks, mean of one minute", stable=False),
        Fact("memory_available_bytes", int, "memory that can be had without swapping", "bytes", stable=False),
        Fact("temp_free_bytes", int, "free space where temporary files go", "bytes", stable=False),
        Fact("gpu_mhz", int, "clock of the multiprocessors", "MHz", stable=False),
        Fact("gpu_temperature_c", float, "temperature of the GPU", "°C", stable=False),
        Fact("gpu_power_w", float, "power of the GPU", "W", stable=False),
        Fact("gpu_memory_free_bytes", int, "free memory of the GPU", "bytes", stable=False),
        Fact("uptime_s", float, "time since the machine started", "s", stable=False, private=True),
        Fact("booted_at", str, "when the machine started, ISO 8601 in UTC", stable=False, private=True),
    ),
}

FACTS: tuple[Fact, ...] = tuple(fact for group in GROUPS.values() for fact in group)


def stable_key(facts: Mapping[str, Any]) -> str:
    """A short name for hardware, system and libraries, equal for nodes that agree in every stable fact.

    Unknown facts take no part, so that a fact which a later version adds changes no key where it is null.
    """
    known = {f.name: _coarse(f, facts[f.name]) for f in FACTS if f.stable and facts.get(f.name) is not None}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _coarse(fact: Fact, value: Any) -> Any:
    """Sizes to two digits: the kernel's own share differs a little from boot to boot."""
    return f"{value:.1e}" if fact.unit == "bytes" else value
