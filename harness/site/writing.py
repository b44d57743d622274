"""The site as files: the data, the pages made from them, and their style and script."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet

from harness import schema
from harness.errors import CellbenchError
from harness.query import download
from harness.results.formatting import number
from harness.site import folder, pages, queries
from harness.submissions.collection import Collection

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
ROW_GROUP = 50_000  # rows; they come by hardware, so a page of one kind reads few groups
ASSETS = (("harness.report", "pages.css"), ("harness.site", "site.css"), ("harness.site", "site.js"))
OWN_MEANINGS = {
    "submission": "random id of the submission",
    "submitter": "id of the submitter: that of the submission, unless the maintainers know of others by the same",
    "slug": "the hardware in addresses",
    "hardware": "name of the hardware",
    "tier": "first-party, reproduced, community or flagged",
}


def write(collection: Collection, to: Path) -> int:
    """Write the site into a folder, whole or not at all, and return its number of pages.

    Raises CellbenchError for a folder with other files, and StorageError.
    """
    entries, samples = collection.entries, collection.samples
    for entry in entries:
        if not SLUG.fullmatch(entry.slug):
            raise CellbenchError(
                "the folder of a submission has no valid name", str(entry.path), "use a–z, 0–9 and hyphens"
            )
    with folder.replacing(to) as made:
        data, csv = made / queries.FILE, made / "all.csv"
        pyarrow.parquet.write_table(samples, data, compression="zstd", row_group_size=ROW_GROUP)
        pyarrow.csv.write_csv(samples, csv)
        with download.asking(data) as ask:
            texts = dict(pages.build(entries, ask))
        texts["data.html"] = pages.render(
            "data.html", "data.html", "Data and method", n_entries=len(entries), n_samples=samples.num_rows,
            n_hardware=len({(entry.slug, entry.backend) for entry in entries}), columns=_columns(samples),
            parquet_mb=number(data.stat().st_size / 1e6), csv_mb=number(csv.stat().st_size / 1e6),
        )  # fmt: skip
        texts |= {name: resources.files(room).joinpath(f"templates/{name}").read_text("utf-8") for room, name in ASSETS}
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")
    return sum(name.endswith(".html") for name in texts)


def _columns(samples: pyarrow.Table) -> list[tuple[str, str, str]]:
    """Name, type and meaning of each column."""
    meanings = {
        column.name: f"{column.meaning} [{column.unit}]" if column.unit else column.meaning for column in schema.SAMPLES
    } | OWN_MEANINGS
    return [(column.name, str(column.type), meanings.get(column.name, "")) for column in samples.schema]
