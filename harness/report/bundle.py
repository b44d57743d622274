"""A report as one zip: the page, every figure as a picture, the medians and the samples."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness import files, schema
from harness.charts import rendering
from harness.report import html_report, markdown
from harness.report.html_report import Report
from harness.store import Store

README = """{headline}

report.html             open it in a browser; it needs no network
report.md               the same in words, for a comment or an issue
figures/*.png           its figures
medians.csv             one row a case
results/                every sample as Parquet; a folder of results like any other:
                        cellbench report --out results
                        cellbench merge results
"""


def write(made: Report, store: Store, path: Path) -> Path:
    """Write the zip atomically and return its path."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README.txt", README.format(headline=made.headline))
        file.writestr("report.html", html_report.html(made))
        file.writestr("report.md", markdown.text(made))
        file.writestr("medians.csv", html_report.medians_csv(made.data.medians))
        for figure in html_report.figures(made):
            if figure.draw(made.data).chart is None:
                continue  # the report has its values in a sentence
            file.writestr(f"figures/{figure.name}.png", rendering.picture(figure.chart(made.data), "png"))
        for name, content in _samples(made, store):
            file.writestr(f"results/samples/{name}", content)
    return files.write(path, buffer.getvalue())


def _samples(made: Report, store: Store) -> list[tuple[str, bytes]]:
    """Name and content of the Parquet file of each run and node, in the layout of a store."""
    found = []
    for run in made.scope.runs:
        samples = store.dataset().to_table(filter=pc.field("run_id") == run)
        for node in sorted(set(samples["node"].to_pylist())):
            mine = samples.filter(pc.field("node") == node)
            buffer = io.BytesIO()
            pq.write_table(mine.cast(schema.ARROW), buffer, compression="zstd")
            safe = re.sub(r"[^A-Za-z0-9.-]", "_", f"{run}-{node}")
            found.append((f"month={run[:4]}-{run[4:6]}/{safe}.parquet", buffer.getvalue()))
    return found
