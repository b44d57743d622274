"""Stores by address: file:// and a real S3 protocol, spoken by moto's server on the loopback."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import CellbenchError
from harness.query import Session
from harness.store import Store
from tests.conftest import RUN_ID, make_sample, make_store

SAMPLES = [make_sample(node=node, repetition=i) for node in ("desk", "mac") for i in range(3)]


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    make_store(tmp_path, SAMPLES)
    store = Store.at(tmp_path.as_uri())
    assert (store.root, store.is_local) == (tmp_path, True)
    assert store.dataset().count_rows() == 6


@pytest.mark.parametrize("address", ["nope://x/y", "s3://"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(CellbenchError, match="by this address"):
        Store.at(address)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty place in an object store, as a user writes it."""
    moto = pytest.importorskip("moto.server", reason="the S3 server is a test dependency: pip install moto[s3] flask")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "us-east-1"),
                            ("AWS_EC2_METADATA_DISABLED", "true")):  # fmt: skip
            patch.setenv(name, value)
        where = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
        fs.S3FileSystem(**where, allow_bucket_creation=True).create_dir("lab")
        yield f"s3://lab/results?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


@pytest.mark.slow
def test_results_are_pushed_read_and_pulled(tmp_path: Path, bucket: str) -> None:
    here = make_store(tmp_path / "here", SAMPLES)
    there = Store.make(bucket)
    assert there.merge(here) == (2, 0)
    assert Store.at(bucket).merge(here) == (0, 2)
    session = Session(Store.at(bucket))
    rows = session.table("SELECT node, n FROM medians WHERE run_id = $run ORDER BY node", run=RUN_ID).to_pylist()
    assert rows == [{"node": "desk", "n": 3}, {"node": "mac", "n": 3}]
    back = Store.make(tmp_path / "back")
    assert back.merge(there) == (2, 0)
    assert back.dataset().to_table().equals(here.dataset().to_table())


@pytest.mark.slow
def test_commands_take_an_address(tmp_path: Path, bucket: str) -> None:
    make_store(tmp_path / "here", SAMPLES)
    ask = CliRunner()
    assert ask.invoke(app, ["merge", str(tmp_path / "here"), "--out", bucket]).exit_code == 0
    for words in (["list"], ["show"], ["query", "FROM medians"], ["export", "--to", str(tmp_path / "x.csv")]):
        done = ask.invoke(app, [*words, "--out", bucket])
        assert done.exit_code == 0, done.exception


@pytest.mark.slow
def test_what_does_not_answer_is_said(bucket: str) -> None:
    for address in (bucket.replace("lab", "nowhere"), "s3://k:secret@lab/x?endpoint_override=127.0.0.1:9&scheme=http"):
        with pytest.raises(CellbenchError) as caught:
            Store.at(address).dataset()
        assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_run_does_not_journal_into_a_bucket(bucket: str) -> None:
    with pytest.raises(CellbenchError, match="journal"), Store.make(bucket).journal(RUN_ID):
        pass
    with pytest.raises(CellbenchError, match="folder that it can lock"):
        Store.make(bucket).compact()
