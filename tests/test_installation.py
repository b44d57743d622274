"""Checks of versions, weights, other nodes and Ray: made-up packages, folders, stores and addresses."""

import socket
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.doctor import installation
from harness.engines import overlays, registry
from harness.fleet import network
from harness.machine.checks import FAIL, OK, SKIPPED, WARN
from tests.conftest import make_sample, make_store
from tests.test_release import PROJECT

NEEDS = ["cellpose<4,>=3.1.1", "numpy", "torch>=2.6", "ray[default]==2.60.*", 'pytest>=8; extra == "test"']
GOOD = {
    "cellbench": ("0.1.0", NEEDS), "cellpose": ("3.1.1.3", ["numpy<2.1,>=1.20.0", "opencv-python-headless"]),
    "numpy": ("2.0.2", []), "numba": ("0.68.1", ["numpy<2.6,>=1.22"]), "torch": ("2.13.0+cpu", []),
    "opencv-python-headless": ("5.0.0.93", ["numpy>=2"]), "ray": ("2.60.0", []),
}  # fmt: skip


def environment(needs_python: str | None = ">=3.11,<3.15", **changes: Any) -> Callable[[str], Any]:
    """Made-up installed packages: name to version, or (version, requirements), or None for a missing one."""
    packages = {**GOOD, **{name.replace("_", "-"): change for name, change in changes.items()}}

    def distribution(name: str) -> Any:
        if packages.get(name) is None:
            raise metadata.PackageNotFoundError(name)
        package = packages[name]
        version, requires = package if isinstance(package, tuple) else (package, GOOD.get(name, (None, []))[1])
        return SimpleNamespace(version=version, requires=requires, metadata={"Requires-Python": needs_python})

    return distribution


# ------------------------------------------------------------------ versions


def test_versions_that_fit() -> None:
    check = installation.versions(environment(), "3.11.7")
    assert (check.verdict, check.fix) == (OK, None)
    for seen in ("Python 3.11.7", "cellpose 3.1.1.3", "torch 2.13.0+cpu", "ray 2.60.0"):
        assert seen in check.evidence


def test_without_ray_all_is_well_but_for_ray() -> None:
    check = installation.versions(environment(ray=None), "3.11.7")
    assert (check.verdict, check.fix) == (OK, None)
    assert "--no-ray" in installation.ray_head(None, distribution=environment(ray=None)).fix


def test_other_versions_than_the_tested_ones_are_said() -> None:
    tested = {"torch": "2.13.0", "numpy": "2.0.1", "ray": "2.60.0"}
    check = installation.versions(environment(), "3.11.7", lambda: tested)
    assert (check.verdict, check.fix) == (OK, None)
    assert "numpy 2.0.2 (tested: 2.0.1)" in check.evidence
    assert check.evidence.count("tested") == 1, "a build of torch is no other version"


def test_the_tested_versions_come_from_the_checkout_or_from_the_bundle(tmp_path: Path) -> None:
    assert {"torch", "numpy", "cellpose"} <= installation.tested().keys()
    package = tmp_path / "site-packages" / "harness"
    assert installation.tested(package) == {}
    (package / "data").mkdir(parents=True)
    (package / "data" / "constraints.txt").write_text("# tested together\ntorch==2.13.0\n\n")
    assert installation.tested(package) == {"torch": "2.13.0"}
    lines = 'numpy==1.0; python_version < "3.1"\nnumpy==2.0; python_version >= "3.1"\n'
    (package / "data" / "constraints.txt").write_text(lines)
    assert installation.tested(package) == {"numpy": "2.0"}


def test_cellpose_4_is_a_failure_with_its_reason() -> None:
    check = installation.versions(environment(cellpose="4.0.6"), "3.11.7")
    assert check.verdict == FAIL
    assert "only that has cyto3" in check.evidence
    assert check.fix.startswith("python -m pip install ")
    assert "cellpose>=3.1.1,<4" in check.fix


@pytest.mark.parametrize(
    ("changes", "output"),
    [
        ({"torch": "2.5.1"}, "cellbench needs torch >=2.6, not 2.5.1"),
        ({"ray": "2.49.0"}, "cellbench needs ray ==2.60.*, not 2.49.0"),
        ({"cellpose": None}, "cellpose is missing, which cellbench needs"),
    ],
)
def test_what_cellbench_needs_is_a_failure_if_it_is_not_there(changes: dict[str, Any], output: str) -> None:
    check = installation.versions(environment(**changes), "3.11.7")
    assert check.verdict == FAIL
    assert output in check.evidence
    assert check.fix.startswith("python -m pip install ")


def test_a_pin_between_other_packages_is_a_warning() -> None:
    check = installation.versions(environment(numpy="2.6.0"), "3.11.7")
    assert check.verdict == WARN
    assert "numba needs numpy <2.6,>=1.22, not 2.6.0" in check.evidence
    assert '"numpy<2.6,>=1.22"' in check.fix


@pytest.mark.parametrize(("numpy", "verdict"), [("2.0.2", OK), ("2.1.0", OK), ("2.4.6", OK), ("2.5.0", WARN)])
def test_a_numpy_that_gave_the_same_masks_fits_whatever_the_metadata_of_cellpose_require(
    numpy: str, verdict: str
) -> None:
    assert installation.versions(environment(numpy=numpy), "3.11.7").verdict == verdict


def test_a_missing_engine_is_a_failure_where_cellbench_does_not_require_it() -> None:
    needs = [text for text in NEEDS if not text.startswith("cellpose")]
    check = installation.versions(environment(cellpose=None, cellbench=("0.1.0", needs)), "3.13.1")
    assert check.verdict == FAIL
    assert "cellpose>=3.1.1,<4" in check.fix


def test_cellpose_3_is_installed_without_its_pins_where_numpy_has_no_such_wheel() -> None:
    engine = registry.engine("cellpose3")
    assert overlays.how_to_install(engine, (3, 12)) == "pip install 'cellpose>=3.1.1,<4'"
    assert overlays.how_to_install(engine, (3, 13)) == "pip install --no-deps 'cellpose>=3.1.1,<4'"


def test_all_that_cellpose_requires_is_a_requirement_of_ours() -> None:
    needed, ours = (
        {canonicalize_name(each.name) for each in map(Requirement, texts) if "extra" not in str(each.marker)}
        for texts in (metadata.requires("cellpose") or [], PROJECT["dependencies"])
    )
    assert len(needed) > 10
    assert needed - ours == set()


def test_any_opencv_will_do() -> None:
    swapped = environment(opencv_python_headless=None, opencv_python="4.10.0.84")
    assert installation.versions(swapped, "3.11.7").verdict == OK
    assert installation.versions(environment(opencv_python_headless=None), "3.11.7").verdict == WARN


def test_another_python_is_a_failure_even_beside_a_mere_warning() -> None:
    for changes in ({}, {"numpy": "2.6.0"}):
        check = installation.versions(environment(**changes), "3.15.1")
        assert check.verdict == FAIL
        assert "Python" in check.fix
    assert installation.versions(environment(needs_python=None), "3.15.1").verdict == OK


def test_code_that_is_not_installed_has_no_needs_on_record() -> None:
    assert installation.versions(environment(cellbench=None), "3.11.7").verdict == WARN


def test_the_real_environment_can_be_judged() -> None:
    assert installation.versions().verdict in (OK, WARN)


# ------------------------------------------------------------------ other nodes

HERE = {"node": "desk", "torch_version": "2.13.0+cpu", "numpy_version": "2.0.2", "numba_version": None}


def test_the_same_versions_on_every_node_whatever_their_builds(tmp_path: Path) -> None:
    mac = make_sample(node="mac1", torch_version="2.13.0", numpy_version="2.0.2", numba_version="0.68.1")
    make_store(tmp_path, [make_sample(), mac])
    check = installation.other_nodes(tmp_path, HERE)
    assert check.verdict == OK
    assert "mac1" in check.evidence
    assert "desk" not in check.evidence


def test_differing_versions_are_listed(tmp_path: Path) -> None:
    old = make_sample(node="mac1", torch_version="2.12.0", numpy_version="1.26.4", repetition=0)
    new = make_sample(node="mac1", torch_version="2.12.1", numpy_version="2.0.2", repetition=1)
    make_store(tmp_path, [old, new])
    check = installation.other_nodes(tmp_path, HERE)
    assert check.verdict == WARN
    assert check.evidence == "versions differ from mac1: torch 2.12.1 there, 2.13.0 here"


def test_no_other_nodes_and_no_results(tmp_path: Path) -> None:
    assert installation.other_nodes(tmp_path / "nowhere", HERE).verdict == SKIPPED
    assert not (tmp_path / "nowhere").exists()
    assert installation.other_nodes(tmp_path, HERE).verdict == SKIPPED
    make_store(tmp_path, [make_sample()])
    assert installation.other_nodes(tmp_path, HERE).verdict == SKIPPED


def test_the_journal_of_a_killed_run_is_left_alone(tmp_path: Path) -> None:
    journal = tmp_path / "journal" / "killed.arrows"
    journal.parent.mkdir()
    journal.write_bytes(b"torn")
    installation.other_nodes(tmp_path, HERE)
    assert journal.read_bytes() == b"torn"


# ------------------------------------------------------------------ Ray


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return port


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_a_head_that_answers(serve: Callable[..., int], form: str) -> None:
    assert installation.ray_head(form.format(serve())).verdict == OK


def test_a_head_that_does_not_answer(closed_port: int) -> None:
    begin_s = time.monotonic()
    check = installation.ray_head(f"127.0.0.1:{closed_port}")
    assert check.verdict == FAIL
    assert "refused" in check.evidence
    assert str(closed_port) in check.fix
    assert time.monotonic() - begin_s < network.CONNECT_S + 2


def test_a_head_whose_name_nobody_can_look_up() -> None:
    def stuck(_host: str, _port: int) -> None:
        raise TimeoutError

    check = installation.ray_head("head.example:6379", stuck)
    assert check.verdict == FAIL
    assert "no answer within 2 s" in check.evidence
    assert installation.ray_head("x" * 70 + ":6379").verdict == FAIL  # no name may be that long


@pytest.mark.parametrize("address", ["nonsense", "host:port", "host:99999", ":6379", "http://"])
def test_an_address_that_is_none(address: str) -> None:
    check = installation.ray_head(address, lambda *_: pytest.fail("connected"))
    assert check.verdict == FAIL
    assert "HOST:PORT" in check.fix


def test_without_an_address_ray_is_embedded() -> None:
    for address in (None, "", "local"):
        check = installation.ray_head(address)
        assert (check.verdict, check.fix) == (OK, None)
    assert installation.ray_head(None, distribution=environment(ray=None)).verdict == SKIPPED
    assert installation.ray_head("auto").verdict == SKIPPED


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a token that only its owner can read."""
    write_token(tmp_path / ".ray" / "auth_token")
    return tmp_path


def write_token(file: Path, text: str = "tell nobody\n", mode: int = 0o600) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


HEAD = "head:6379"
TOKEN = {"RAY_AUTH_MODE": "token"}


def test_a_token_that_is_secret(home: Path) -> None:
    check = installation.ray_token(HEAD, TOKEN, home)
    assert (check.verdict, check.fix) == (OK, None)
    assert "tell nobody" not in check.evidence


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("address", [HEAD, None])
def test_a_token_that_others_can_read_is_a_warning(home: Path, mode: int, address: str | None) -> None:
    file = home / ".ray" / "auth_token"
    file.chmod(mode)
    check = installation.ray_token(address, TOKEN, home)
    assert check.verdict == WARN
    assert f"{mode:04o}" in check.evidence
    assert check.fix == f"chmod 600 {file}"


def test_a_missing_token_matters_only_with_a_head(tmp_path: Path) -> None:
    assert installation.ray_token(None, {}, tmp_path).verdict == OK
    assert installation.ray_token("local", {}, tmp_path).verdict == OK
    check = installation.ray_token(HEAD, TOKEN, tmp_path)
    assert check.verdict == FAIL
    assert "auth_token" in check.fix


def test_an_empty_token_is_none(home: Path) -> None:
    write_token(home / ".ray" / "auth_token", text="\n")
    assert installation.ray_token(HEAD, TOKEN, home).verdict == FAIL


def test_where_the_token_comes_from(home: Path, tmp_path: Path) -> None:
    assert "RAY_AUTH_TOKEN" in installation.ray_token(HEAD, TOKEN | {"RAY_AUTH_TOKEN": "x"}, home / "none").evidence
    elsewhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "folder" / "token")}
    # Ray stops if the file it is pointed to is not there, whatever lies in the home.
    assert installation.ray_token(None, elsewhere, home).verdict == FAIL
    write_token(Path(elsewhere["RAY_AUTH_TOKEN_PATH"]))
    assert installation.ray_token(HEAD, TOKEN | elsewhere, home).verdict == OK


@pytest.mark.parametrize("mode", [{}, {"RAY_AUTH_MODE": "disabled"}])
def test_without_token_mode_a_head_is_a_warning(home: Path, mode: dict[str, str]) -> None:
    check = installation.ray_token(HEAD, mode, home)
    assert check.verdict == WARN
    assert check.fix == "export RAY_AUTH_MODE=token"
    assert installation.ray_token(None, mode, home).verdict == OK
    assert installation.ray_token(HEAD, mode | {"RAY_AUTH_TOKEN": "x"}, home).verdict == WARN
