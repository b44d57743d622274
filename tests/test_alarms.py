from pathlib import Path
from typing import Any

import pytest

from harness import schema
from harness.errors import CellbenchError
from harness.judge import alarms, annotations, history
from harness.judge.alarms import Watch
from harness.query import Session
from tests import nights

STEADY = [1.00, 1.01, 0.99, 1.00, 1.02, 0.98, 1.00, 1.01]


def series(levels: list[float], **columns: Any) -> list[schema.Sample]:
    return [row for i, x in enumerate(levels) for row in nights.timed(nights.run_id(i), [x, 1.01 * x], **columns)]


def look(folder: Path, samples: list[schema.Sample], run_id: str | None = None) -> Watch:
    store = nights.store(folder, samples)
    return alarms.look(Session(store), annotations.read(store.root), run_id)


def test_a_slowdown_is_suspected_then_confirmed_with_what_changed(tmp_path: Path) -> None:
    samples = series([*STEADY, 1.0, 1.0]) + series([*STEADY], crop="448")
    for night, version in ((8, "560"), (7, "550")):
        samples += nights.timed(nights.run_id(night), [1.0], {"gpu_driver_version": version}, crop="64")
    samples += [row for i in (8, 9) for row in nights.timed(nights.run_id(i), [1.3, 1.31], crop="448")]
    early = look(tmp_path, samples, nights.run_id(8))
    assert [(each.series.selector, each.confirmed) for each in early.suspects] == [("desk/cpu/448", None)]
    found = look(tmp_path, samples)
    [alarm] = found.alarms
    assert (alarm.word, alarm.began, alarm.confirmed) == ("slower", nights.run_id(8), nights.run_id(9))
    assert alarm.value / alarm.usual == pytest.approx(1.3, rel=0.01)
    assert alarm.differences == [("desk", "gpu_driver_version", "550", "560")]
    assert found.suspects == ()
    assert alarm.series.id == early.suspects[0].series.id


def test_pooled_repetitions_are_no_history(tmp_path: Path) -> None:
    """A run counts once, with the median of its blocks' medians."""
    found = look(tmp_path, series(STEADY))
    [times] = [each for each in found.series if each.metric == history.TIME]
    assert [point.value for point in times.points] == pytest.approx([1.005 * x for x in STEADY])


def test_masks_memory_and_improvements_are_watched(tmp_path: Path) -> None:
    samples = series([*STEADY, 0.7, 0.7])
    samples += [row for night in range(10) for row in nights.timed(
        nights.run_id(night), [2.0], crop="448", mask_sha256=("a" if night < 8 else "b") * 64, n_cells=9 + (night > 7),
    )]  # fmt: skip
    samples += [nights.memory(nights.run_id(i), 1_000_000 if i < 8 else 1_500_000) for i in range(10)]
    words = {
        (each.series.last.place["crop"], each.word, each.is_improvement) for each in look(tmp_path, samples).alarms
    }
    assert words == {("224", "faster", True), ("448", "masks changed", False), ("224", "more memory", False)}


def test_an_accepted_change_starts_a_new_baseline(tmp_path: Path) -> None:
    samples = series([*STEADY, *[1.3] * 7])
    found = look(tmp_path, samples)
    with pytest.raises(CellbenchError, match="no alarm zz"):
        alarms.accept(found, ["zz"], "why")
    annotations.add(tmp_path, alarms.accept(found, [found.alarms[0].series.id[:4]], "torch 2.14"))
    after = look(tmp_path, samples)
    assert after.alarms == ()
    [times] = [each for each in after.series if each.metric == history.TIME]
    assert [point.judged.state for point in times.points][8:] == ["learning"] * 5 + ["usual"] * 2
    assert times.accepted[nights.run_id(8)].why == "torch 2.14"


def test_accept_all_takes_every_alarm(tmp_path: Path) -> None:
    found = look(tmp_path, series([*STEADY, 1.3, 1.3]) + series([*STEADY, 1.3, 1.3], crop="448"))
    assert len(alarms.accept(found, ["all"], "why")) == 2


def test_a_noisy_series_is_listed(tmp_path: Path) -> None:
    found = look(tmp_path, series([1, 2, 1, 3, 1, 2, 1, 2, 9, 9]))
    assert (len(found.noisy), found.alarms, found.suspects) == (1, (), ())


def test_a_gap_is_named_with_its_reason_and_a_re_run_is_none(tmp_path: Path) -> None:
    samples = [row for i in range(3) for crop in ("224", "448", "896") for row in nights.timed(
        nights.run_id(i), [1.0], crop=crop)]  # fmt: skip
    last = nights.run_id(3)
    samples += nights.timed(last, [1.0], crop="224")
    samples.append(
        nights.make_sample(
            run_id=last, crop="448", elapsed_s=None, status="crash", started_at=samples[-1]["started_at"]
        )
    )
    found = look(tmp_path, samples)
    assert [(gap.selector, gap.why) for gap in found.gaps] == [("desk/cpu/448", "crash"), ("desk/cpu/896", "absent")]
    samples += nights.timed(nights.run_id(3, again=30), [1.0], crop="224")
    assert look(tmp_path, samples).gaps == found.gaps


def test_another_profile_makes_no_gaps(tmp_path: Path) -> None:
    samples = series([1.0, 1.0]) + nights.timed(nights.run_id(5), [1.0], crop="448", profile="thorough")
    assert look(tmp_path, samples).gaps == ()


def test_new_software_does_not_split_a_series_but_threads_do(tmp_path: Path) -> None:
    samples = series([1.0, 1.0], torch_version="2.12")
    samples += nights.timed(nights.run_id(2), [1.0], torch_version="2.13")
    samples += nights.timed(nights.run_id(3), [2.0], torch_threads=4)
    counts = sorted(len(each.points) for each in look(tmp_path, samples).series if each.metric == history.TIME)
    assert counts == [1, 3]


def test_asking_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="no results"):
        look(tmp_path / "empty", [])
    with pytest.raises(CellbenchError, match="no run nope"):
        look(tmp_path, series([1.0]), "nope")
