"""The real command in its own process: what it prints, where, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tifffile

from harness.images import synthetic
from tests.conftest import RUN_ID, make_sample, make_store

COMMAND = Path(sys.executable).with_name("cellbench")


def cellbench(*words: object, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, words)], capture_output=True, text=True, cwd=cwd, input=stdin, check=False, timeout=300
    )


def refused(*words: object, out: Path) -> str:
    """What a command that must be refused says; it exits with 2, prints nothing on stdout and writes nothing."""
    done = cellbench(*words, "--out", out)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not out.exists()
    return done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "my cells.tif"
    tifffile.imwrite(path, synthetic.sparse(height_px=128, width_px=160, n_cells=3).image)
    return path


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from harness import cli; sys.argv = ['cellbench', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'cellpose', 'altair', 'duckdb', 'scipy', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("run", "show", "list", "query", "chart", "report"):
        assert command in done.stdout


@pytest.mark.parametrize("words", [["frobnicate"], ["run", "--frobnicate"], ["query"], ["node", "start"]])
def test_usage_errors_exit_with_2(words: list[str]) -> None:
    done = cellbench(*words)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        (["--profile", "nightly"], "no profile"),
        (["--image", "/nowhere/x.tif"], "/nowhere/x.tif"),
        # A process each; the configuration's own tests say the same sooner.
        pytest.param(["--crops", "9000"], "9000", marks=pytest.mark.slow),
        pytest.param(["--crops", "0"], "--crops", marks=pytest.mark.slow),
        pytest.param(["--crops", "half"], "--crops", marks=pytest.mark.slow),
        pytest.param(["--repeats", "0"], "--repeats", marks=pytest.mark.slow),
        pytest.param(["--protocol", "fast"], "--protocol", marks=pytest.mark.slow),
        pytest.param(["--devices", "tpu"], "tpu", marks=pytest.mark.slow),
        pytest.param(["--weights", "/nowhere/weights", "--crops", "64"], "/nowhere/weights", marks=pytest.mark.slow),
        pytest.param(["--weights", "cyto3", "--crops", "64"], "cyto3", marks=pytest.mark.slow),
    ],
)
def test_bad_input_is_refused_before_anything_runs(image: Path, tmp_path: Path, flags: list[str], output: str) -> None:
    words = flags if "--image" in flags else ["--image", image, *flags]
    assert output in refused("run", *words, out=tmp_path / "out")


@pytest.mark.slow
def test_a_device_that_this_machine_lacks(image: Path, tmp_path: Path) -> None:
    output = refused("run", "--image", image, "--crops", "64", "--devices", "cuda:7", out=tmp_path / "out")
    assert "no device cuda:7" in output
    assert "it has: " in output


@pytest.mark.slow
def test_an_output_that_cannot_be_written(image: Path, tmp_path: Path) -> None:
    done = cellbench("run", "--image", image, "--crops", "64", "--weights", "standin", "--out", image / "results")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


@pytest.mark.slow
def test_show_list_and_query_read_a_store(tmp_path: Path) -> None:
    make_store(tmp_path, [make_sample(repetition=i, elapsed_s=1 + i / 10) for i in range(3)])
    shown = cellbench("show", "--out", tmp_path)
    assert shown.returncode == 0
    assert "1.10" in shown.stdout
    assert "Stand-in weights" in shown.stderr
    [case] = json.loads(cellbench("show", "--out", tmp_path, "--json").stdout)
    assert (case["crop"], case["n"], case["median_s"]) == ("224", 3, 1.1)
    assert RUN_ID in cellbench("list", "--out", tmp_path).stdout
    assert (
        cellbench("query", "SELECT max(elapsed_s) AS s FROM timed", "--out", tmp_path, "--csv").stdout == '"s"\n1.2\n'
    )
    assert "| 3 |" in cellbench("query", "-", "--out", tmp_path, "--md", stdin="SELECT count(*) n FROM timed").stdout


@pytest.mark.slow
def test_reading_what_is_not_there(tmp_path: Path) -> None:
    for words in (["show"], ["list"], ["query", "SELECT 1"], ["report"]):
        done = cellbench(*words, "--out", tmp_path / "nowhere")
        assert (done.returncode, done.stdout) == (2, "")
        assert "no results here yet" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    make_store(tmp_path, [make_sample()])
    done = cellbench("show", "--run", "nope", "--out", tmp_path)
    assert done.returncode == 2
    assert RUN_ID in done.stderr


@pytest.mark.slow
def test_run_show_query_chart_report(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cellbench(
        "run",
        "--no-ray",
        "--image",
        image,
        "--crops",
        "64,full",
        "--blocks",
        "1",
        "--repeats",
        "2",
        "--weights",
        "standin",
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    assert "Stand-in weights" in done.stderr
    rows = json.loads(cellbench("show", "--out", out, "--json").stdout)
    assert [(row["crop"], row["device"], row["n"]) for row in rows] == [("64", "cpu", 2), ("full", "cpu", 2)]
    query = "SELECT DISTINCT image, weights, dispatch, workload FROM samples"
    [row] = json.loads(cellbench("query", query, "--out", out, "--json").stdout)
    assert row == {"image": "my cells.tif", "weights": "standin", "dispatch": "process", "workload": "cellpose"}
    for suffix in ("html", "png", "svg"):
        assert cellbench("chart", "time", "--to", tmp_path / f"time.{suffix}", "--out", out).returncode == 0
        assert (tmp_path / f"time.{suffix}").stat().st_size > 1000
    report = cellbench("report", "--out", out)
    assert report.returncode == 0, report.stderr
    assert "Stand-in weights" in Path(report.stdout.strip()).read_text()


@pytest.mark.slow
@pytest.mark.real
def test_ray_gives_the_same_rows_and_is_gone_afterwards(image: Path, tmp_path: Path) -> None:
    words = ["run", "--image", image, "--crops", "64", "--blocks", "1", "--repeats", "2", "--weights", "standin"]
    seen = {}
    for name, extra in (("ray", []), ("process", ["--no-ray"])):
        done = cellbench(*words, *extra, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        rows = cellbench("query", "SELECT * FROM samples ORDER BY started_at", "--out", tmp_path / name, "--json")
        seen[name] = json.loads(rows.stdout)
    varying = {"run_id", "started_at", "elapsed_s", "precision", "dispatch", "ray_version", "environment"}
    varying |= {"flags", "foreign_cpu_share", "idle_wait_s"}  # what else the machine does meanwhile
    same = [[{k: v for k, v in row.items() if k not in varying} for row in seen[name]] for name in seen]
    assert same[0] == same[1]
    assert {row["dispatch"] for row in seen["ray"]} == {"ray"}
    answer = [json.loads(row["environment"]) for rows in seen.values() for row in rows if row["environment"]]
    assert [facts["niceness"] for facts in answer] == [os.getpriority(os.PRIO_PROCESS, 0)] * 2
    assert _ray_processes() == []


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", "--image", image, "--crops", "64", "--repeats", "1000", "--weights", "standin", "--out", out]
    process = subprocess.Popen([COMMAND, *map(str, words)], stderr=subprocess.PIPE, text=True)
    journals = out / "journal"
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size > 150_000 for path in journals.glob("*.arrows")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "saved" in output
    assert f"cellbench resume {next(out.glob('runs/*.json')).stem}" in output
    [run] = json.loads(cellbench("list", "--out", out, "--json").stdout)
    assert run["n_timed"] >= 1
    assert not list(journals.iterdir())
    assert _ray_processes() == []


@pytest.mark.slow
def test_a_killed_run_is_resumed_and_nothing_is_measured_twice(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--image", image, "--crops", "64,96", "--blocks", "1", "--repeats", "4", "--weights", "standin",
             "--no-ray", "--out", out]  # fmt: skip
    process = subprocess.Popen([COMMAND, "run", *map(str, words)], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("cpu "):  # the first case is over
            break
    process.kill()
    process.wait()
    process.stderr.close()
    timed = "SELECT crop, repetition, started_at FROM samples WHERE role = 'timed' ORDER BY crop, repetition"
    before = json.loads(cellbench("query", timed, "--out", out, "--json").stdout)
    assert 4 <= len(before) < 8

    resumed = cellbench("resume", "--out", out)
    assert resumed.returncode == 0, resumed.stderr
    after = json.loads(cellbench("query", timed, "--out", out, "--json").stdout)
    assert [(row["crop"], row["repetition"]) for row in after] == [(c, i) for c in ("64", "96") for i in range(4)]
    assert all(row in after for row in before)

    killed_at_its_end = Path.home() / ".cellbench" / "scratch" / "run-killed"
    killed_at_its_end.mkdir()
    assert "nothing is left to measure" in cellbench("resume", "--out", out).stderr
    assert not killed_at_its_end.exists()


def _ray_processes() -> list[str]:
    """Ray and worker processes that outlived their command; they may take a moment to go."""
    mine, ours = os.getuid(), ("raylet", "gcs_server", "harness.measure.parent")
    for _ in range(50):
        left = [
            " ".join(p.info["cmdline"] or [])
            for p in psutil.process_iter(["cmdline", "uids"])
            if p.info["uids"] and p.info["uids"].real == mine
            and any(word in " ".join(p.info["cmdline"] or []) for word in ours)
        ]  # fmt: skip
        if not left:
            break
        time.sleep(0.2)
    return left
