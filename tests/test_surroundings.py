"""Users without a home or a name, terminals of any encoding, a folder that is gone, options without a value."""

from __future__ import annotations

import codecs
import io
import itertools
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import files, images
from harness.cli import app as cli_app
from harness.cli import surroundings
from harness.cli.app import app
from harness.doctor import machine_checks
from harness.engines import environments, registry
from harness.errors import CellbenchError
from harness.judge import selection
from harness.machine import folders
from harness.machine.checks import FAIL, OK, WARN
from harness.plan import config
from harness.schedule import definition
from harness.store import Store, csv_import
from tests.conftest import REPOSITORY, make_sample, make_store

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's rights")
NOBODY = 54_321  # a user that no machine knows


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# ---------------------------------------------------------------- users

# What HOME is, whether the user has an entry with a home, and whose home is used in the end.
HOMES = {
    "a home": ("own", True, "own"),
    "no HOME": (None, True, "entry"),
    "empty": ("", True, "entry"),
    "no entry": ("own", False, "own"),
    "neither": (None, False, "spare"),
    "empty, no entry": ("", False, "spare"),
    "relative": ("some/where", True, "spare"),
    "a tilde": ("~", False, "spare"),
    "in a file": ("/dev/null/x", True, "spare"),
    "a link into nowhere": ("dangling", True, "spare"),
    "not there yet": ("own/later", True, "own/later"),
}


@pytest.mark.parametrize("name", HOMES)
def test_every_user_gets_a_home_that_can_be_used(
    name: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, has_entry, expected = HOMES[name]
    for each in ("own", "entry"):
        (tmp_path / each).mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    def entry(number: int) -> pwd.struct_passwd:
        if not has_entry:
            raise KeyError(number)
        return pwd.struct_passwd(("alice", "x", number, number, "", str(tmp_path / "entry"), "/bin/sh"))

    monkeypatch.setattr(folders.pwd, "getpwuid", entry)
    own = {"own", "own/later", "dangling"}
    environ = {} if given is None else {"HOME": str(tmp_path / given) if given in own else given}
    folders.complete(environ)
    spare = temporary / f"cellbench-{os.getuid()}"
    assert environ["HOME"] == str(spare if expected == "spare" else tmp_path / expected)
    assert ("USER" in environ) != has_entry
    for path in (Path(environ["HOME"], ".cellbench"), Path(environ.get("NUMBA_CACHE_DIR", environ["HOME"]))):
        assert path.is_absolute()
        path.mkdir(parents=True, exist_ok=True)
    assert (spare.stat().st_mode & 0o077 == 0) if expected == "spare" else not spare.exists()
    before = dict(environ)
    folders.complete(environ)
    assert environ == before


@pytest.mark.parametrize("kept", folders.KEPT)
def test_a_home_that_cannot_be_written_is_still_read(
    kept: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / kept).mkdir(parents=True)
    monkeypatch.setattr(folders, "is_writable", lambda folder: not folder.is_relative_to(tmp_path / "home"))
    environ = {"HOME": str(tmp_path / "home")}
    folders.complete(environ)
    spare = temporary / f"cellbench-{os.getuid()}"
    assert environ["HOME"] == str(tmp_path / "home")
    assert environ["CELLBENCH_HOME"] == str(spare / ".cellbench")
    assert environ["NUMBA_CACHE_DIR"] == str(spare / "numba")


def test_what_a_user_sets_stays(temporary: Path) -> None:
    given = {"HOME": "/proc", "CELLBENCH_HOME": "/proc/a", "NUMBA_CACHE_DIR": "/proc/b", "USER": "bob"}
    environ = dict(given)
    folders.complete(environ)
    assert {name: environ[name] for name in given if name != "HOME"} == {k: v for k, v in given.items() if k != "HOME"}


@pytest.mark.parametrize("taken", ["file", "link"])
def test_a_spare_folder_of_somebody_else_is_not_taken(taken: str, temporary: Path, tmp_path: Path) -> None:
    path = temporary / f"cellbench-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    path.symlink_to(tmp_path / "theirs") if taken == "link" else path.write_text("")
    environ = {"HOME": "~"}
    folders.complete(environ)
    assert Path(environ["HOME"]).is_dir()
    assert Path(environ["HOME"]) not in (path, tmp_path / "theirs")


def test_no_temporary_folder_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(CellbenchError, match="temporary") as refused:
        folders.complete({})
    assert "TMPDIR" in (refused.value.fix or "")


def test_the_doctor_tells_where_own_files_lie(temporary: Path, tmp_path: Path) -> None:
    verdicts = [machine_checks.home(path).verdict for path in (tmp_path / "a", temporary / "b", Path("/dev/null/c"))]
    assert verdicts == [OK, WARN, FAIL]


@as_root
@pytest.mark.slow
@pytest.mark.parametrize("home", ["/", None])
def test_a_run_under_any_number(home: str | None) -> None:
    """As docker run -u: a user without an entry and without a home measures with cellpose."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "TMPDIR": name}
        environ |= {} if home is None else {"HOME": home}
        # It may read what lies in root's home, as in an image it could; nothing more.
        rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights, sys.executable]
        run = ["run", "--no-ray", "--weights", "standin", "--crops", "64", "--repeats", "1", "--out", "results"]
        for words in (run, ["tag", "latest", "first", "--out", "results"]):
            done = subprocess.run(
                [*user, "-m", "harness", *words], capture_output=True, text=True, check=False, cwd=name, env=environ
            )
            assert done.returncode == 0, done.stderr
        names = {path.name for path in folder.iterdir()}
        assert names - {f"torchinductor_{NOBODY}"} == {"results", f"cellbench-{NOBODY}"}


# ---------------------------------------------------------------- letters

TEXT = "2160 × 2560 px, ±2 %, 80 °C, 1–2 µs → “µm” … Zürich 细胞 🦠"
ENCODINGS = ("ascii", "latin-1", "cp1252", "iso8859-15", "koi8-r", "gbk", "shift_jis", "big5", "utf-8", "utf-16")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_text_can_be_written_in_every_encoding(encoding: str) -> None:
    codecs.register_error("cellbench.plain", surroundings.plain)
    written = TEXT.encode(encoding, "cellbench.plain").decode(encoding)
    assert written.startswith(("2160 × 2560", "2160 x 2560"))
    assert all(letter in TEXT or letter.isascii() for letter in written)
    raw = b"/data/z\xfc\xff"
    assert os.fsdecode(raw).encode("utf-8", "cellbench.plain") == raw


def test_every_letter_can_be_written_somehow() -> None:
    every = "".join(map(chr, itertools.chain(range(0xD800), range(0xE000, 0x11000), range(0x1F300, 0x1FA00))))
    written = every.encode("ascii", "cellbench.plain")
    assert len(written) >= len(every) / 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "shift_jis"])
@pytest.mark.parametrize(
    "words", [["show"], ["show", "--md"], ["list"], ["query", "medians"], ["schema"], ["query", "--list"]], ids=" ".join
)
def test_commands_write_to_any_terminal(
    encoding: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "results", [make_sample(node="zürich-细胞", repetition=i) for i in range(3)])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
    monkeypatch.setattr(
        sys, "argv", ["cellbench", *words, *([] if words[0] == "schema" else ["--out", str(tmp_path / "results")])]
    )
    surroundings.prepare(sys.argv[1:])
    app(standalone_mode=False)
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


# What a shell may do to a command: closed streams, full disks, limits, variables of no use; and the exit code.
SHELLS = {
    "{} list --out STORE >&-": 0,
    "{} schema >&- 2>&-": 0,
    "{} list --out STORE 2>&-": 0,
    "{} list --out STORE <&- >&- 2>&-": 0,
    "{} query --out STORE <&-": 2,
    "{} schema --json >/dev/full": 2,
    "{} list --out STORE >/dev/full": 2,
    "{} schema | head -1": 0,
    "COLUMNS=abc LINES=-1 TERM=nothing LC_ALL=xx_YY.UTF-8 TZ=Nowhere/X {} show --out STORE": 0,
    "PYTHONWARNINGS=error {} show --out STORE": 0,
    "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {} show --out STORE": 0,
    "PYTHONIOENCODING=latin-1 {} schema": 0,
    "ulimit -n 30; {} show --out STORE": 0,
}


FEW = ("{} list --out STORE <&- >&- 2>&-", "{} list --out STORE >/dev/full")


@pytest.mark.parametrize("line", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in SHELLS])
def test_whatever_a_shell_does_there_is_no_traceback(line: str, store: Path, tmp_path: Path) -> None:
    typed = line.format(f"{sys.executable} -m harness").replace("STORE", str(store))
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {typed}"], capture_output=True, text=True, check=False, env=environ,
        cwd=tmp_path, errors="replace", timeout=60,
    )  # fmt: skip
    assert done.returncode == SHELLS[line], done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("cellbench-error-*")) == []


def test_what_no_rule_foresaw_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["cellbench", "list"])
    monkeypatch.setattr(cli_app, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli_app.run()
    [report] = tmp_path.glob("cellbench-error-*.txt")
    output = capsys.readouterr().err
    assert (ended.value.code, output.count("\n")) == (70, 3)
    assert "ZeroDivisionError: by zero" in output
    assert str(report) in output
    assert "Traceback" in report.read_text("utf-8")


# ---------------------------------------------------------------- paths

COMMANDS = {"show": ["show", "--out", "PATH"], "merge": ["merge", "PATH", "--out", "STORE"]}
# What commands do with other paths, without what comes afterwards and takes long.
CALLS: dict[str, Callable[[str], object]] = {
    "run --out": Store.check,
    "--profile": config.load,
    "--image": images.load,
    "compare": lambda path: selection.select(Path("none"), path),
    "import": lambda path: csv_import.read(Path(path), csv_import.Origin()),
    "schedule --out": lambda path: definition.names(Path(path)),
    "--weights": lambda path: registry.engine("cellpose3").resolve("cyto3", path),
    "--weights of cellpose 4": lambda path: registry.engine("cellpose4").resolve("cpsam", path),
    "--engine-python": lambda path: environments.find("simulated", path),
    "doctor --out": lambda path: machine_checks.disk(Path(path)),
    "report --to": lambda path: files.write(Path(path), "x"),
}
PATHS = (
    "~nobody-of-this-name/x", "~nobody-of-this-name", "x" * 300, "/".join(["y" * 200] * 30), "/dev/null/x", "/proc/x",
    "/proc/self/mem/x", "-", " ", "a\nb/c", "a\tb", "*", "?", "[", "'", '"; rm -r x', "$(x)", "C:\\x\\y",
    "//x//y", "./././.", "../" * 90, "s3://", "s3://b c/x", "foo://x", "http://[", "file://", "file:relative", "%00",
    "\udcff", "z\udcfc/\udcff", "\u202e\ufeff", "🦠" * 64, "/", "con", "a" * 255 + "/b",
    "x" * 300 + ".parquet", "\x01\x7f",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_store(tmp_path_factory.mktemp("store") / "results", [make_sample()]).root)


NAMED_OTHERWISE = {"-": "stdout", "s3://": "waits for a network", "s3://b c/x": "waits for a network"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; nothing named after a home may be in it afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob("~*"))


@pytest.mark.parametrize("name", COMMANDS)
def test_any_path_is_used_or_refused(name: str, store: Path, here: Path) -> None:
    for path in set(PATHS) - set(NAMED_OTHERWISE):
        words = [word.replace("PATH", path).replace("STORE", str(store)) for word in COMMANDS[name]]
        error = CliRunner().invoke(app, words).exception
        assert error is None or isinstance(error, CellbenchError | SystemExit), (path, repr(error))


@pytest.mark.parametrize("name", CALLS)
def test_any_path_is_taken_or_refused(name: str, here: Path) -> None:
    for path in PATHS:
        with suppress(CellbenchError):
            CALLS[name](path)


def test_a_home_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert files.expanded("~/x") == Path(os.environ["HOME"], "x")
    with pytest.raises(CellbenchError, match="no home ~nobody-of-this-name"):
        files.expanded("~nobody-of-this-name/x")
    with pytest.raises(CellbenchError, match="not UTF-8"):
        Store.make(tmp_path / "\udcff")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, which somebody has removed."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    yield folder
    os.chdir(tmp_path)


def test_a_current_folder_that_is_gone_is_one_error(gone: Path) -> None:
    with pytest.raises(CellbenchError, match="current folder is gone") as refused:
        surroundings.prepare(["list"])
    assert refused.value.exit_code == 2


EMPTY = (["list", "--out="], ["list", "--out", ""], ["list", "--out", "  "], ["run", "--crops="], ["query", ""],
         ["run", "--image", "", "--crops", "64"], ["merge", "", "--out", "x"], ["run", "--weights= "])  # fmt: skip


@pytest.mark.parametrize("words", EMPTY, ids=str)
def test_a_value_that_is_empty_is_refused(words: list[str]) -> None:
    with pytest.raises(CellbenchError, match="is empty") as refused:
        surroundings.prepare(words)
    assert next(word for word in words if word.startswith("--") or not word.strip()).split("=")[0] in str(refused.value)


@pytest.mark.parametrize("words", [["import", "a.csv", "--set", "image="], ["query", "x", "--param", "a="], ["list"]])
def test_a_name_with_an_equals_sign_is_a_value(words: list[str]) -> None:
    surroundings.prepare(words)
