"""The catalogue of figures: the command, the documentation and the gallery all read it."""

import re
import sys

import pytest
from typer.testing import CliRunner

from harness.charts import catalogue
from harness.charts.figure import Figure
from harness.cli.app import app
from harness.results import tables
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
import gallery


def test_no_two_figures_have_one_name() -> None:
    names = [figure.name for figure in catalogue.FIGURES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("figure", catalogue.FIGURES, ids=lambda figure: figure.name)
def test_a_figure_is_made_of_queries_that_exist(figure: Figure) -> None:
    assert figure.queries
    assert {*figure.queries} <= {*tables.QUERIES, "history"}


def test_the_page_lists_every_figure() -> None:
    text = gallery.PAGE.read_text()
    assert catalogue.markdown() in text, "write it again: python scripts/gallery.py"
    assert gallery.page(text) == text


def test_every_picture_of_the_documents_is_of_a_figure() -> None:
    pictures = {path.stem for path in gallery.GALLERY.glob("*.png")}
    assert pictures - {"annotated"} == {figure.name for figure in gallery.shown()}  # scripts/annotate.py makes that one


def test_the_help_of_the_command_names_every_figure() -> None:
    output = CliRunner().invoke(app, ["chart", "--help"]).stdout.split("Figures:")[1]
    assert re.findall(r"^  (\S+)", output, re.MULTILINE) == [figure.name for figure in catalogue.FIGURES]
