"""The requirements of a command before it begins: streams for every letter, a folder, a home, complete options."""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from harness import files
from harness.errors import CellbenchError

# Replacements of this program's own letters; other letters lose their accents, or become question marks.
PLAIN = {"×": "x", "±": "+-", "…": "...", "–": "-", "—": "-", "−": "-", "→": "->", "µ": "u", "μ": "u", "°": " deg ",
         "≤": "<=", "≥": ">=", "≈": "~", "’": "'", "“": '"', "”": '"', "·": "*"}  # fmt: skip


# The errors of a system whose limits are reached.
LIMITS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO}
LIMIT_FIX = "see the limits of this shell or container: ulimit -a"


def prepare(words: Sequence[str]) -> None:
    """Correct what can be corrected, and raise CellbenchError for the rest; words: the arguments of the command."""
    from harness.machine import folders

    _streams()
    try:
        os.getcwd()
    except OSError as error:
        where = os.environ.get("PWD")
        raise CellbenchError("the current folder is gone", where, "change into one that is there: cd ~") from error
    folders.complete(os.environ)
    _check_values(words)


def _streams() -> None:
    """Write what the terminal's encoding lacks in other letters, and names of files as they are.

    A stream that is closed leads nowhere; else the next file that is opened would have its number.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    codecs.register_error("cellbench.plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cellbench.plain")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def plain(error: UnicodeError) -> tuple[bytes | str, int]:
    """Replacements for letters that cannot be encoded. Bytes of file names that are not UTF-8 stay."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    if error.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        return "?" * (error.end - error.start), error.end  # a lone byte would be half a letter
    return b"".join(_plain(letter) for letter in error.object[error.start : error.end]), error.end


def _plain(letter: str) -> bytes:
    if 0xDC80 <= ord(letter) <= 0xDCFF:
        return bytes([ord(letter) - 0xDC00])
    text = PLAIN.get(letter) or unicodedata.normalize("NFKD", letter)
    return text.encode("ascii", "ignore") or b"?"


def refused_by_system(error: Exception) -> CellbenchError | None:
    """The error to print if a limit of the system or a full disk caused this one; otherwise None."""
    if isinstance(error, OSError) and error.errno in LIMITS:
        where = "output" if error.filename is None else str(error.filename)
        return CellbenchError(files.reason(error), where, files.FIXES.get(error.errno, LIMIT_FIX))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        return CellbenchError(str(error) or "there is not enough memory", "this process", LIMIT_FIX)
    return None


def _check_values(words: Sequence[str]) -> None:
    """Reject options with an empty value, such as --out "$DIR" where DIR is not set."""
    if words[:1] == ["cellpose"]:  # its arguments are Cellpose's
        return
    for before, word in pairwise(["", *words]):
        if not word.strip() or re.fullmatch(r"--[a-z-]+=\s*", word):
            where = word if word.strip() else f"{before} {word!r}".strip()
            raise CellbenchError("an option or argument is empty", where, "give it a value, or leave it out")
