"""Send messages about a night: a Markdown file, a command, a webhook. One that fails stops no other."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import CellbenchError
from harness.schedule.definition import Schedule

TIMEOUT_S = 30.0
TRIES_AFTER_S = (0.0, 5.0, 30.0)

Message = dict[str, Any]


def tell(schedule: Schedule, message: Message, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Send the message by every way of the schedule; returns the failures and their reasons.

    The Markdown file is always written; command and webhook are used for news only, unless `notify` is always.
    """
    problems = []
    if schedule.markdown:
        try:
            files.write(Path(schedule.markdown), message["text"] + "\n", make_folder=True)
        except CellbenchError as error:
            problems.append(f"markdown: {error.what} ({error.where})")
    if not message["is_news"] and schedule.notify != "always":
        return problems
    if schedule.command and (problem := run(schedule.command, message)):
        problems.append(f"command: {problem}")
    if schedule.webhook and (problem := post(schedule.webhook, message, sleep)):
        problems.append(f"webhook: {problem}")
    return problems


def run(command: str, message: Message) -> str | None:
    """Run a shell command with the message as JSON on its stdin; returns its error, if any."""
    environment = os.environ | {"CELLBENCH_STATUS": message["status"], "CELLBENCH_RUN": message["run_id"] or ""}
    try:
        done = subprocess.run(
            command, shell=True, input=json.dumps(message), text=True, env=environment, capture_output=True,
            check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"took longer than {TIMEOUT_S:g} s"
    return f"status {done.returncode}: {done.stderr.strip()[-200:]}" if done.returncode else None


def post(url: str, message: Message, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """Send the message as JSON to a webhook, up to three times; returns the error, if any.

    `text` is shown by chat programs (Slack, Mattermost). The address is in no message: it often is a secret.
    """
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "cellbench"}
    problem = None
    for wait_s in TRIES_AFTER_S:
        sleep(wait_s)
        try:
            request = urllib.request.Request(url, data=body, headers=headers, method="POST")
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"answered {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                return problem  # a rejected message will be rejected again
        except (urllib.error.URLError, OSError, ValueError) as error:
            problem = f"cannot be reached: {getattr(error, 'reason', None) or type(error).__name__}"
    return problem
