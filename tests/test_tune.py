"""The search's arithmetic and decisions, on made-up races; the real one runs in the slow test."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.engines import registry
from harness.machine.accelerators import Device
from harness.measure.wire import Order, RaceOrder
from harness.plan.cases import Block, Case, Effort, Task
from harness.run import tune
from harness.run.bench import Prepared
from harness.run.tune import Outcome
from harness.schema import Sample
from harness.terminal import tuning_view
from tests.conftest import make_sample

CELLPOSE = registry.engine("cellpose3")


def rows(
    variant: str, *times_s: float, masks: tuple[str, ...] = ("identical",), block: int = 0
) -> list[dict[str, object]]:
    timed = [{"role": "tune", "status": "ok", "variant": variant, "block": block, "repetition": i, "elapsed_s": s}
             for i, s in enumerate(times_s)]  # fmt: skip
    return [{"role": "masks", "status": "ok", "variant": variant, "agreement": word} for word in masks] + timed


def test_the_worst_verdict_counts_and_ratios_are_of_calls_in_turn() -> None:
    found = tune.outcomes([*rows("stock", 4, 8, 4), *rows("fast", 2, 4, 2, masks=("identical", "close", "equivalent"))])
    assert [each.variant for each in found] == ["stock", "fast"]
    assert found[1].agreement == "close"
    assert found[1].speedup == pytest.approx(2)  # the machine wandered, as in the other
    assert not found[1].passes("equivalent")


def test_what_the_start_of_a_process_wrote_is_about_no_variant() -> None:
    cold = {"role": "cold", "status": "ok", "phase": "import", "elapsed_s": 9.0}
    assert tune.outcomes([cold, *rows("stock", 4)]) == tune.outcomes(rows("stock", 4))


@pytest.mark.parametrize(("processes", "known"), [(1, False), (2, False), (3, True)])
def test_an_interval_takes_three_processes(processes: int, known: bool) -> None:
    found = [rows(name, *times_s, block=block) for block in range(processes)
             for name, times_s in (("stock", (4 + block, 4.4 + block, 4.2)), ("fast", (2, 2, 2)))]  # fmt: skip
    fast = tune.outcomes([row for process in found for row in process])[1]
    assert (fast.low is not None, fast.n) == (known, 3 * processes)
    assert not known or fast.low < fast.speedup < fast.high


def test_a_round_that_is_missing_shifts_no_other() -> None:
    fast = rows("fast", 2, 4, 8)
    del fast[2]  # of the masks' row and three calls
    found = tune.outcomes([*rows("stock", 4, 8, 16), *fast])[1]
    assert (found.speedup, found.n) == (pytest.approx(2), 2)


def test_a_failure_is_told_and_never_passes() -> None:
    failed = {"role": "tune", "status": "crash", "variant": "bad", "error_message": "no"}
    bad = tune.outcomes([*rows("stock", 1), failed])[1]
    assert bad.note == "crash: no"
    assert not bad.passes("equivalent")


def test_a_faster_variant_with_other_masks_is_not_recommended() -> None:
    fast, same = Outcome("fast", "different", 9, 8, 10, 3), Outcome("same", "equivalent", 2, 1.9, 2.1, 3)
    assert tune._better("stock", [fast, same], "equivalent") == "same"
    assert tune._better("stock", [fast, same], "identical") == "stock"


def test_a_step_that_buys_next_to_nothing_is_left_out() -> None:
    assert tune._better("a", [Outcome("a", "identical", 2, 2, 2, 3), Outcome("a+b", "identical", 2.02, 2, 2, 3)],
                        "identical") == "a"  # fmt: skip


def test_what_this_backend_cannot_do_is_left_out_with_the_reason() -> None:
    tried, refused = tune.possible(CELLPOSE, ("bf16", "fp16"), {"lossless"}, "cpu")
    assert tried == ["lossless+bf16"]
    assert refused == ["lossless+fp16: fp16 is not for cpu; overflows at 65504"]


@pytest.mark.parametrize(
    ("best", "step", "tried"),
    [
        ("stock", "lossless", "lossless"),
        ("lossless+winograd", "batch=16", "lossless+winograd+batch=16"),
        ("lossless+winograd", "channels-last+compiled", "lossless+channels-last+compiled"),
        ("lossless+channels-last", "winograd", "lossless+winograd"),
        ("lossless+channels-last", "channels-last+folded", "lossless+channels-last+folded"),
    ],
)
def test_a_step_takes_the_place_of_what_it_contradicts(best: str, step: str, tried: str) -> None:
    assert tune.possible(CELLPOSE, (step,), {best}, "cpu") == ([tried], [])


class Machine:
    """Performs races with made-up durations: each variant takes a product of factors; processes have their luck."""

    def __init__(self, factors: dict[str, float], agreement: str = "identical") -> None:
        self.factors, self.agreement = factors, agreement
        self.orders: list[RaceOrder] = []
        self.rng = np.random.default_rng(4)

    def deliver(self, parcels: object) -> dict[str, str]:
        return {}

    def batches(self, orders: list[RaceOrder]) -> Iterator[list[Sample]]:
        for order in orders:
            self.orders.append(order)
            luck = math.exp(self.rng.normal(0, 0.1))
            for task in order.block.tasks:
                names = task.case.variant.split("+")
                time_s = luck * math.prod(self.factors.get(name, 1.0) for name in names)
                about = {"variant": task.case.variant, "block": order.block.index}
                if order.compares_masks:
                    yield [make_sample(**about, role="masks", agreement=self.agreement)]
                for i in range(order.block.effort.repeats):
                    elapsed_s = time_s * math.exp(self.rng.normal(0, 0.01))
                    yield [make_sample(**about, role="tune", repetition=i, elapsed_s=elapsed_s)]


Search = Callable[..., tuple[Machine, tune.Tuning]]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    def searched(factors: dict[str, float], agreement: str = "identical") -> tuple[Machine, tune.Tuning]:
        monkeypatch.setattr(tune.resume, "write", lambda *_: None)
        monkeypatch.setattr(tune.bench, "manifest_of", lambda *_: None)
        monkeypatch.setattr(
            tune.bench, "orders", lambda prepared, *_: [Order(block, "", "", "", {}) for block in prepared.blocks]
        )
        task = Task("timed", Case("64", 64, 64, "standard", model="sleep"), 0)
        block = Block(0, Device("cpu", 0, "a CPU"), (task,), Effort(0, 0, 1, 1, None, 0), engine="simulated")
        prepared = Prepared(SimpleNamespace(parcels=tuple), (), (block,))
        machine = Machine(factors, agreement)
        return machine, tune.search(prepared, machine, tmp_path, "equivalent", 60, lambda _: None)

    return searched


@pytest.mark.parametrize(
    ("factors", "answer"),
    [
        ({}, None),
        ({"fast": 0.5}, "fast"),
        ({"fast": 0.5, "batch=2": 0.8}, "batch=2+fast"),
        ({"batch=2": 0.8}, "batch=2"),
        ({"fast": 1.3, "slow": 1.2, "batch=2": 1.1}, None),
    ],
)
def test_a_search_keeps_what_each_part_of_it_proves(
    factors: dict[str, float], answer: str | None, search: Search
) -> None:
    machine, found = search(factors)
    for each in (found.identical, found.equivalent):
        assert (each.variant if each else None) == answer
        assert each is None or each.low > 1
    assert len({order.block.index for order in machine.orders}) == len(machine.orders)
    if answer:
        last = [order.compares_masks for order in machine.orders[-tune.FINAL_PROCESSES :]]
        assert last == [True, *[False] * (tune.FINAL_PROCESSES - 1)]


def test_masks_that_differ_are_no_answer_however_fast(search: Search) -> None:
    assert search({"fast": 0.5}, "different")[1].equivalent is None
    _, close = search({"fast": 0.5}, "equivalent")
    assert (close.identical, close.equivalent.variant) == (None, "fast")


def test_what_stays_of_a_lucky_guess_is_what_the_last_race_shows(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single races name both; the processes of the last one show that one of them does nothing."""
    monkeypatch.setattr(tune, "_better", lambda best, *_: {"stock": "fast", "fast": "batch=2+fast"}.get(best, best))
    machine, found = search({"fast": 0.5})
    assert found.identical.variant == "fast"
    races = [[task.case.variant for task in order.block.tasks] for order in machine.orders[:: tune.FINAL_PROCESSES]]
    assert races[-1] == ["stock", "fast"]


def test_what_can_be_had_without_this_package_is_written_out() -> None:
    text = tuning_view.snippet("lossless+channels-last+batch=16", "cyto3")
    assert "# a part of it, without cellbench:" in text
    assert "#     model.cp.net.mkldnn = False; model.cp.net.to(memory_format=torch.channels_last)" in text
    assert text.endswith("#     model.eval(…, batch_size=16)")
    text = tuning_view.snippet("threads=4", "cyto3")
    assert "# all of it, without cellbench:\n#     torch.set_num_threads(4); cv2" in text
    assert "without cellbench" not in tuning_view.snippet("lossless+winograd", "cyto3")


def test_the_snippet_names_the_winner_and_what_it_may_change() -> None:
    found = tune.Tuning("run", "cyto2", (), None, Outcome("lossless+plain", "equivalent", 2, 1.9, 2.1, 5), ("x: why",))
    output = tuning_view.text(found)
    assert "fastest with identical masks:  none is shown to be faster than stock" in output
    assert (
        "fastest with equivalent masks: lossless+plain, 2.00 times as fast (95 % interval 1.90 to 2.10, n = 5)"
        in output
    )
    assert 'models.Cellpose(model_type="cyto2")' in output
    assert 'accelerate(model, "lossless+plain")' in output
    assert "# plain: " in output
    assert "left out: x: why" in output


def cellbench(*words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        [sys.executable, "-m", "harness", *words], capture_output=True, text=True, check=False, env=environ
    )


@pytest.mark.slow
def test_masks_are_verified_and_the_gate_has_an_exit_code(tmp_path: Path) -> None:
    words = ("verify-masks", "--image", "dense", "--crop", "128", "--weights", "standin", "--out", str(tmp_path))
    good = cellbench(*words, "--variant", "lossless", "--gate", "identical", "--json")
    assert good.returncode == 0, good.stderr
    answer = json.loads(good.stdout)
    assert [row["crop"] for row in answer] == ["85", "85", "128", "128"]
    assert {row["agreement"] for row in answer} == {"identical"}
    assert max(row["n_cells"] for row in answer) > 3
    bad = cellbench(*words, "--variant", "lossless+diameter=60")
    assert bad.returncode == 5, bad.stdout + bad.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("tune", "--budget", "soon"), "no duration"),
        (("tune", "--gate", "similar"), "no gate"),
        (("tune", "--model", "cyto9"), "no model 'cyto9'"),
        (("throughput", "--model", "cyto9"), "no model 'cyto9'"),
        (("verify-masks", "--model", "sleep", "--variant", "lossless"), "unknown variant"),
        (("verify-masks", "--variant", "warp"), "unknown variant"),
        (("verify-masks", "--variant", "stock"), "name a variant"),
        (("verify-masks", "--variant", "fp16"), "not for cpu"),
    ],
)
def test_what_a_user_can_get_wrong(words: tuple[str, ...], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    from harness import cli

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["cellbench", *words])
        cli.main()
    assert ended.value.code == 2
    assert what in capsys.readouterr().err
