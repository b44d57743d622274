"""A CUDA device without hardware: torch's operations run on the CPU, and copies to and from the host are late.

A copy that is not waited for keeps its value of the moment (the order of a stream) and arrives when the host waits.
Until then its target holds NaN, and its source must not change. So a missing wait and memory that is reused too early
give wrong numbers, as on hardware. Import it only in a process of its own: it changes torch.cuda.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)


class OnGpu(torch.Tensor):
    """A tensor that says cuda:0; its numbers are in the tensor numbers, on the CPU."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> OnGpu:
        """Wrap numbers."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.numbers = numbers
        return made

    # torch's own form of these two looks for a driver before it dispatches.
    def __getitem__(self, index: Any) -> OnGpu:
        """A view."""
        return OnGpu(self.numbers[index])

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> OnGpu:
        """The same numbers in another order."""
        return OnGpu(self.numbers.contiguous(memory_format=memory_format))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation, where no FakeGpu is active: there is none outside of one."""
        raise RuntimeError(f"{func} outside of FakeGpu")


class FakeGpu(TorchDispatchMode):
    """The device while a with block lasts.

    n_waits: how often the host waited. n_done: operations that had been executed at the last wait. can_pin: whether
    there is pinned memory. A pinned source that changed before its copy arrived raises AssertionError at the wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_waits = self.n_done = self._n_ops = 0
        self.can_pin = True
        self._pinned: set[int] = set()  # storages
        self._late: list[tuple[torch.Tensor, torch.Tensor, bool]] = []  # host memory, its value, whether it is written
        torch._C._ensureCUDADeviceGuardSet()
        torch.cuda._lazy_init = lambda: None
        torch.cuda.current_stream = lambda device=None: self  # type: ignore[assignment]
        torch.cuda.synchronize = lambda device=None: self.record_event().synchronize()
        torch.cuda.amp.common.amp_definitely_not_available = lambda: False
        torch.cuda.is_bf16_supported = lambda including_emulation=True: True

    @property
    def is_busy(self) -> bool:
        """Whether a copy has not arrived."""
        return bool(self._late)

    def record_event(self) -> Event:
        """The present end of the queue."""
        return Event(self, len(self._late), self._n_ops)

    def wait(self, n_late: int, n_ops: int) -> None:
        """Execute the queue up to an event."""
        self.n_waits += 1
        self.n_done = n_ops
        arriving, self._late = self._late[:n_late], self._late[n_late:]
        for host, value, is_written in arriving:
            if is_written:
                host.copy_(value)
            else:
                assert torch.equal(host, value), "pinned memory was overwritten while it was copied to the device"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation of torch."""
        kwargs, name = dict(kwargs or {}), func._schema.name.removeprefix("aten::")
        flat = tree_flatten((args, kwargs))[0]
        tensors = [each for each in flat if isinstance(each, torch.Tensor)]
        is_on_gpu = any(isinstance(each, OnGpu) for each in tensors)
        to = kwargs.get("device")
        if name == "is_pinned":
            return args[0].untyped_storage().data_ptr() in self._pinned
        if name == "_pin_memory" or kwargs.get("pin_memory"):
            return self._pin(args[0].clone() if tensors else func(*args, **{**kwargs, "pin_memory": False}))
        if name == "copy_" and is_on_gpu and not all(isinstance(each, OnGpu) for each in tensors):
            return self._transfer(*args[:2], non_blocking=any(args[2:]))
        if name == "_to_copy" and to is not None and (to.type == "cuda") != is_on_gpu:
            return self._moved(args[0], **kwargs)
        if name in {"_local_scalar_dense", "nonzero", "equal"} and is_on_gpu:
            self.record_event().synchronize()
        if to is not None and to.type == "cuda":
            kwargs["device"], is_on_gpu = "cpu", True
        if not is_on_gpu:
            return func(*args, **kwargs)
        assert all(isinstance(each, OnGpu) or not each.dim() for each in tensors), f"{func} of host and device"
        self._n_ops += 1
        wrapped = {id(each.numbers): each for each in tensors if isinstance(each, OnGpu)}
        found = func(*tree_map(_real, args), **tree_map(_real, kwargs))
        return tree_map(lambda each: wrapped.get(id(each), _on_gpu(each)), found)

    def _pin(self, made: torch.Tensor) -> torch.Tensor:
        if not self.can_pin:
            raise RuntimeError("CUDA error: out of memory")
        self._pinned.add(made.untyped_storage().data_ptr())
        return made

    def _moved(self, source: torch.Tensor, dtype: Any = None, non_blocking: bool = False, **_: Any) -> torch.Tensor:
        made = torch.empty_like(_real(source), dtype=dtype)
        if isinstance(source, OnGpu):
            return self._transfer(self._pin(made) if non_blocking else made, source, non_blocking)
        return self._transfer(OnGpu(made), source, non_blocking)

    def _transfer(self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        """Copy between host and device."""
        is_written = isinstance(source, OnGpu)
        host = target if is_written else source
        self._n_ops += 1
        if is_written:
            self._late.append((host, source.numbers.clone(), True))
            host.fill_(torch.nan)
        else:
            _real(target).copy_(source)
            self._late.append((host, source.clone(), False))
        # From and to memory that is not pinned the driver waits.
        if not non_blocking or host.untyped_storage().data_ptr() not in self._pinned:
            self.record_event().synchronize()
        return target


class Event:
    """A place in the queue."""

    def __init__(self, gpu: FakeGpu, n_late: int, n_ops: int) -> None:
        self._gpu, self._at = gpu, (n_late, n_ops)

    def synchronize(self) -> None:
        """Wait for it."""
        self._gpu.wait(*self._at)


def move(net: Any) -> None:
    """Move a network's parameters and buffers to the device that is active, in place."""
    for module in net.modules():
        for name, value in module._parameters.items():
            module._parameters[name] = None if value is None else nn.Parameter(OnGpu(value.detach()), False)
        for name, value in module._buffers.items():
            module._buffers[name] = None if value is None else OnGpu(value)


def compiled(net: nn.Module, **_: Any) -> Any:
    """In the place of torch.compile with CUDA graphs: each call overwrites the outputs of the one before."""
    memory: list[OnGpu] = []

    def replay(tiles: torch.Tensor) -> list[OnGpu]:
        found = net(tiles)[:2]
        if not memory:
            memory.extend(found)
        for kept, each in zip(memory, found, strict=True):
            kept.numbers.copy_(each.numbers)
        return memory

    return replay


def _real(value: Any) -> Any:
    return value.numbers if isinstance(value, OnGpu) else value


def _on_gpu(value: Any) -> Any:
    return OnGpu(value) if isinstance(value, torch.Tensor) else value
