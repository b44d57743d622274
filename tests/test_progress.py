"""What the terminal says while a run goes on."""

import io
from dataclasses import replace
from functools import cache

import pytest
from rich.console import Console

from harness import images
from harness.engines.base import ModelFiles
from harness.fleet.driver.survey import Absent, member, versions_of
from harness.images import synthetic
from harness.machine.accelerators import Device
from harness.plan import blocks, config, estimate
from harness.run.bench import Material, Prepared
from harness.terminal.progress import Progress
from tests.conftest import make_sample

CPU = {"backend": "cpu", "index": 0, "name": "Some CPU"}


@cache
def sparse() -> images.Image:
    """Drawn small: the whole one takes a second."""
    pixels = synthetic.sparse(height_px=192, width_px=192, n_cells=4).image
    return images.Image("sparse", "sparse", pixels, images.hash_pixels(pixels), is_synthetic=True)


def prepared(*names: str, promised: dict[str, int] | None = None, **flags: object) -> Prepared:
    answer = {"devices": [CPU], "threads": 4, "versions": versions_of(), "facts": {}}
    members = tuple(member(answer, name, promised) for name in names)
    wanted = config.load("quick", {"crops": (64, 96), "blocks": 1, "repeats": 2, **flags})
    planned = blocks.blocks(wanted, 192, 192, [each.node for each in members])
    models = tuple(ModelFiles(name, "standin", (), {}) for name in wanted.models)
    return Prepared(Material(wanted, sparse(), models), members, planned)


def shown(answer: Prepared, samples: list[dict[str, object]], absent: tuple[Absent, ...] = ()) -> list[str]:
    out = io.StringIO()
    progress = Progress(answer, Console(file=out, width=200))
    progress.begin(absent)
    with progress:
        for sample in samples:
            progress.sample(sample)
    return out.getvalue().splitlines()


def case_rows(answer: Prepared, node: str, seconds: float) -> list[dict[str, object]]:
    """Two timed repetitions of every case of a node, in the order of its blocks."""
    return [
        make_sample(
            node=node, block=block.index, crop=case.crop, protocol=case.protocol, variant=case.variant,
            model=case.model, repetition=i,
            elapsed_s=seconds * (10 if case.variant != "stock" else 1), stop_reason="fixed_n" if i else None,
        )
        for block in answer.blocks
        if block.node == node
        for case in block.cases
        for i in range(2)
    ]  # fmt: skip


def test_one_machine_has_a_line_for_each_case() -> None:
    answer = prepared("desk")
    lines = [line for line in shown(answer, case_rows(answer, "desk", 1.0)) if line.startswith("cpu ")]
    assert {line.split(":")[0] for line in lines} == {"cpu 64 standard", "cpu 96 standard"}
    assert all("1 s (median of 2)" in line for line in lines)
    assert lines[-1].endswith("done")


def test_a_pass_is_told_once_however_many_rows_it_has() -> None:
    answer = prepared("desk", crops=(64,), passes=("stages", "memory"))
    case = answer.blocks[0].cases[0]
    same = {"crop": case.crop, "variant": case.variant, "protocol": case.protocol}
    rows = [make_sample(**same, node="desk", role=role, phase=phase, stop_reason=None)
            for role in ("stages", "memory") for phase in ("stage", "stage", "call") for _ in range(3)]  # fmt: skip
    lines = shown(answer, [*case_rows(answer, "desk", 1.0), *rows])
    assert [sum(f"standard: {name}" in line for line in lines) for name in ("stages", "memory")] == [1, 1]


def test_variants_of_a_crop_are_not_mixed() -> None:
    answer = prepared("desk", crops=(64,), variants=("stock", "lossless"))
    lines = [line for line in shown(answer, case_rows(answer, "desk", 1.0)) if line.startswith("cpu ")]
    assert {line.split(";")[0] for line in lines} == {
        "cpu 64 standard: 1 s (median of 2), 3 cells", "cpu 64 standard lossless: 10 s (median of 2), 3 cells"
    }  # fmt: skip


def test_lines_of_several_models_say_which_and_have_a_pace_of_their_own() -> None:
    answer = prepared("desk", crops=(64,), models=("cyto3", "sleep"))
    first, second = answer.blocks
    lines = shown(answer, case_rows(answer, "desk", 100.0))
    assert any("model cyto3, weights: standin; sleep, weights: standin" in line for line in lines)
    done = [line for line in lines if "median of" in line]
    assert [line.split(":")[0] for line in done] == [f"cpu {each.model} 64 standard" for each in (first, second)]
    guess_s = round(estimate.block_s(second))
    assert f"about {guess_s} s left" in done[0], "the other model's pace would tell of minutes"


def test_lines_of_several_nodes_say_which() -> None:
    answer = prepared("desk", "mac")
    lines = shown(answer, [*case_rows(answer, "desk", 1.0), *case_rows(answer, "mac", 2.0)])
    assert any("4 cases" in line and "2 devices on 2 nodes" in line for line in lines)
    assert {line.split(" cpu ")[0] for line in lines if "median of" in line} == {"desk", "mac"}


def test_who_cannot_do_what_was_hoped_is_said() -> None:
    answer = prepared("desk", promised={"mps": 1})
    old = replace(answer.members[0], versions={**answer.members[0].versions, "torch": "2.0.0"})
    lines = shown(replace(answer, members=(old,)), [], (Absent("mac", "its link was cut"),))
    assert "! mac is left out: its link was cut" in lines
    assert any(line.startswith("! desk is tagged for mps") for line in lines)
    assert any(line.startswith("! desk has other versions: torch 2.0.0 (here 2.") for line in lines)


@pytest.mark.parametrize("status", ["oom_device", "node_lost"])
def test_a_failure_is_said_with_its_reason(status: str) -> None:
    answer = prepared("desk")
    crop = answer.blocks[0].cases[0].crop
    [line] = [
        line
        for line in shown(answer, [make_sample(crop=crop, status=status, elapsed_s=None, error_message="why [x]")])
        if "why" in line
    ]
    assert f"cpu {crop} standard: {status}: why [x]" in line


def test_cases_that_would_take_too_long_are_named_with_the_way_to_measure_them() -> None:
    out = (blocks.LeftOut("desk", Device("cpu", 0, "CPU"), "cpsam_v2", ("1344", "full"), 720.0),)
    [line] = [line for line in shown(replace(prepared("desk"), left_out=out), []) if "left out" in line]
    assert "cpsam_v2 on cpu of desk: 1344,full px" in line
    assert "about 12 min or more" in line
    assert line.endswith("--crops 1344,full")
    assert not any("left out" in line for line in shown(prepared("desk"), []))
