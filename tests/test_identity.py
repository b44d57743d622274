"""One identity: for every column, where two rows that differ in it are pooled, divided, ranked or told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from harness import schema
from harness.judge import compare, history, selection
from harness.query import Session
from harness.query.named import QUERIES
from harness.report import narrative
from harness.results import speedups, tables
from harness.results.formatting import series_namer
from harness.results.scope import Scope
from harness.results.tables import Tables
from harness.schema import identity
from tests import nights
from tests.conftest import make_sample

CPU = {"backend": "cpu", "device": "cpu", "device_name": "Some CPU"}
GPU = {"backend": "cuda", "device": "cuda:0", "device_name": "Some GPU"}
HERE = {
    "machine_id": "a" * 16, "instruction_set": "avx512", "cpu_quota_cores": 2.0, "arch": "x86_64",
    "size_model_sha256": "4" * 64, "source": "measured",
}  # fmt: skip
OLD = {"schema_version": 3, "engine": None, "engine_version": None, "dtype": None, "result_variant": None,
       "machine_id": None, "workload": "cellpose"}  # fmt: skip

# Where two rows may be taken together. Two rows of one run: one median, one name in a figure. A CPU and a GPU of one
# run: divided by views, macro and results, and in the headline. One row in each of two runs: divided by the macro,
# judged, one series (of history and alarms). A CPU and a GPU in different runs: ranked with each other.
PLACES = (
    "median", "name", "speedups", "compare_devices", "results", "headline", "compare", "judged", "series", "ranked",
)  # fmt: skip
ALL = set(PLACES)
NOT_STOCK = ALL - {"ranked"}
OVER_TIME = {"compare", "judged", "series", "ranked"}
OTHER_WORK: set[str] = set()
OTHER_SIZE = {"name"}  # the sizes of one series are points of one line
OTHER_MACHINE = {"judged", "ranked"}  # on purpose
OTHER_DEVICE = {"speedups", "compare_devices", "results", "headline", "judged", "ranked"}


@dataclass(frozen=True)
class Pair:
    """Two rows: what both have, what the second has instead, and the places where they are taken together."""

    both: dict[str, Any]
    second: dict[str, Any]
    together: set[str]


def one(column: str, value: object, together: set[str]) -> tuple[str, Pair]:
    return column, Pair({}, {column: value}, together)


PAIRS = dict([
    one("source", "imported", OTHER_WORK), one("workload", "cellpose", OTHER_WORK), one("engine", "x", OTHER_WORK),
    one("model", "cyto2", OTHER_WORK), one("weights", "published", OTHER_WORK),
    one("weights_sha256", "9" * 64, OTHER_WORK), one("size_model_sha256", "9" * 64, OTHER_WORK),
    one("image_sha256", "9" * 64, OTHER_WORK), one("crop", "448", OTHER_SIZE), one("height_px", 448, OTHER_SIZE),
    one("width_px", 448, OTHER_SIZE), one("diameter_asked_px", 30.0, OTHER_WORK),
    one("result_variant", "overlap=0.3", OTHER_WORK), one("protocol", "article", OTHER_WORK),
    one("protocol_version", 2, OTHER_WORK),
    one("variant", "bf16", {"judged"}), one("torch_threads", 4, {"judged", "ranked"}),
    one("batch_size", 16, {"ranked"}), one("dtype", "bfloat16", {"ranked"}),
    one("machine_id", "b" * 16, OTHER_MACHINE), one("instruction_set", "avx2", OTHER_MACHINE),
    one("cpu_model", "Other CPU", OTHER_MACHINE), one("n_cores", 4, OTHER_MACHINE),
    one("cpu_quota_cores", 0.5, OTHER_MACHINE), one("arch", "aarch64", OTHER_MACHINE),
    one("backend", "mps", OTHER_DEVICE), one("device", "cuda:1", OTHER_DEVICE),
    one("device_name", "Other", OTHER_DEVICE),
    one("node", "renamed", OVER_TIME),
    one("engine_version", "9", OVER_TIME), one("torch_version", "9", OVER_TIME),
    one("cellpose_version", "9", OVER_TIME),
    # no part of the identity
    one("profile", "thorough", ALL), one("image", "renamed.tif", ALL), one("numpy_version", "9", ALL),
    one("run_id", "later", OVER_TIME),
    # names that stand for what is not known
    ("node without an id", Pair({"machine_id": None}, {"node": "other"}, OTHER_MACHINE)),
    ("image without pixels", Pair({"image_sha256": None}, {"image": "other.tif"}, OTHER_WORK)),
    # rows of older versions
    ("old: order of names", Pair({**OLD, "variant": "folded+plain"}, {"variant": "plain+folded"}, NOT_STOCK)),
    ("old: a number", Pair({**OLD, "variant": "batch=16"}, {"variant": "batch=016"}, NOT_STOCK)),
    ("old: a number that is stock's", Pair(OLD, {"variant": "batch=8"}, ALL)),
    ("old: another diameter", Pair(OLD, {"variant": "diameter=25"}, OTHER_WORK)),
    ("old: other threads", Pair(OLD, {"variant": "threads=2"}, {"judged"})),
    ("old: host", Pair(OLD, {"node": "other"}, OTHER_MACHINE)),
    ("old and new", Pair(OLD, {"schema_version": 4, "engine": "cellpose3", "dtype": "float32",
                               "result_variant": "stock"}, ALL)),
    ("old: simulated", Pair(OLD, {"workload": "simulated"}, OTHER_WORK)),
])  # fmt: skip
SETUPS = ("pool", "beside", "before", "after", "one", "other")
GROUPS = {"before": "apart", "after": "apart", "one": "rank", "other": "rank"}  # setups that share an image


def run_of(name: str, setup: str) -> str:
    return f"2026010{SETUPS.index(setup)}T000000Z-{list(PAIRS).index(name):06x}"


def row(name: str, setup: str, on: dict[str, Any], changes: dict[str, Any], elapsed_s: float) -> schema.Sample:
    """A row of a pair, in a run of its own on an image of its own, so that pairs do not meet."""
    image = f"{GROUPS.get(setup, setup)} {name}"
    hashed = {
        False: hashlib.sha256(image.encode()).hexdigest(),
        True: hashlib.sha256(f"{image} other".encode()).hexdigest(),
    }
    own = {"run_id": run_of(name, setup), "image": image, "image_sha256": hashed[False], "elapsed_s": elapsed_s}
    given = dict(changes)
    if given.get("run_id"):
        given["run_id"] = f"{own['run_id']}-{given['run_id']}"
    if given.get("image"):
        given["image"] = f"{image} {given['image']}"
    if given.get("image_sha256"):
        given["image_sha256"] = hashed[True]
    return make_sample(**HERE | on | own | given)


def rows(name: str) -> list[schema.Sample]:
    first, second = PAIRS[name].both, PAIRS[name].both | PAIRS[name].second
    gpu = {column: second.get(column, value) for column, value in GPU.items()}
    return [
        row(name, "pool", CPU, first, 1.0), row(name, "pool", CPU, second, 2.0),
        row(name, "beside", CPU, first, 1.0), row(name, "beside", gpu, second, 2.0),
        row(name, "before", CPU, first, 1.0), row(name, "after", CPU, second, 2.0),
        row(name, "one", CPU, first, 1.0), row(name, "other", gpu, second, 2.0),
    ]  # fmt: skip


@dataclass(frozen=True)
class Everything:
    """All pairs in one store."""

    session: Session
    data: Tables
    series: dict[str, int]
    ranks: list[dict[str, Any]]

    def part(self, setup: str, name: str) -> Tables:
        """The tables of one pair's rows."""

        def cut(table: pa.Table) -> pa.Table:
            return table.filter(pc.starts_with(table["run_id"], run_of(name, setup)))

        data = self.data
        return replace(
            data, medians=cut(data.medians), speedups=cut(data.speedups), processes=cut(data.processes), published=None
        )

    def runs(self, setup: str, name: str) -> list[str]:
        return sorted({each["run_id"] for each in self.part(setup, name).cases})


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    session = Session(nights.store(tmp_path_factory.mktemp("store"), [each for name in PAIRS for each in rows(name)]))
    runs = session.table("SELECT DISTINCT run_id FROM samples ORDER BY run_id")["run_id"].to_pylist()
    data = tables.load(session, Scope("", "", tuple(runs), "true"), with_published=False)
    series = {}
    for each in history.read(session, [], runs[-1]):
        if each.metric == history.TIME:
            series |= {point.run_id: len(each.points) for point in each.points}
    fastest = QUERIES["fastest-device"].sql.replace("SELECT", "SELECT run_id,", 1)
    with session.holding("medians", "true"):
        yield Everything(session, data, series, session.table(fastest, px=None).to_pylist())


def median(store: Everything, name: str) -> bool:
    return len(store.part("pool", name).cases) == 1


def name_(store: Everything, name: str) -> bool:
    cases = store.part("pool", name).cases
    return len({series_namer(cases)(case) for case in cases}) == 1


def speedups_view(store: Everything, name: str) -> bool:
    return bool(store.part("beside", name).speedup_rows)


def compare_devices(store: Everything, name: str) -> bool:
    devices = {case["device"] for case in store.part("beside", name).cases} - {"cpu"}
    sql = "SELECT * FROM compare_devices('cpu', $device) WHERE run_id = $run"
    run = store.runs("beside", name)[0]
    return any(store.session.table(sql, device=device, run=run).num_rows for device in devices)


def results(store: Everything, name: str) -> bool:
    return bool(speedups.intervals(store.part("beside", name)))


def headline(store: Everything, name: str) -> bool:
    return "times" in narrative.headline(store.part("beside", name))


def compare_macro(store: Everything, name: str) -> bool:
    a, b = store.runs("before", name), store.runs("after", name)
    found = store.session.table("SELECT ratio FROM compare($a, $b)", a=a[0], b=b[0])
    return any(ratio is not None for ratio in found["ratio"].to_pylist())


def judged(store: Everything, name: str) -> bool:
    sides = [
        selection.side(store.session, run, "run_id = $p0", {"p0": run})
        for setup in ("before", "after") for run in store.runs(setup, name)
    ]  # fmt: skip
    return any(case.found for case in compare.compare(*sides).cases)


def series(store: Everything, name: str) -> bool:
    return all(store.series[run] == 2 for setup in ("before", "after") for run in store.runs(setup, name))


def ranked(store: Everything, name: str) -> bool:
    runs = (run_of(name, "one"), run_of(name, "other"))
    times = [each["times_the_least"] for each in store.ranks if each["run_id"].startswith(runs)]
    return len(times) == 2 and max(times) > 1


CHECKS: dict[str, Callable[[Everything, str], bool]] = {
    "median": median, "name": name_, "speedups": speedups_view, "compare_devices": compare_devices, "results": results,
    "headline": headline, "compare": compare_macro, "judged": judged, "series": series, "ranked": ranked,
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_where_two_rows_are_taken_together(everything: Everything, name: str) -> None:
    assert {place for place, check in CHECKS.items() if check(everything, name)} == PAIRS[name].together


def test_no_column_of_the_identity_is_forgotten() -> None:
    assert set(identity.CASE) <= PAIRS.keys()


@pytest.mark.parametrize("column", [name for name in identity.CASE if schema.ARROW.field(name).type == pa.float64()])
def test_values_that_are_no_numbers_do_not_split_a_case(column: str) -> None:
    rows = [{column: float("nan")}, {column: float("nan")}, {column: None}]
    assert len(identity.grouped(rows, lambda row: identity.values(row, identity.CASE))) == 1
    assert len({identity.key(row, identity.CASE) for row in rows}) == 1
