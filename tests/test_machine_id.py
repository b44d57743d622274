"""Which machine it is, whatever its name: from recorded files and commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.machine import machine_id
from tests import recorded

OWN = "4c4c4544003710588051b2c04f4d3032"
BOARD = "4C4C4544-0037-1058-8051-B2C04F4D3032"
GPUS = ["GPU-5f0b1c2d-0000-1111-2222-333344445555", "GPU-6f0b1c2d-0000-1111-2222-333344445555"]
ID, PRODUCT = "etc/machine-id", "sys/class/dmi/id/product_uuid"


@pytest.mark.parametrize(
    ("files", "own"),
    [
        ({ID: OWN}, OWN),
        ({ID: OWN, PRODUCT: "00000000-0000-0000-0000-0000000000aa"}, OWN),
        ({PRODUCT: BOARD}, OWN),
        ({ID: "uninitialized", PRODUCT: BOARD}, OWN),
        ({ID: ""}, None),
        ({PRODUCT: "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"}, None),
        ({PRODUCT: "03000200-0400-0500-0006-000700080009"}, None),
        # The file of an image is the same in all containers that are made from it, wherever they run.
        ({ID: OWN, **recorded.CONTAINER}, None),
        ({ID: "1" * 32, PRODUCT: BOARD, **recorded.CONTAINER}, OWN),
        ({}, None),
    ],
)
def test_the_id_that_linux_or_the_board_has(tmp_path: Path, files: Mapping[str, str], own: str | None) -> None:
    assert machine_id.own_id(recorded.linux(tmp_path, files)) == own


def test_a_mac_has_an_id_too(tmp_path: Path) -> None:
    assert machine_id.own_id(recorded.mac(recorded.MAC, tmp_path)) == "6b29fc40ca471067b31d00dd010662da"
    assert machine_id.own_id(recorded.mac({}, tmp_path)) is None


def test_an_id_tells_machines_apart_and_nothing_else() -> None:
    same = machine_id.machine_id(OWN, GPUS)
    assert machine_id.machine_id(OWN, reversed(GPUS)) == same
    others = {machine_id.machine_id(OWN), machine_id.machine_id(OWN, GPUS[:1]), machine_id.machine_id(None, GPUS),
              machine_id.machine_id("0" * 31 + "1", GPUS)}  # fmt: skip
    assert len(others | {same}) == 5
    assert machine_id.machine_id(None) is None
    for made in others | {same}:
        assert re.fullmatch("[0-9a-f]{16}", made)
        assert made not in "".join([OWN, *GPUS])


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("avx2 fma avx512f avx512_vnni avx512_bf16 avx_vnni amx_tile amx_bf16 amx_int8", "avx512+bf16+amx"),
        ("avx2 fma", "avx2"),
        ("asimd", "neon"),
        ("asimd bf16 i8mm sve sve2", "sve2+bf16+i8mm"),
        ("none", "none"),
        (None, None),
    ],
)
def test_instruction_sets_in_short(words: str | None, short: str | None) -> None:
    assert machine_id.instruction_set(words) == short


@pytest.mark.parametrize(
    ("machine", "instruction_set", "quota"),
    [("LAPTOP", "avx2", None), ("SERVER", "avx512+bf16+amx", 2.5), ("CONTAINER", "avx2", None),
     ("ARM", "neon+bf16+i8mm", None)],
)  # fmt: skip
def test_the_columns_of_recorded_machines(
    tmp_path: Path, machine: str, instruction_set: str, quota: float | None
) -> None:
    answer = machine_id.columns(recorded.linux(tmp_path, getattr(recorded, machine)), [])
    assert (answer["instruction_set"], answer["cpu_quota_cores"]) == (instruction_set, quota)


def test_the_columns_of_a_mac(tmp_path: Path) -> None:
    answer = machine_id.columns(recorded.mac(recorded.MAC, tmp_path), [])
    assert (answer["instruction_set"], answer["cpu_quota_cores"], len(answer["machine_id"])) == ("neon", None, 16)
