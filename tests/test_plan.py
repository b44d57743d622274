import dataclasses

import pytest

from harness.engines import registry
from harness.engines.cellpose3 import catalogue
from harness.errors import CellbenchError
from harness.machine.accelerators import Device
from harness.plan import blocks, config, estimate
from harness.plan.cases import Block, Node, control

CPU, CUDA0, CUDA1 = Device("cpu", 0, "CPU"), Device("cuda", 0, "A"), Device("cuda", 1, "B")
HAVE = (CUDA0, CUDA1, CPU)
DESK, MAC = Node("desk", HAVE, 4), Node("mac", (Device("mps", 0, "M1"), CPU), 8)


def planned(**flags: object) -> tuple[Block, ...]:
    chosen = {"crops": (224, 448, 896), "blocks": 1, **flags}
    return blocks.blocks(config.load("quick", chosen), 2160, 2560, [DESK])


def test_every_device_gets_every_case_once_per_block() -> None:
    made = planned(crops=(224, "full"), protocols=("standard", "article"), blocks=2)
    assert len(made) == 2 * len(HAVE)
    for block in made:
        assert sorted((c.crop, c.height_px, c.width_px, c.protocol) for c in block.cases) == [
            ("224", 224, 224, "article"),
            ("224", 224, 224, "standard"),
            ("full", 2160, 2560, "article"),
            ("full", 2160, 2560, "standard"),
        ]


def test_the_control_case_is_first_and_last() -> None:
    for block in planned(control=True, blocks=2):
        roles = [(task.role, task.position) for task in block.tasks]
        assert roles == [("control", -1), ("timed", 0), ("timed", 1), ("timed", 2), ("control", 3)]
        assert block.tasks[0].case == block.tasks[-1].case == control(block.cases[0])
    assert all(task.role == "timed" for block in planned(control=False) for task in block.tasks)


def test_passes_come_when_everything_has_been_timed_and_in_the_first_block_only() -> None:
    first, second = planned(
        crops=(224, 448), protocols=("standard", "article"), passes=("stages", "memory"), devices=("cpu",), blocks=2
    )[:: len(HAVE)]
    roles = [task.role for task in first.tasks]
    assert roles == ["timed"] * 4 + ["ceiling"] + ["stages", "memory"] * 2
    looked_at = [(task.case.crop, task.case.protocol) for task in first.tasks if task.role == "stages"]
    assert looked_at == [("224", "standard"), ("448", "standard")]
    assert {task.role for task in second.tasks} == {"timed"}


def test_the_order_is_shuffled_by_the_seed() -> None:
    crops = tuple(range(32, 320, 32))
    assert planned(crops=crops, seed=1) == planned(crops=crops, seed=1)
    orders = {tuple(c.crop for c in planned(crops=crops, seed=seed)[0].cases) for seed in range(5)}
    assert len(orders) == 5
    first, second = planned(crops=crops, blocks=2)[0], planned(crops=crops, blocks=2)[len(HAVE)]
    assert first.cases != second.cases


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [(("auto",), HAVE), (("cpu",), (CPU,)), (("cuda",), (CUDA0, CUDA1)), (("cuda:1", "cpu"), (CUDA1, CPU))],
)
def test_choose(choice: tuple[str, ...], chosen: tuple[Device, ...]) -> None:
    assert blocks.choose(choice, HAVE) == chosen


def test_a_device_that_is_not_there_is_an_error_that_names_what_is() -> None:
    with pytest.raises(CellbenchError, match=r"no device mps[\s\S]*cuda:0 \(A\)"):
        blocks.choose(("mps",), HAVE)


def test_tiles_are_those_that_cellpose_cuts() -> None:
    # Counted on the article's crops: style pass at scale 1, mask pass at 30/68.
    style = [4, 9, 16, 25, 49, 64, 81, 100, 121]
    assert [catalogue.n_tiles(side, side, 1.0) for side in range(224, 2017, 224)] == style
    assert [catalogue.n_tiles(side, side, 30 / 68) for side in range(224, 2017, 224)] == [1, 1, 4, 9, 9, 16, 16, 25, 25]
    assert catalogue.n_tiles(2160, 2560, 1.0) == 168
    assert catalogue.n_tiles(2160, 2560, 30 / 68) == 42


@pytest.mark.slow
def test_cellpose_agrees_about_the_tiles() -> None:
    import numpy as np
    from cellpose import transforms

    for length_px in (193, 208, 209, 224, 448, 900):
        canvas = np.zeros((1, 16 * -(-length_px // 16) + 16, 16 * -(-length_px // 16) + 16), np.float32)
        tiles = transforms.make_tiles(canvas, bsize=224, augment=False, tile_overlap=0.1)[0]
        assert tiles.shape[0] * tiles.shape[1] == catalogue.n_tiles(length_px, length_px, 1.0)


def test_more_work_takes_longer() -> None:
    small, large = planned(crops=(224,)), planned(crops=(2016,))
    assert estimate.estimate_s(small) < estimate.estimate_s(large)
    cpu_only = [b for b in large if b.device == CPU]
    assert estimate.estimate_s([dataclasses.replace(b, threads=16) for b in cpu_only]) < estimate.estimate_s(cpu_only)


def test_nodes_work_side_by_side() -> None:
    both = blocks.blocks(config.load("quick"), 2160, 2560, [DESK, MAC])
    alone = [estimate.estimate_s([b for b in both if b.node == name]) for name in ("desk", "mac")]
    assert estimate.estimate_s(both) == max(alone)


def test_every_node_gets_blocks_for_its_own_devices_and_threads() -> None:
    both = blocks.blocks(config.load("quick", {"blocks": 1}), 2160, 2560, [DESK, MAC])
    assert sorted((b.node, b.device.id, b.threads) for b in both) == [
        ("desk", "cpu", 4), ("desk", "cuda:0", 4), ("desk", "cuda:1", 4), ("mac", "cpu", 8), ("mac", "mps", 8),
    ]  # fmt: skip


def test_a_device_is_measured_where_it_is() -> None:
    chosen = blocks.choose_on(("cuda", "cpu"), [DESK, MAC])
    assert [(n.name, [d.id for d in n.devices]) for n in chosen] == [
        ("desk", ["cuda:0", "cuda:1", "cpu"]), ("mac", ["cpu"])
    ]  # fmt: skip
    assert [n.name for n in blocks.choose_on(("mps",), [DESK, MAC])] == ["mac"]
    with pytest.raises(CellbenchError, match=r"no device mps on desk[\s\S]*it has: cuda:0 \(A\), cuda:1 \(B\), cpu"):
        blocks.choose_on(("mps",), [DESK])


@pytest.mark.parametrize(
    ("only", "left"),
    [
        (("mac/*/*",), {("mac", "cpu", "448"), ("mac", "cpu", "224"), ("mac", "mps", "448"), ("mac", "mps", "224")}),
        (
            ("*/cuda:*/224", "mac/mps/448"),
            {("desk", "cuda:0", "224"), ("desk", "cuda:1", "224"), ("mac", "mps", "448")},
        ),
    ],
)
def test_only_some_cases(only: tuple[str, ...], left: set[tuple[str, str, str]]) -> None:
    made = blocks.blocks(config.load("quick", {"crops": (224, 448), "only": only}), 2160, 2560, [DESK, MAC])
    assert {(b.node, b.device.id, case.crop) for b in made for case in b.cases} == left


def test_nothing_left_to_measure_is_an_error() -> None:
    with pytest.raises(CellbenchError, match="no case is called"):
        planned(only=("nobody/*/*",))


def test_patience_is_longer_than_any_guess() -> None:
    for block in planned(crops=("full",), passes=("masks",)):
        for task in block.tasks:
            assert estimate.patience_s(block, task) > 20 * estimate.call_s(task.case, block.device, block.threads)


def test_plans_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        planned()[0].index = 3  # type: ignore[misc]


def test_the_profile_s_threads_win_over_the_node_s_cores() -> None:
    assert {block.threads for block in planned()} == {4}
    assert {block.threads for block in planned(threads=3)} == {3}


def test_variants_are_cases_of_their_own() -> None:
    cases = planned(crops=(64,), variants=("stock", "lossless+plain"))[0].cases
    assert {case.variant for case in cases} == {"stock", "lossless+plain"}


# ---------------------------------------------------------------- models

SEVERAL = ("cyto3", "cyto2", "sleep")


def test_each_device_gets_a_block_for_each_model_and_each_has_its_control() -> None:
    made = planned(crops=(64, 96), models=SEVERAL, blocks=2, control=True, passes=("memory",))
    for device in HAVE:
        of_device = [block for block in made if block.device == device]
        assert [block.index for block in of_device] == list(range(2 * len(SEVERAL))), "each has a number of its own"
        for round_ in (of_device[: len(SEVERAL)], of_device[len(SEVERAL) :]):
            assert {block.model for block in round_} == set(SEVERAL)
        with_passes = [block.index for block in of_device if block.tasks[-1].role == "memory"]
        assert with_passes == list(range(len(SEVERAL))), "once a model, after the first times"
    for block in made:
        assert {task.case.model for task in block.tasks} == {block.model}
        assert block.engine == registry.engine_of(block.model).name
        assert {case.crop for case in block.cases} == {"64", "96"}
        assert [task.role for task in block.tasks].count("control") == 2


@pytest.mark.parametrize("model", [each.name for name in registry.names() for each in registry.engine(name).models])
def test_passes_that_an_engine_does_not_have_are_left_out(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = registry.engine_of(model)
    monkeypatch.setattr(type(engine), "passes", frozenset({"memory"}))
    roles = {task.role for block in planned(models=(model,), passes=("stages", "memory")) for task in block.tasks}
    assert roles & {"stages", "ceiling", "memory"} == {"memory"}


@pytest.mark.parametrize("model", ["cyto3", "cyto2", "nuclei"])
def test_the_work_is_that_of_the_size_that_a_model_was_trained_on(model: str) -> None:
    trained_px = {"cyto3": 30, "cyto2": 30, "nuclei": 17}[model]
    work = registry.engine_of(model).work(model, 900, 900, 60.0)
    assert work.n_tiles == catalogue.n_tiles(900, 900, 1.0) + 2 * catalogue.n_tiles(900, 900, trained_px / 60)


def test_a_variant_is_spelled_as_each_model_s_engine_has_it() -> None:
    made = planned(crops=(64,), models=("cyto3", "sleep"), variants=("batch=8", "batch=016"))
    spelled = {block.model: {case.variant for case in block.cases} for block in made}
    assert spelled == {"cyto3": {"stock", "batch=16"}, "sleep": {"batch=8", "batch=16"}}, "8 is stock's own for cyto3"


# ---------------------------------------------------------------- what a profile leaves out


@pytest.mark.parametrize("profile", ["quick", "article", "thorough"])
def test_built_in_profiles_leave_out_calls_of_many_minutes(profile: str) -> None:
    chosen = config.load(profile, {"models": ("cyto3", "cpsam_v2"), "devices": ("cpu",), "dtypes": ("float32",)})
    slow = [Node("old", (CPU,), 1)]
    made, out = (of(chosen, 2160, 2560, slow) for of in (blocks.blocks, blocks.left_out))
    limit_s = chosen.call_seconds_max
    assert limit_s is not None
    calls_s = {
        (case.model, case.crop): estimate.call_s(case, CPU, 1) for block in made for case in block.cases
    }  # fmt: skip
    assert max(calls_s.values()) <= limit_s
    assert {each.model for each in out} >= {"cpsam_v2"}
    for each in out:
        assert each.call_s > limit_s
        sizes = {crop for model, crop in calls_s if model == each.model} | {*each.crops}
        assert sizes == {str(crop) for crop in chosen.crops}


def test_sizes_that_a_user_asks_for_are_measured_however_long_they_take() -> None:
    chosen = config.load("article", {"models": ("cpsam_v2",), "crops": ("full",)})
    assert blocks.left_out(chosen, 2160, 2560, [DESK]) == ()
    assert {case.crop for block in blocks.blocks(chosen, 2160, 2560, [DESK]) for case in block.cases} == {"full"}
