"""Make an archive with which cellbench installs where there is no network: wheels, our package, weights, install.py.

torch is never in it: the machine's own is used and left as it is. The archive is cut into parts that fit a transfer;
install.py checks and joins them. Run through scripts/bundle.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wheelhouse import PYTHONS, ROOT, TARGETS, Target, WheelError, closure, download, pins

WEIGHTS = ("cyto3", "size_cyto3.npy")
ENGINES = {"cellpose4": "cpsam_v2"}  # optional engines, each with the file of its weights
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size(text: str) -> int:
    """Bytes of 50M, 64MiB or 1G."""
    found = re.fullmatch(r"(\d+)\s*([KMG]?)(I?)B?", text.strip().upper())
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 50M, 64MiB or 1G")
    return int(found[1]) * UNITS[found[2] + (found[3] + "B" if found[3] else "")]


def here() -> Target:
    """The target of this machine."""
    system = "macos" if sys.platform == "darwin" else "linux"
    return Target(f"{system}_{platform.machine()}", f"{sys.version_info.major}.{sys.version_info.minor}")


def build(folder: Path) -> str:
    """Build a wheel of this checkout and return its commit."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", "harness") else "")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "cellbench"
        copy.mkdir()
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        for name in ("harness", "cellbench"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "harness" / "data").mkdir(exist_ok=True)
        shutil.copy(ROOT / "constraints.txt", copy / "harness" / "data")  # doctor reports other versions than these
        if commit:
            (copy / "harness" / "data" / "commit").write_text(commit + "\n")
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WheelError(f"our own package cannot be built: {done.stderr[-2000:]}")
    return commit


def add_engines(names: list[str], target: Target, folder: Path) -> None:
    """Fetch the packages that `cellbench engines install` would."""
    for name in names:
        if name not in ENGINES:
            raise WheelError(f"{name} is not an engine that a bundle can carry: {', '.join(ENGINES)}")
        exact = (ROOT / "harness" / "engines" / name / "requirements.txt").read_text().split()
        folder.mkdir(exist_ok=True)
        download(target, exact, folder)


def add_weights(source: str, folder: Path, engines: list[str]) -> list[str]:
    """Copy the published weights, if they are requested or present; the stand-in needs no file.

    The weights of other engines are copied only if present: each file has 1.2 GB.
    """
    models = os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models"
    place = Path(models if source == "auto" else source)
    missing = [name for name in WEIGHTS if not (place / name).is_file()]
    if missing and source != "auto":
        raise WheelError(f"there is no {' and no '.join(missing)} in {place}")
    others = [ENGINES[name] for name in engines if (place / ENGINES[name]).is_file()]
    names = [*(WEIGHTS if not missing else ()), *others]
    for name in names:
        folder.mkdir(exist_ok=True)
        shutil.copy(place / name, folder)
    return names


def split(archive: Path, folder: Path, max_bytes: int) -> list[dict[str, object]]:
    """Cut a file into parts of at most max_bytes, each with its name, length and sha256."""
    parts = []
    with archive.open("rb") as file:
        for number, start in enumerate(range(0, archive.stat().st_size, max_bytes), 1):
            part = folder / f"{archive.name}.{number:03}"
            digest = hashlib.sha256()
            with part.open("wb") as out:
                for block in _blocks(file, min(max_bytes, archive.stat().st_size - start)):
                    digest.update(block)
                    out.write(block)
            parts.append({"name": part.name, "bytes": part.stat().st_size, "sha256": digest.hexdigest()})
    return parts


def _blocks(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    while n_bytes and (block := file.read(min(n_bytes, 2**20))):
        n_bytes -= len(block)
        yield block


def make(args: argparse.Namespace) -> list[Path]:
    """Write the bundle into args.to and return the files to transfer."""
    target = Target(args.platform, args.python)
    if target not in TARGETS:  # by default the target of this machine
        raise WheelError(f"no bundle is for Python {target.python} on {target.platform}: give --python and --platform")
    without = {"torch", *(["ray"] if args.no_ray else []), *filter(None, args.without.split(","))}
    if unknown := without - pins(target).keys():
        raise WheelError(f"cellbench does not need {', '.join(sorted(unknown))}")
    args.to.mkdir(parents=True, exist_ok=True)
    if any(args.to.iterdir()):
        raise WheelError(f"{args.to} is not empty")
    with tempfile.TemporaryDirectory(dir=args.to) as scratch:
        content = Path(scratch) / "content"
        wheels = content / "wheels"
        wheels.mkdir(parents=True)
        versions = closure(target, wheels, without)
        # pip's own wheel can be run as it is, so that a machine without pip or ensurepip will do.
        download(target, ["pip"], wheels)
        commit = build(wheels)
        engines = [*filter(None, args.engines.split(","))]
        add_engines(engines, target, content / "engines")
        weights = add_weights(args.weights, content / "weights", engines) if args.weights != "none" else []
        archive = Path(scratch) / f"cellbench-{target.platform}-py{target.python}{'-no-ray' if args.no_ray else ''}.tar"
        with tarfile.open(archive, "w") as tar:  # wheels are compressed already
            tar.add(content, arcname=".")
        carried = Path(scratch) / "carried"
        carried.mkdir()
        manifest = {
            "platform": target.platform, "python": target.python, "commit": commit or None, "weights": weights,
            "engines": engines, "with_ray": not args.no_ray, "archive": archive.name,
            "parts": split(archive, carried, args.max_part),
            "versions": versions,
            # What the machine has to have: the version that was tested with the rest.
            "machine": {name: pins(target)[name] for name in sorted(without - ({"ray"} if args.no_ray else set()))},
        }  # fmt: skip
        (carried / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        shutil.copy(Path(__file__).with_name("bundle_install.py"), carried / "install.py")
        for file in carried.iterdir():  # only now, so that what failed leaves nothing to carry
            file.rename(args.to / file.name)
    return sorted(args.to.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bundle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write to, new or empty")
    parser.add_argument("--python", choices=PYTHONS, default=here().python, help="of the machine it is for")
    parser.add_argument("--platform", choices=sorted({t.platform for t in TARGETS}), default=here().platform)
    parser.add_argument("--max-part", type=size, default=size("50M"), help="largest file to carry: 50M, 64MiB, …")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out: only `cellbench run --no-ray` then")
    parser.add_argument(
        "--without", default="", help="packages that the machine has itself, besides torch: numpy,scipy"
    )
    parser.add_argument("--engines", default="", help="engines to carry besides: cellpose4, with its weights if here")
    parser.add_argument("--weights", default="auto", help="folder with the published cyto3, auto (if it is here), none")
    args = parser.parse_args()
    try:
        files = make(args)
    except (WheelError, OSError) as error:
        print(f"scripts/bundle: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(f"{file.stat().st_size:>12,}  {file}")
    print(f"carry all of {args.to} over, then there: python{args.python} install.py", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
