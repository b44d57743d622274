"""The results folder: a flag, else a variable, else the settings file, else results/ here; each mistake is named."""

import os
from itertools import product
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness import settings
from harness.cli.app import app
from harness.errors import CellbenchError
from harness.services import environment
from tests.conftest import make_sample, make_store

OWNERS = ("--out", "CELLBENCH_OUT", "file", "default")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CELLBENCH_OUT", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def write(text: str | bytes) -> Path:
    path = settings.file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("given", list(product((False, True), repeat=3)))
def test_the_first_that_names_a_folder_counts(
    given: tuple[bool, ...], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in OWNERS:
        make_store(here / ("results" if owner == "default" else owner), [make_sample(node=f"of {owner}")])
    words, names = [], dict(zip(OWNERS, given, strict=False))
    if names["--out"]:
        words = ["--out", str(here / "--out")]
    if names["CELLBENCH_OUT"]:
        monkeypatch.setenv("CELLBENCH_OUT", str(here / "CELLBENCH_OUT"))
    if names["file"]:
        write(f'out = "{here / "file"}"')
    wanted = next((name for name in OWNERS if names.get(name)), "default")
    done = CliRunner().invoke(app, ["query", "SELECT DISTINCT node FROM samples", "--csv", *words])
    assert done.stdout == f'"node"\n"of {wanted}"\n'
    doctor = settings.results_folder()
    assert doctor.origin == {"CELLBENCH_OUT": "CELLBENCH_OUT", "file": str(settings.file())}.get(
        next((name for name in OWNERS[1:] if names.get(name)), "default"), "default"
    )


def commands(group: typer.core.TyperGroup, names: tuple[str, ...] = ()) -> dict[str, typer.core.TyperCommand]:
    found = {}
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= commands(command, (*names, name)) if inner else {" ".join((*names, name)): command}
    return found


def test_every_command_with_out_reads_the_settings() -> None:
    outs = {
        name: parameter
        for name, command in commands(typer.main.get_command(app)).items()
        for parameter in command.params
        if "--out" in parameter.opts
    }
    assert len(outs) > 20
    assert {name for name, each in outs.items() if each.envvar != settings.OUT or each.callback is None} == set()


@pytest.mark.parametrize("by", ["flag", "variable"])
@pytest.mark.parametrize("uri", ["s3://bucket/results", "gs://bucket", "file:///results"])
def test_a_command_that_needs_a_folder_rejects_an_address(
    uri: str, by: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "variable":
        monkeypatch.setenv("CELLBENCH_OUT", uri)
    done = CliRunner().invoke(app, ["run", "--dry-run", *(["--out", uri] if by == "flag" else [])])
    assert isinstance(done.exception, CellbenchError)
    assert "needs a folder on this machine" in done.exception.what
    assert list(here.iterdir()) == []


MISTAKES = {
    "no TOML": ("out = ", "not TOML"),
    "unknown": ('folder = "/x"', "'folder' does not exist"),
    "one of two": ('out = "/x"\nOUT = "/y"', "'OUT' does not exist"),
    "table": ('[out]\npath = "/x"', "not a text"),
    "number": ("out = 5", "not a text"),
    "empty": ('out = ""', "not a text"),
    "relative": ('out = "results"', "depends on the current folder"),
    "not UTF-8": (b'out = "/\xff"', "read"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_file_is_named(name: str) -> None:
    text, what = MISTAKES[name]
    path = write(text)
    error = CliRunner().invoke(app, ["list"]).exception
    assert isinstance(error, CellbenchError)
    assert what in error.what
    assert (error.where, bool(error.fix)) == (str(path), True)


def test_a_flag_needs_no_file_that_can_be_read(here: Path) -> None:
    write("broken")
    make_store(here / "own", [make_sample()])
    assert CliRunner().invoke(app, ["list", "--out", str(here / "own")]).exit_code == 0


def test_a_folder_in_its_place_cannot_be_read() -> None:
    settings.file().mkdir(parents=True)
    with pytest.raises(CellbenchError) as error:
        settings.results_folder()
    assert error.value.where == str(settings.file())


@pytest.mark.parametrize("base", ["", "relative/config"])
def test_the_file_is_in_config_of_the_home_unless_a_variable_names_a_folder(base: str) -> None:
    environ = {"XDG_CONFIG_HOME": base} if base else {}
    assert settings.file(environ) == Path(os.environ["HOME"]) / ".config" / "cellbench" / "config.toml"


def test_an_empty_variable_is_none() -> None:
    assert settings.results_folder({"CELLBENCH_OUT": "", "XDG_CONFIG_HOME": "/nowhere"}).origin == "default"


def test_a_schedule_keeps_the_variable() -> None:
    assert environment.job_environment({"CELLBENCH_OUT": "/x"}).variables == {"CELLBENCH_OUT": "/x"}


def test_the_greeting_names_the_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(here / "own", [make_sample()])
    monkeypatch.setenv("CELLBENCH_OUT", str(here / "own"))
    assert f"{here / 'own'}/ holds 1 run" in CliRunner().invoke(app, []).stdout
