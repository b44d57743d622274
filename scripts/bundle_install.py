"""Install cellbench from the files next to this one, without a network, and use the torch of this machine.

    python3.12 install.py [--to ~/cellbench] [--use-system-torch]

Run it with the Python that has torch (`python -c 'import torch'`). A new environment is made in --to; what is not in
the bundle, torch first of all, it finds where this Python has it. Nothing outside --to is written, but published
weights go to where Cellpose looks for them, and Cellpose 4 to ~/.cellbench, if the bundle has them. What was in --to
before is kept until the new one works. With --use-system-torch this machine's torch and numpy are taken as they are,
though others were tested.
"""

import sys

# This check precedes all syntax that an old python3 rejects: on some systems python3 is 3.6.
if sys.version_info < (3, 11):  # noqa: UP036
    print(
        "install.py: Python " + sys.version.split()[0] + " is too old\n  fix: use the one with torch", file=sys.stderr
    )
    sys.exit(2)

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = ("numpy",)  # of the machine, with --use-system-torch, though the bundle has it
TRIAL = "import torch, numpy, cellpose.models; (torch.ones(2) @ torch.from_numpy(numpy.ones(2, 'float32'))).item()"


class InstallError(Exception):
    """A problem of the installation, with its fix."""


def read_manifest() -> dict:
    """The list of the bundle's contents from scripts/bundle."""
    file = HERE / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
        manifest["machine"]  # the last that is written
        return manifest
    except FileNotFoundError:
        wrong = "is missing"
    except (ValueError, LookupError, TypeError):
        wrong = "is damaged"
    raise InstallError(f"{file.name} {wrong}\n  fix: copy it to {HERE} again")


def check_machine(manifest: dict) -> None:
    """Raise InstallError for another Python or platform than that of the bundle."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    system = f"{'macos' if sys.platform == 'darwin' else 'linux'}_{platform.machine()}"
    if (python, system) != (manifest["python"], manifest["platform"]):
        use = f"run it with python{manifest['python']}, or " if system == manifest["platform"] else ""
        raise InstallError(
            f"this bundle is for Python {manifest['python']} on {manifest['platform']}, and this is Python {python} on "
            f"{system}\n  fix: {use}make another bundle; scripts/bundle --help lists the machines"
        )


def join(manifest: dict, folder: Path) -> Path:
    """Check every part and join them; one error lists all defects."""
    wrong = []
    archive = folder / manifest["archive"]
    with archive.open("wb") as out:
        for part in manifest["parts"]:
            file = HERE / part["name"]
            if not file.is_file():
                wrong.append(f"{part['name']} is missing")
                continue
            digest = hashlib.sha256()
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(2**20), b""):
                    digest.update(block)
                    out.write(block)
            if digest.hexdigest() != part["sha256"]:
                wrong.append(f"{part['name']} is damaged ({file.stat().st_size:,} of {part['bytes']:,} bytes)")
    if wrong:
        raise InstallError("\n  ".join([*wrong, f"fix: copy them to {HERE} again"]))
    return archive


def installed(name: str) -> str | None:
    """The version of a package in this Python, None if absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def of_machine(manifest: dict, use_system: bool) -> dict[str, str]:
    """The packages of this machine to use, with their versions; untested versions only if use_system is set."""
    lacking = [name for name in manifest["machine"] if installed(name) is None]
    if lacking:
        raise InstallError(
            f"this Python ({sys.executable}) has no {' and no '.join(lacking)}\n"
            f"  fix: run install.py with the Python that has torch, or make a bundle with what is lacking"
        )
    other = [
        f"{name} {installed(name)}, tested was {tested}"
        for name, tested in manifest["machine"].items()
        if installed(name).split("+")[0] != tested
    ]
    if other and not use_system:
        raise InstallError(
            f"this machine has {'; '.join(other)}\n"
            "  fix: to measure with it all the same: --use-system-torch (the versions are stored with every figure)"
        )
    taken = [*manifest["machine"], *(name for name in KEPT if use_system and installed(name))]
    return {name: installed(name) for name in dict.fromkeys(taken)}


def folders_of(names: list[str]) -> list[str]:
    """The folders of these packages and of their requirements, where installed."""
    seen: dict[str, str] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        seen[name] = str(Path(distribution.locate_file("")).resolve())
        needs = [text for text in distribution.requires or [] if "extra" not in text.partition(";")[2]]
        todo += ["".join(c if c.isalnum() or c in "-_." else " " for c in text).split()[0] for text in needs]
    return sorted(set(seen.values()))


@contextlib.contextmanager
def making(to: Path) -> Iterator[Path]:
    """A working folder in `to`; if the work fails, the old environment is restored."""
    if to.exists() and any(to.iterdir()) and not (to / "pyvenv.cfg").is_file():
        raise InstallError(f"{to} is not empty and no environment\n  fix: name another folder with --to, or remove it")
    is_new = not to.exists()
    to.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=to, prefix=".install-"))
    old = scratch / "old"
    try:
        old.mkdir()
        move_all(to, old, but=scratch)
        try:
            yield scratch
        except BaseException:
            for made in set(to.iterdir()) - {scratch}:
                shutil.rmtree(made) if made.is_dir() and not made.is_symlink() else made.unlink()
            raise
    except BaseException:
        move_all(old, to)
        raise
    finally:
        shutil.rmtree(scratch)
        if is_new and not any(to.iterdir()):
            to.rmdir()


def move_all(source: Path, target: Path, but: Path | None = None) -> None:
    """Move the contents of a folder into another one on the same disk."""
    for entry in set(source.glob("*")) - {but}:
        entry.rename(target / entry.name)


def install(manifest: dict, content: Path, to: Path, taken: dict[str, str]) -> None:
    """Make the environment from the wheels and add the machine's packages to its path."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(to)], check=True)
    wheels = content / "wheels"
    [pip] = wheels.glob("pip-*.whl")
    chosen = [f"{name}=={version}" for name, version in manifest["versions"].items() if name not in taken]
    command = [
        str(to / "bin" / "python"), f"{pip}/pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir",
        "--disable-pip-version-check", "--root-user-action=ignore", "--find-links", str(wheels), "cellbench", *chosen,
    ]  # fmt: skip
    # Settings of this machine's pip must not send it anywhere.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}
    if subprocess.run(command, env=environ, check=False).returncode:
        raise InstallError("pip could not install the wheels; its output is above")
    [site] = (to / "lib").glob("python*/site-packages")
    # After the environment's own folder, so that what is in the bundle comes first.
    (site / "machine.pth").write_text("".join(f"{folder}\n" for folder in folders_of(list(taken))))
    trial = subprocess.run([to / "bin" / "python", "-c", TRIAL], capture_output=True, text=True, check=False)
    if trial.returncode:
        raise InstallError(f"it does not work with this machine's {taken}:\n{trial.stderr.strip()[-1500:]}")


def place_engines(manifest: dict, content: Path, to: Path) -> None:
    """Install the engines of the bundle, each into its own folder, as cellbench does."""
    [pip] = (content / "wheels").glob("pip-*.whl")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | {
        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(content / "engines"),
        "PIP_NO_CACHE_DIR": "1", "PYTHONPATH": str(pip),
    }  # fmt: skip
    for name in manifest.get("engines", []):
        command = [str(to / "bin" / "cellbench"), "engines", "install", name]
        if subprocess.run(command, env=environ, check=False).returncode:
            raise InstallError(f"{name} could not be installed; why stands above")


def place_weights(content: Path) -> str | None:
    """Copy the published weights into Cellpose's folder, unless it has some."""
    weights = content / "weights"
    if not weights.is_dir():
        return None
    models = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models")
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models) as scratch:  # so that no half file bears the name
        for file in weights.iterdir():
            if not (models / file.name).exists():
                Path(shutil.copy(file, scratch)).rename(models / file.name)
    return str(models)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path.home() / "cellbench", help="environment to make, a new folder")
    parser.add_argument(
        "--use-system-torch", action="store_true", help="take untested versions of torch and numpy, too"
    )
    args = parser.parse_args()
    to = args.to.expanduser().absolute()
    try:
        manifest = read_manifest()
        check_machine(manifest)
        taken = of_machine(manifest, args.use_system_torch)
        with making(to) as scratch:
            content = scratch / "content"
            with tarfile.open(join(manifest, scratch)) as tar:
                tar.extractall(content, filter="data")
            install(manifest, content, to, taken)
            place_engines(manifest, content, to)
            models = place_weights(content)
    except KeyboardInterrupt:
        print("install.py: stopped; all is as it was before", file=sys.stderr)
        return 130
    except OSError as error:
        print(
            f"install.py: {error}\n  fix: see to room and rights there, or name another folder: --to", file=sys.stderr
        )
        return 2
    except (InstallError, subprocess.CalledProcessError, tarfile.TarError) as error:
        print(f"install.py: {error}", file=sys.stderr)
        return 2
    tested = manifest["machine"] | manifest["versions"]
    for name, version in taken.items():
        same = version.split("+")[0] == tested[name]
        print(f"this machine's {name} {version} is used{'' if same else f'; tested was {tested[name]}'}")
    print(f"weights: {models or 'the stand-in (no published cyto3 in this bundle)'}")
    print(f"cellbench is {to}/bin/cellbench; try: {to}/bin/cellbench doctor")
    if not manifest["with_ray"]:
        print(f"without Ray: {to}/bin/cellbench run --no-ray")
    return 0


if __name__ == "__main__":
    sys.exit(main())
