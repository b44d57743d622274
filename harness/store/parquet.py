"""The Parquet files of a store: find them, check their schema, read and write them whole."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from harness import schema
from harness.errors import CellbenchError, DamagedFileError, StoreWarning, command, warn_once
from harness.files import is_hidden, is_settled, replacing, unreadable
from harness.store.scan import FORMAT, Opened, dataset

LOCAL = fs.LocalFileSystem()
OPENERS = 8  # footers read at once: a remote store answers in tens of milliseconds
HIDDEN = (".", "_")  # as in pyarrow and pandas, which read these folders, too
SETTLED_S = 600.0  # a file that changed since is perhaps being copied
SEAL = b"CRC1"  # before a footer: this, then the CRC-32 of the footer; Parquet has checksums of pages only
TAIL_BYTES = 2**16  # read at once; enough for the footer of a file with few row groups
ATTEMPTS = 5  # a listed file that is gone was compacted meanwhile; after this many times something else is wrong


def opened(filesystem: fs.FileSystem, root: PurePath, moves: bool = False) -> list[Opened]:
    """The files that hold the store's samples now, in order of their names.

    A file that a compacted one replaces is left out: a compaction that was killed leaves both behind. moves: whether
    damaged files may be set aside.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return _standing(filesystem, root, moves)
    return _standing(filesystem, root, moves)


def _standing(filesystem: fs.FileSystem, root: PurePath, moves: bool) -> list[Opened]:
    files = readable(filesystem, root, moves)
    gone = superseded(filesystem, files)
    return [file for file in files if file.path not in gone]


def readable(filesystem: fs.FileSystem, root: PurePath, moves: bool = False) -> list[Opened]:
    """Every file of this program; in a folder, incomplete files are left out, elsewhere they are an error."""

    def open_each(path: PurePath) -> Opened | None:
        try:
            return open_file(filesystem, path)
        except DamagedFileError:
            if not isinstance(filesystem, fs.LocalFileSystem):
                raise
            _leave_out(Path(root), Path(path), "it cannot be read as Parquet", moves)
            return None

    with ThreadPoolExecutor(OPENERS) as pool:
        return [file for file in pool.map(open_each, listed(filesystem, root)) if file]


def read(root: PurePath, files: Sequence[Opened], moves: bool = False) -> tuple[Sequence[Opened], pa.Table]:
    """Read every sample of these files; returns the undamaged files and their samples."""
    try:
        return files, dataset(files).to_table()
    except (pa.ArrowException, OSError):
        whole = sound(root, files, moves)
        return whole, dataset(whole).to_table()


def sound(root: PurePath, files: Iterable[Opened], moves: bool = False) -> list[Opened]:
    """The files whose pages all match their checksums; in a folder the others are left out."""
    found = []
    for file in files:
        try:
            dataset([file]).to_table()
            found.append(file)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            if not isinstance(file.fragment.filesystem, fs.LocalFileSystem):
                raise _damaged(file.path) from error
            _leave_out(Path(root), Path(file.path), "its pages are not what was written", moves)
    return found


def batches(files: Sequence[Opened], wanted: pc.Expression | None) -> Iterator[pa.RecordBatch]:
    """The samples of these files as they are read; DamagedFileError names a file that cannot be read."""
    try:
        yield from dataset(files).scanner(filter=wanted).to_batches()
    except (pa.ArrowException, OSError) as error:
        for file in files:
            try:
                dataset([file]).to_table()
            except (pa.ArrowException, OSError):
                raise _damaged(file.path) from error
        raise


def _leave_out(root: Path, path: Path, why: str, moves: bool) -> None:
    """Name a file that is not read. It stays in its place, unless it is certainly damaged and may be moved."""
    if not is_settled(path, SETTLED_S):
        warn_once(f"{path} is left out ({why}): it was changed lately, so it may still be being copied")
    elif moves:
        set_aside(root, path, why)
    else:
        cure = "put a copy back, or set it aside: " + command("compact", "--out", root)
        warn_once(f"{path} is damaged and left out ({why}): {cure}")


def set_aside(root: Path, path: Path, why: str) -> None:
    """Move a damaged file out of the way, unchanged, with a warning; where that fails it is only left out."""
    folder = root / "damaged"
    try:
        folder.mkdir(exist_ok=True)
        target = next(
            free for n in itertools.count() if not (free := folder / (path.name + (f".{n}" if n else ""))).exists()
        )
        path.rename(target)
    except FileNotFoundError:
        return  # another command has done it
    except OSError as error:
        text = f"{path} is damaged and left out, and cannot be moved: {error.strerror}"
    else:
        text = f"{path.name} is damaged and was moved to {folder}; if there is a copy, put it back"
    warnings.warn(f"{text} ({why})", StoreWarning, stacklevel=2)


def superseded(filesystem: fs.FileSystem, files: Iterable[Opened]) -> set[PurePath]:
    """The files that another one of these replaces."""
    files = list(files)
    here = {file.path for file in files}
    return {
        path
        for file in files
        for name, known in file.replaces.items()
        if (path := file.path.parent / name) in here and digest(filesystem, path) == known
    }


def digest(filesystem: fs.FileSystem, path: PurePath) -> str:
    """A short name for a file's content."""
    with filesystem.open_input_file(path.as_posix()) as file:
        return hashlib.sha256(file.read()).hexdigest()[:32]


def write(filesystem: fs.FileSystem, root: PurePath, samples: pa.Table) -> list[PurePath]:
    """Write samples as one file per run and node; returns the new files.

    Nothing is overwritten: existing files stay, other samples of the same name get a number.
    """
    new, begin = [], 0
    # Sorted once: a selection of each node's samples would read all of them for every node.
    ordered = samples.sort_by([("run_id", "ascending"), ("node", "ascending")])
    for (run_id, node), n in sorted(_counts(samples).items()):
        rows = ordered.slice(begin, n)
        begin += n
        path = _free(filesystem, root, run_id, node, rows)
        if path is not None:
            put(filesystem, path, lambda file, rows=rows: encode(file, rows))
            new.append(path)
    return new


def encode(
    file: BinaryIO,
    samples: pa.Table,
    level: int | None = None,
    row_group: int | None = None,
    metadata: Mapping[bytes, str] = MappingProxyType({}),
) -> None:
    """Write samples as Parquet with a seal, without Arrow's copy of the schema, which would double the opening time."""
    whole = io.BytesIO()
    with pq.ParquetWriter(
        whole, schema.BARE, compression="zstd", compression_level=level, write_page_checksum=True, store_schema=False
    ) as writer:
        writer.add_key_value_metadata({**schema.BARE.metadata, **metadata})
        writer.write_table(samples.cast(schema.BARE), row_group)
    content = whole.getbuffer()
    begin = _footer_begin(content[-8:], len(content))
    for part in (content[:begin], _seal(content[begin:]), content[begin:]):
        file.write(part)


def _seal(footer: bytes | memoryview) -> bytes:
    return SEAL + zlib.crc32(footer).to_bytes(4, "little")


def _footer_begin(end: bytes | memoryview, n_bytes: int) -> int:
    """The position of the footer in a file of n_bytes; end: its last 8 bytes, the footer's length and PAR1."""
    return n_bytes - 8 - int.from_bytes(end[:4], "little")


def _is_sealed(filesystem: fs.FileSystem, path: PurePath) -> bool:
    """Whether the footer is as it was written, as far as that is known: older files have no seal."""
    with filesystem.open_input_file(path.as_posix()) as file:
        n_bytes = file.size()
        n_read = min(n_bytes, TAIL_BYTES)
        tail = file.read_at(n_read, n_bytes - n_read)
        begin = _footer_begin(tail[-8:], n_bytes) - 8
        if begin < 0:
            return False
        if begin < n_bytes - n_read:
            n_read = n_bytes - begin
            tail = file.read_at(n_read, begin)
    sealed = tail[n_read - (n_bytes - begin) :]
    return sealed[:4] != SEAL or sealed[:8] == _seal(sealed[8:])


def parts(samples: pa.Table) -> set[tuple[str, str]]:
    """The pairs of run and node in these samples."""
    return set(_counts(samples))


def _counts(samples: pa.Table) -> dict[tuple[str, str], int]:
    """The number of samples of each run and node."""
    keys = ["run_id", "node"]
    pairs = samples.select(keys).group_by(keys).aggregate([([], "count_all")]).to_pylist()
    return {(pair["run_id"], pair["node"]): pair["count_all"] for pair in pairs}


def put(filesystem: fs.FileSystem, target: PurePath, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all; an object store shows an object only once it is whole."""
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    with (
        replacing(Path(target), make_folder=True, what="results")
        if is_local
        else filesystem.open_output_stream(target.as_posix())
    ) as file:
        write(file)


def listed(filesystem: fs.FileSystem, root: PurePath) -> list[PurePath]:
    """The Parquet files under samples/ that are not hidden."""

    def hidden(info: fs.FileInfo) -> bool:
        return is_hidden(type(root)(info.path).relative_to(root / "samples"), HIDDEN)

    def look() -> list[PurePath]:
        everything = filesystem.get_file_info(
            fs.FileSelector((root / "samples").as_posix(), recursive=True, allow_not_found=True)
        )
        return sorted(
            type(root)(info.path)
            for info in everything
            if info.type == fs.FileType.File and info.extension == "parquet" and not hidden(info)
        )

    # A folder that changes while it is read may show neither a compacted file nor those that it replaces.
    seen = look()
    while (again := look()) != seen:
        seen = again
    return seen


def open_file(filesystem: fs.FileSystem, path: PurePath) -> Opened:
    fragment = FORMAT.make_fragment(path.as_posix(), filesystem)
    try:
        if not _is_sealed(filesystem, path):
            raise _damaged(path)
        fragment.ensure_complete_metadata()
        found = fragment.physical_schema
        _ = found.names, schema.version_of(found)  # a name or the version may be damaged
    except FileNotFoundError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
    ) as error:  # damage may also look like a type that Arrow does not have
        if isinstance(error, OSError) and error.errno is not None:  # an error of the system, not of the file
            raise unreadable(path, error, "a results file") from error
        raise _damaged(path) from error
    _check(path, found)
    return Opened(path, fragment)


def _damaged(path: PurePath) -> DamagedFileError:
    return DamagedFileError(
        "a results file cannot be read as Parquet", str(path), "move it out of the store, or copy it here again"
    )


def _check(path: PurePath, found: pa.Schema) -> None:
    version = schema.version_of(found)
    if version is None:
        raise CellbenchError("this Parquet file was not written by cellbench", str(path), "move it out of the store")
    if version > schema.VERSION:
        raise CellbenchError(
            f"results of schema version {version}; this cellbench reads up to {schema.VERSION}",
            str(path),
            "update cellbench",
        )
    if wrong := schema.mistyped(found):
        raise CellbenchError(
            f"columns of another type than cellbench writes: {', '.join(wrong)}", str(path), "move it out of the store"
        )


def _free(filesystem: fs.FileSystem, root: PurePath, run_id: str, node: str, rows: pa.Table) -> PurePath | None:
    """A name that no other samples have; None where equal samples are there already."""
    folder = root / "samples" / f"month={run_id[:4]}-{run_id[4:6]}"
    stem = f"{run_id}-{re.sub(r'[^A-Za-z0-9.-]', '_', node)}"
    for number in itertools.count(1):
        path = folder / (f"{stem}.parquet" if number == 1 else f"{stem}-{number}.parquet")
        if filesystem.get_file_info(path.as_posix()).type == fs.FileType.NotFound:
            return path
        if dataset([open_file(filesystem, path)]).to_table().equals(rows):
            return None
