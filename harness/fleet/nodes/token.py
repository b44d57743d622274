"""The token by which the nodes of a fleet allow each other to run code: made, kept secret, copied.

Ray looks for it in RAY_AUTH_TOKEN, then in the file that RAY_AUTH_TOKEN_PATH names, then in ~/.ray/auth_token
(docs.ray.io, ray-security/token-auth). Any user with the token can run any code as the user of every node.
"""

from __future__ import annotations

import secrets
import shlex
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness import files
from harness.errors import CellbenchError

MAKE = "make one on the head: cellbench node token; bring it here: cellbench node token --from USER@HEAD"
OTHER_IS_THERE = 17  # exit code of SEND, of our own choosing; ssh's own failure is 255

# The shell commands of the other machine, with a token on stdin. Never half a token, never readable by others.
SEND = f"""
umask 077
mkdir -p ~/.ray && cat > ~/.ray/auth_token.new || exit 1
if [ -s ~/.ray/auth_token ] && [ "$(cat ~/.ray/auth_token)" != "$(cat ~/.ray/auth_token.new)" ] && [ "$1" != replace ]
then rm ~/.ray/auth_token.new; exit {OTHER_IS_THERE}
fi
mv -f ~/.ray/auth_token.new ~/.ray/auth_token
"""

Ssh = Callable[[str, str, str | None], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Token:
    """A token and its file; None if it is in RAY_AUTH_TOKEN."""

    text: str = field(repr=False)
    file: Path | None

    @property
    def place(self) -> str:
        return str(self.file) if self.file else "RAY_AUTH_TOKEN"


def file(environ: Mapping[str, str], home: Path) -> Path:
    """The path of the token's file in Ray."""
    return Path(environ.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")


def find(environ: Mapping[str, str], home: Path) -> Token | None:
    """The token of this user, or None; an empty one and one that others can read are rejected."""
    if text := environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(text, None)
    path = file(environ, home)
    try:
        text, mode = path.read_text().strip(), path.stat().st_mode & 0o777
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CellbenchError("the token cannot be read", f"{path}: {error}", f"correct or delete it; {MAKE}") from error
    if mode & 0o077:
        raise CellbenchError(
            f"other users of this machine may read the token (mode {mode:04o}), and run code on every node with it",
            str(path), f"chmod 600 {shlex.quote(str(path))}; if they may have done so, delete it and make a new one",
        )  # fmt: skip
    if not text:
        raise CellbenchError("the token is empty", str(path), f"delete the file; {MAKE}")
    return Token(text, path)


def required(environ: Mapping[str, str], home: Path) -> Token:
    """The token of this user, which must be there."""
    token = find(environ, home)
    if token is None:
        raise CellbenchError("this machine has no token, and a fleet requires one", str(file(environ, home)), MAKE)
    return token


def found_or_made(environ: Mapping[str, str], home: Path) -> tuple[Token, bool]:
    """The token of this user and whether it was made now."""
    token = find(environ, home)
    if token:
        return token, False
    return keep(secrets.token_hex(32), file(environ, home)), True  # as long as Ray's own generator makes them


def make_before_ray(environ: Mapping[str, str], home: Path) -> None:
    """Make the token of this user where there is none: Ray would make one that every user of the machine can read."""
    path = file(environ, home)
    if not environ.get("RAY_AUTH_TOKEN") and not path.exists():
        with suppress(CellbenchError):  # where it cannot be written, Ray reports it
            keep(secrets.token_hex(32), path)


def keep(text: str, path: Path, replace: bool = False) -> Token:
    """Write a token into its file, readable by its owner only; a different one that is there stays unless replaced."""
    text = text.strip()
    if path.exists() and path.read_text().strip() != text and not replace:
        raise CellbenchError(
            "another token is here already, maybe of another fleet", str(path), "if it is not needed, add --replace"
        )
    if not path.parent.exists():
        with suppress(OSError):  # its errors are found when the file is written
            path.parent.mkdir(mode=0o700, parents=True)
    return Token(text, files.write(path, text, mode=0o600, what="the token"))


def send(token: Token, to: str, replace: bool = False, ssh: Ssh | None = None) -> None:
    """Write the token into ~/.ray/auth_token of USER@HOST; it goes over ssh's stdin and is on no command line."""
    command = shlex.join(["sh", "-c", SEND, "sh", "replace" if replace else "keep"])
    done = (ssh or _ssh)(_destination(to), command, token.text)
    if done.returncode == OTHER_IS_THERE:
        raise CellbenchError(
            f"{to} has another token already, maybe of another fleet", f"{to}:~/.ray/auth_token",
            "if it is not needed there, add --replace",
        )  # fmt: skip
    _succeeded(done, to, "the token could not be written there")


def fetch(source: str, path: Path, replace: bool = False, ssh: Ssh | None = None) -> Token:
    """Bring the token of USER@HOST, usually the head, to this machine."""
    done = (ssh or _ssh)(_destination(source), "cat .ray/auth_token", None)
    _succeeded(done, source, "no token could be read there; make one there: cellbench node token")
    if not done.stdout.strip():
        raise CellbenchError(
            "the token there is empty", f"{source}:~/.ray/auth_token", "make one: cellbench node token"
        )
    return keep(done.stdout, path, replace)


def _destination(text: str) -> str:
    if not text or text.startswith("-"):
        raise CellbenchError(f"{text!r} is not a destination of ssh", None, "give USER@HOST")
    return text


def _succeeded(done: subprocess.CompletedProcess[str], where: str, what: str) -> None:
    if done.returncode == 255:
        raise CellbenchError(f"ssh could not connect to {where}", None, f"try it by hand: ssh {where}")
    if done.returncode:
        raise CellbenchError(what, f"{where}:~/.ray/auth_token", f"see why: ssh {where} ls -la .ray")


def _ssh(destination: str, command: str, stdin: str | None) -> subprocess.CompletedProcess[str]:
    # ssh reads passwords from the terminal itself, and its messages belong there, too.
    try:
        return subprocess.run(
            ["ssh", "--", destination, command], input=stdin, stdout=subprocess.PIPE, text=True, check=False,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
    except FileNotFoundError:
        raise CellbenchError("there is no ssh on this machine", None, "install OpenSSH's client") from None
