"""Files written whole or not at all: every place that writes one, against everything that a disk can answer."""

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import altair as alt
import pyarrow as pa
import pytest

from harness import files, schema
from harness.charts import rendering
from harness.errors import StorageError
from harness.fleet.nodes import daemon, token
from harness.fleet.nodes.daemon import Running
from harness.judge import annotations
from harness.schedule import definition, state
from harness.store import parquet
from harness.terminal import writers
from tests.conftest import make_sample
from tests.test_schedule_definition import make as make_schedule

NODE = Running(1, 0.0, "mac", "10.0.0.9", "desk:6379", False, 20_000, "/tmp/ray", {"cpu": 1})
TABLE = pa.table({"x": [1]})
# Each place that writes a file: the file's name, and how it is written into a folder.
WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "files": ("a.txt", lambda folder: files.write(folder / "a.txt", "new")),
    "annotation": (
        annotations.FILE,
        lambda folder: annotations.add(folder, [annotations.new("tag", "r", name="x")]),
    ),
    "samples": (
        "a.parquet",
        lambda folder: parquet.put(
            parquet.LOCAL,
            folder / "a.parquet",
            lambda file: parquet.encode(file, schema.table([make_sample()])),
        ),
    ),
    "schedule": ("schedule/nightly.toml", lambda folder: definition.write(make_schedule(folder))),
    "state": ("schedule/nightly/state.json", lambda folder: state.remember(make_schedule(folder), kind="cron")),
    "token": ("auth_token", lambda folder: token.keep("t", folder / "auth_token", replace=True)),
    "node": ("20000.json", lambda folder: daemon._write(folder / "20000.json", NODE)),
    "chart": (
        "a.json",
        lambda folder: rendering.save(
            alt.layer(alt.Chart(alt.Data(values=[{"x": 1}]), title="t").mark_point()), folder / "a.json"
        ),
    ),
    "export": ("a.csv", lambda folder: writers.save(folder / "a.csv", TABLE.schema, TABLE.to_batches(), "csv")),
    "link": ("link", lambda folder: files.link(folder / "link", folder / "elsewhere")),
}
ANSWERS = [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE]


def everything(folder: Path) -> dict[str, bytes]:
    """What lies in a folder; locks are files that stay."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


# Where a disk can refuse; a link has no content.
STEPS = [
    (name, step) for name in WRITERS for step in ("open", "fsync", "replace") if name != "link" or step == "replace"
]


@pytest.mark.parametrize("number", ANSWERS, ids=errno.errorcode.get)
@pytest.mark.parametrize(("name", "where"), STEPS)
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, where: str
) -> None:
    target, write = WRITERS[name]
    (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / target).write_bytes(b"{}")
    before = everything(tmp_path)
    real = getattr(os, where)

    def refuse(*args: object, **kwargs: object) -> object:
        is_ours = where != "open" or ".cellbench-" in os.fspath(args[0])
        if is_ours and not (where == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)):
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, where, refuse)
        with pytest.raises(StorageError) as refused:
            write(tmp_path)
    assert everything(tmp_path) == before
    assert os.strerror(number) in refused.value.what
    assert Path(refused.value.where) == tmp_path / target
    assert refused.value.fix
    write(tmp_path)
    assert (tmp_path / target).is_symlink() or everything(tmp_path).keys() == before.keys()


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "link"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_mode_unless_it_is_a_secret(tmp_path: Path, name: str, mode: int) -> None:
    target, write = WRITERS[name]
    (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / target).write_bytes(b"")
    (tmp_path / target).chmod(mode)
    write(tmp_path)
    is_secret = name in ("token", "schedule")
    assert stat.S_IMODE((tmp_path / target).stat().st_mode) == (0o600 if is_secret else mode)


def test_a_new_file_has_the_mode_that_open_gives(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    files.write(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_an_owner_stays_where_root_writes(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    path = tmp_path / "theirs"
    path.touch()
    os.chown(path, 65_534, 65_534)
    files.write(path, "x")
    assert (path.stat().st_uid, path.stat().st_gid) == (65_534, 65_534)


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    files.write(Path("/dev/null"), "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit((tmp_path / "pipe").read_text)
        files.write(tmp_path / "pipe", "x")
        assert received.result() == "x"
    with pytest.raises(StorageError, match="Is a directory"):
        files.write(tmp_path, "x")


def test_a_write_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a user; root may write everything
    with pytest.raises(StorageError, match="Permission denied"):
        files.write(path, "new")
    assert path.read_text() == "old"


def test_an_error_of_the_writer_itself_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), files.replacing(path) as file:
            file.write(b"half")
            raise error
    assert everything(tmp_path) == {"a": b"old"}


def test_what_a_killed_writer_left_goes_with_the_next_and_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("n" * 255)  # the longest name that there is
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999_999_999)
        patch.setattr(Path, "unlink", lambda *_args, **_more: None)
        with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt
    assert len(list(tmp_path.iterdir())) == 1
    with files.replacing(path) as one:
        assert len(list(tmp_path.iterdir())) == 1
        files.write(path, "second")
        one.write(b"first")
    assert everything(tmp_path) == {path.name: b"first"}


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    contents = [bytes([i]) * 10_000 for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: files.write(tmp_path / "a", content), contents))
    assert [name for name in everything(tmp_path)] == ["a"]
    assert (tmp_path / "a").read_bytes() in contents


@pytest.mark.parametrize("number", sorted(files.NO_SYNC))
def test_a_file_system_that_cannot_sync_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(opened: int) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(number, os.strerror(number))
        real(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    assert files.write(tmp_path / "a", "x").read_text() == "x"


HIDDEN = [
    "._a.tif", ".a.tif.Xy12", ".DS_Store", ".Trash-1000/a.tif", ".snapshot/hourly/a.tif", "a.tif.part", "a.TIF.PART",
    "a.tmp", "a.tif~", "a.tif.crdownload", "a.filepart",
]  # fmt: skip
SHOWN = ["a.tif", "a.b.tif", "month=2026-01/a.parquet", "_a.tif", "a part.tif", "part", "tmp/a.tif"]


def test_what_is_not_meant_for_us_is_hidden() -> None:
    assert [name for name in HIDDEN if not files.is_hidden(PurePath(name))] == []
    assert [name for name in SHOWN if files.is_hidden(PurePath(name))] == []


def test_a_folder_lists_what_is_meant_for_us(tmp_path: Path) -> None:
    for name in ("b.toml", "a.toml", "._a.toml", "c.toml.part", "d.json"):
        (tmp_path / name).touch()
    assert [path.name for path in files.listed(tmp_path, "*.toml")] == ["a.toml", "b.toml"]
    assert files.listed(tmp_path / "nowhere") == []
