"""Opened Parquet files as one dataset: facts from their footers, and their samples in the one schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from harness import schema

# Row groups are skipped by these columns; Arrow cannot do that by a dictionary-encoded column.
PRUNED_BY = ("run_id", "node")
# Texts with few different values, dictionary-encoded in a large store: half the memory, less time.
CODED = [
    field.name
    for field in schema.ARROW
    if field.type == pa.string() and field.name not in (*PRUNED_BY, "environment", "error_message")
]
# Each page has a checksum, so that a wrong bit from a disk or a cable never changes a number.
FORMAT = ds.ParquetFileFormat(
    read_options=ds.ParquetReadOptions(dictionary_columns=CODED),
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True),
)
STREAMED = pa.schema(
    [f.with_type(pa.dictionary(pa.int32(), f.type)) if f.name in CODED else f for f in schema.ARROW],
    metadata=schema.ARROW.metadata,
)
REPLACES = b"cellbench.replaces"  # in a compacted file: JSON object, name → digest of each file that it replaces


@dataclass(frozen=True)
class Opened:
    """A Parquet file of this program whose footer has been read."""

    path: PurePath
    fragment: ds.ParquetFileFragment

    @property
    def replaces(self) -> dict[str, str]:
        """The files of the same folder that this one replaces, by name, with the digests of their contents."""
        text = (self.fragment.metadata.metadata or {}).get(REPLACES)
        return json.loads(text) if text else {}

    @property
    def n_rows(self) -> int:
        """The number of samples to read."""
        return sum(group.num_rows for group in self.fragment.row_groups)

    def bounds(self, name: str) -> list[tuple[Any, Any] | None]:
        """The least and the greatest value of a column in each row group; None where the footer has none."""
        found, metadata = self.fragment.physical_schema, self.fragment.metadata
        index = found.get_field_index(name)
        if index < 0 or found.field(index).type != schema.ARROW.field(name).type:
            return [None] * metadata.num_row_groups
        return [_bounds(metadata.row_group(group).column(index), name) for group in range(metadata.num_row_groups)]


def dataset(files: Iterable[Opened]) -> ds.Dataset:
    """Every sample of these files, lazily, in the one schema: columns that an older file lacks are null."""
    fragments = [file.fragment for file in files]
    if not fragments:
        return ds.dataset(schema.table([]))
    return ds.FileSystemDataset(fragments, schema.ARROW, FORMAT, fragments[0].filesystem)


def streamed(files: Iterable[Opened]) -> ds.Dataset:
    """The same for a large store: dictionary-encoded, and files that a run or a time excludes are skipped at once.

    Arrow reads each file's statistics, too, but takes a millisecond for it; the bounds of a dataset take no time.
    """
    return ds.UnionDataset(
        STREAMED,
        [
            ds.FileSystemDataset([file.fragment], STREAMED, FORMAT, file.fragment.filesystem, _promise(file))
            for file in files
        ],
    )


def runs(files: Iterable[Opened]) -> set[str]:
    """The runs in these files: by the footers where those name one run, else by the column."""
    known, several = set(), []
    for file in files:
        for group, bounds in enumerate(file.bounds("run_id")):
            if bounds and bounds[0] == bounds[1]:
                known.add(bounds[0])
            else:
                several.append(replace(file, fragment=file.fragment.subset(row_group_ids=[group])))
    for batch in dataset(several).scanner(columns=["run_id"]).to_batches():
        known |= set(batch["run_id"].unique().to_pylist())
    return known - {None}


def holding(files: Iterable[Opened], run_id: str) -> list[Opened]:
    """The files that may contain a run, by their footers; the others need not be read."""
    wanted = pc.field("run_id") == run_id
    parts = (replace(file, fragment=file.fragment.subset(filter=wanted)) for file in files)
    return [part for part in parts if part.fragment.row_groups]


def _bounds(column: pq.ColumnChunkMetaData, name: str) -> tuple[Any, Any] | None:
    statistics = column.statistics
    if column.path_in_schema != name or statistics is None or not statistics.has_min_max or statistics.null_count != 0:
        return None
    try:
        return statistics.min, statistics.max
    except (ValueError, OverflowError):  # a damaged footer: not a text, not a time
        return None


def _promise(file: Opened) -> pc.Expression:
    """A condition that every sample of a file fulfils, by its footer."""
    promise = pc.scalar(True)
    for name in ("run_id", "started_at"):
        bounds = file.bounds(name)
        if bounds and all(bounds):
            known = [each for each in bounds if each]
            least, greatest = min(low for low, _ in known), max(high for _, high in known)
            promise &= (pc.field(name) >= least) & (pc.field(name) <= greatest)
    return promise
