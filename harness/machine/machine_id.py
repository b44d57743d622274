"""The identity of a machine without its name: an id, its processor's instruction sets, its quota."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Any

from harness.machine import linux, macos, nvidia, virtualization
from harness.machine.probe_io import Sources

# Instruction sets in short, by the kernel's words; of each line the first that is there, others add to it.
SETS = (
    {"avx512f": "avx512", "avx2": "avx2", "sve2": "sve2", "sve": "sve", "asimd": "neon"},
    {"avx512_bf16": "bf16", "bf16": "bf16"},
    {"i8mm": "i8mm"},
    {"amx_tile": "amx"},
    {"sme": "sme"},
)
# An id that was never set: firmware that was never given one, images before their first start.
UNSET = re.compile(r"(uninitialized|0*|f*|03000200040005000006000700080009)")


def columns(sources: Sources | None = None, gpu_uuids: Collection[str] | None = None) -> dict[str, Any]:
    """The columns of a sample that identify the machine; null where they are unknown."""
    sources = sources or Sources()
    here = macos if sources.system == "darwin" else linux
    found = nvidia.uuids() if gpu_uuids is None else gpu_uuids
    return {
        "machine_id": machine_id(own_id(sources), found),
        "instruction_set": instruction_set(here.instructions(sources)),
        "cpu_quota_cores": None if here is macos else virtualization.cpu_limit(sources),
    }


def machine_id(own: str | None, gpu_uuids: Collection[str] = ()) -> str | None:
    """16 hex digits from a machine's own id and its GPUs, neither of which can be read from them; None without both.

    Copies of one disk share the machine's id and differ in their GPUs, so another GPU makes another machine.
    """
    ids = [*([own] if own else []), *sorted(gpu_uuids)]
    return hashlib.sha256(" ".join(["cellbench", *ids]).encode()).hexdigest()[:16] if ids else None


def own_id(sources: Sources) -> str | None:
    """The id that the system or the board has, in lower-case hex digits; None where there is no reliable one."""
    if sources.system == "darwin":
        text = sources.run(["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]) or ""
        found = re.search(r'"IOPlatformUUID" = "([^"]+)"', text)
        return _plain(found[1]) if found else None
    board = _plain(sources.text("sys/class/dmi/id/product_uuid"))  # only root may read it
    if virtualization.container(sources) not in ("none", None):
        return board  # a container's machine-id is that of its image, the same on every machine
    return _plain(sources.text("etc/machine-id")) or board


def instruction_set(words: str | None) -> str | None:
    """The fact cpu_instructions in short: 'avx512+bf16+amx', 'neon', or 'none'; None where it is unknown."""
    if words is None:
        return None
    have = set(words.split())
    chosen = (next((short for word, short in line.items() if word in have), None) for line in SETS)
    return "+".join(short for short in chosen if short) or "none"


def _plain(text: str | None) -> str | None:
    bare = (text or "").strip().lower().replace("-", "")
    return None if UNSET.fullmatch(bare) else bare
