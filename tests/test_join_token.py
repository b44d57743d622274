"""The token: made and kept secret for real, carried by a shell that plays the other machine."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from harness.errors import CellbenchError
from harness.fleet.nodes import token


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    home = tmp_path / "other"
    home.mkdir()
    return home


def shell_of(home: Path) -> token.Ssh:
    """What ssh would do on a machine with this home: give the command to the user's shell."""

    def ssh(destination: str, command: str, stdin: str | None) -> subprocess.CompletedProcess[str]:
        assert destination == "alice@other"
        assert "umask 077" in command or stdin is None
        assert stdin is None or stdin not in command
        return subprocess.run(
            ["sh", "-c", command], input=stdin, capture_output=True, text=True, cwd=home, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        )  # fmt: skip

    return ssh


@pytest.mark.parametrize(("environ", "is_made"), [({}, True), ({"RAY_AUTH_TOKEN": "t"}, False)])
def test_the_token_is_there_before_ray_makes_a_readable_one(
    environ: dict[str, str], is_made: bool, tmp_path: Path
) -> None:
    path = tmp_path / ".ray" / "auth_token"
    token.make_before_ray(environ, tmp_path)
    assert path.exists() == is_made
    if is_made:
        text = path.read_text()
        token.make_before_ray(environ, tmp_path)
        assert (mode(path), path.read_text()) == (0o600, text)


def test_where_no_token_can_be_written_ray_says_so_itself(tmp_path: Path) -> None:
    (tmp_path / ".ray").write_text("a file")
    token.make_before_ray({}, tmp_path)
    assert (tmp_path / ".ray").read_text() == "a file"


def test_a_token_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made, is_new = token.found_or_made({}, tmp_path)
    finally:
        os.umask(old)
    assert is_new
    assert made.file == tmp_path / ".ray" / "auth_token"
    assert (mode(made.file), mode(made.file.parent)) == (0o600, 0o700)
    assert len(made.text) == 64
    assert made.text not in repr(made)
    assert token.found_or_made({}, tmp_path) == (made, False)
    assert [path.name for path in made.file.parent.iterdir()] == ["auth_token"]


def test_where_ray_looks_comes_first(tmp_path: Path) -> None:
    elsewhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "folder" / "token")}
    made, _ = token.found_or_made(elsewhere, tmp_path / "home")
    assert made.place == elsewhere["RAY_AUTH_TOKEN_PATH"]
    answer = token.required(elsewhere | {"RAY_AUTH_TOKEN": "spoken"}, tmp_path)
    assert (answer.text, answer.place) == ("spoken", "RAY_AUTH_TOKEN")


def test_a_missing_token_is_refused_with_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CellbenchError, match="no token") as refused:
        token.required({}, tmp_path)
    assert "--from" in refused.value.fix


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o602])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, loose: int) -> None:
    made, _ = token.found_or_made({}, tmp_path)
    made.file.chmod(loose)
    with pytest.raises(CellbenchError, match=f"{loose:04o}") as refused:
        token.required({}, tmp_path)
    assert refused.value.fix.startswith("chmod 600")
    assert made.text not in str(refused.value)


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    made, _ = token.found_or_made({}, tmp_path)
    made.file.write_text("\n")
    with pytest.raises(CellbenchError, match="empty"):
        token.required({}, tmp_path)


def test_a_token_is_carried_to_another_machine(tmp_path: Path, other: Path) -> None:
    made, _ = token.found_or_made({}, tmp_path)
    there = other / ".ray" / "auth_token"
    for _ in range(2):  # the second time it is there already
        token.send(made, "alice@other", ssh=shell_of(other))
        assert there.read_text() == made.text
        assert mode(there) == 0o600
    there.write_text("of another fleet\n")
    with pytest.raises(CellbenchError, match="another token"):
        token.send(made, "alice@other", ssh=shell_of(other))
    assert there.read_text() == "of another fleet\n"
    token.send(made, "alice@other", replace=True, ssh=shell_of(other))
    assert there.read_text() == made.text
    assert [path.name for path in there.parent.iterdir()] == ["auth_token"]


def test_a_token_is_brought_from_the_head(tmp_path: Path, other: Path) -> None:
    made, _ = token.found_or_made({}, other)
    here = tmp_path / "here" / ".ray" / "auth_token"
    brought = token.fetch("alice@other", here, ssh=shell_of(other))
    assert (brought.text, brought.file, mode(here)) == (made.text, here, 0o600)
    here.write_text("of another fleet")
    with pytest.raises(CellbenchError, match="another token"):
        token.fetch("alice@other", here, ssh=shell_of(other))
    assert token.fetch("alice@other", here, replace=True, ssh=shell_of(other)).text == made.text


def test_a_machine_without_a_token_or_out_of_reach_is_told(tmp_path: Path, other: Path) -> None:
    with pytest.raises(CellbenchError, match="no token could be read"):
        token.fetch("alice@other", tmp_path / "token", ssh=shell_of(other))

    def unreachable(_to: str, command: str, _stdin: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 255, "", "")

    with pytest.raises(CellbenchError, match="ssh could not connect"):
        token.fetch("alice@other", tmp_path / "token", ssh=unreachable)
    with pytest.raises(CellbenchError, match="ssh could not connect"):
        token.send(token.Token("x", None), "alice@other", ssh=unreachable)
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize("destination", ["", "-oProxyCommand=evil"])
def test_a_destination_is_no_option_of_ssh(tmp_path: Path, destination: str) -> None:
    for act in (lambda ssh: token.send(token.Token("x", None), destination, ssh=ssh),
                lambda ssh: token.fetch(destination, tmp_path / "token", ssh=ssh)):  # fmt: skip
        with pytest.raises(CellbenchError, match="not a destination"):
            act(lambda *_: pytest.fail("called"))
