import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.schedule import notify
from tests.test_schedule_definition import make

NEWS = {"text": "**news**", "is_news": True, "status": "alarm", "run_id": "r1"}


@pytest.fixture
def server() -> Iterator[Any]:
    """A web server that answers with the statuses it is told to, and keeps what it was sent."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            web.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(web.answers.pop(0) if web.answers else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    web = HTTPServer(("127.0.0.1", 0), Answer)
    web.received, web.answers = [], []
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield web
    web.shutdown()
    thread.join()
    web.server_close()


def url(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/secret-path"


def test_a_webhook_is_sent_the_news_as_json(server: HTTPServer) -> None:
    assert notify.post(url(server), NEWS) is None
    assert server.received == [("/secret-path", "application/json", NEWS)]


def test_a_server_in_trouble_is_tried_again_and_one_that_refuses_is_not(server: HTTPServer) -> None:
    waited: list[float] = []
    server.answers[:] = [503, 429, 200]
    assert notify.post(url(server), NEWS, waited.append) is None
    assert waited == list(notify.TRIES_AFTER_S)
    server.answers[:] = [404]
    problem = notify.post(url(server), NEWS, waited.append)
    assert problem.startswith("answered 404")
    assert len(server.received) == 4


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    schedule = make(tmp_path, webhook="http://127.0.0.1:9/secret-path", markdown=str(tmp_path / "now.md"))
    [problem] = notify.tell(schedule, NEWS, lambda _: None)
    assert problem.startswith("webhook: cannot be reached")
    assert "secret-path" not in problem
    assert (tmp_path / "now.md").read_text() == "**news**\n"


def test_the_command_reads_the_news(tmp_path: Path) -> None:
    schedule = make(tmp_path, command=f"cat > '{tmp_path}/news.json'; echo $CELLBENCH_STATUS > '{tmp_path}/status'")
    assert notify.tell(schedule, NEWS) == []
    assert json.loads((tmp_path / "news.json").read_text()) == NEWS
    assert (tmp_path / "status").read_text() == "alarm\n"
    assert "status 3: no" in notify.run("echo no >&2; exit 3", NEWS)


def test_what_is_no_news_is_told_only_where_asked(tmp_path: Path, server: HTTPServer) -> None:
    quiet = NEWS | {"is_news": False, "status": "ok"}
    for when, n in (("news", 0), ("always", 1)):
        schedule = make(tmp_path, webhook=url(server), notify=when, markdown=str(tmp_path / "now.md"))
        assert notify.tell(schedule, quiet) == []
        assert len(server.received) == n
        assert (tmp_path / "now.md").exists()


def test_one_way_that_fails_stops_no_other(tmp_path: Path, server: HTTPServer) -> None:
    schedule = make(tmp_path, webhook=url(server), command="exit 1", markdown="/proc/nowhere/now.md")
    problems = notify.tell(schedule, NEWS, lambda _: None)
    assert [problem.split(":")[0] for problem in problems] == ["markdown", "command"]
    assert len(server.received) == 1
