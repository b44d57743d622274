import json
from pathlib import Path

from typer.testing import CliRunner

from harness import schema
from harness.cli.app import app
from harness.machine import facts
from harness.query import dictionary
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "schema.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == dictionary.page(), "write it again: cellbench schema --md > docs/schema.md"


def test_every_column_and_every_fact_is_there() -> None:
    assert dictionary.columns("samples")["column"].to_pylist() == [column.name for column in schema.SAMPLES]
    assert dictionary.columns("environment")["column"].to_pylist() == [fact.name for fact in facts.FACTS]
    assert set(schema.REQUIRED) <= set(schema.ARROW.names)
    assert schema.SECTIONS.keys() <= set(schema.ARROW.names)


def test_every_version_has_its_history() -> None:
    page = dictionary.page()
    for version in range(1, schema.VERSION + 1):
        assert f"\n{version}. " in page
    assert {column.since for column in schema.SAMPLES} <= set(range(1, schema.VERSION + 1))


def test_units_are_in_the_names() -> None:
    suffixes = {"s": "_s", "px": "_px", "bytes": "_bytes", "J": "_j", "W": "_w", "MHz": "_mhz", "°C": "_c",
                "GFLOP": "_gflop", "GB": "_gb", "ns": "_ns"}  # fmt: skip
    for column in [*schema.SAMPLES, *facts.FACTS]:
        if column.unit in suffixes:
            assert column.name.endswith(suffixes[column.unit]), column.name


def test_the_command_prints_it(tmp_path: Path) -> None:
    ask = CliRunner()
    rows = json.loads(ask.invoke(app, ["schema", "--json"]).stdout)
    assert {row["column"]: row["unit"] for row in rows}["elapsed_s"] == "s"
    assert "cpu_model" in ask.invoke(app, ["schema", "environment"]).stdout
    assert ask.invoke(app, ["schema", "--md"]).stdout == dictionary.page()
    assert "no table" in str(ask.invoke(app, ["schema", "nope"]).exception)
