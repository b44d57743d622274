"""Measure on every node of a fleet; runs on its head, from where the results are fetched.

    ray submit cluster.yaml scripts/fleet_run.py -- --profile article
    ray job submit --working-dir scripts -- python fleet_run.py --profile article

Options are those of `cellbench run`. Waits for the workers that cluster.yaml names, measures, and prints how to copy
the results. Any Python 3 will do: the installed cellbench is another process. Exit codes are those of
`cellbench run`, and 3 also where a worker of cluster.yaml was missing; `ray submit` itself distinguishes only
success and failure, so with --receipt NAME the exit code is finally written into the file receipts/NAME of the results.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

INSTALLED = "~/cellbench/.venv/bin/cellbench"
BOOTSTRAP = "~/ray_bootstrap_config.yaml"  # what `ray up` leaves on the head: cluster.yaml as JSON
RESULTS = "~/cellbench-results"
# `ray up` returns when the head runs; the head then starts the workers.
PATIENCE_S = float(os.environ.get("FLEET_PATIENCE_S", "180"))


def main(arguments):
    receipt, arguments = taken(arguments, "--receipt")
    out, arguments = taken(arguments, "--out")
    address, arguments = taken(arguments, "--address")
    out = os.path.expanduser(out or RESULTS)
    cellbench = installed()
    missing = wait_for_workers(cellbench, "--nodes" in words_of(arguments))
    for ip in missing:
        say(f"{ip} is not there; why: ray exec cluster.yaml 'tail -n 50 /tmp/ray/session_latest/logs/monitor.*'")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches cellbench too, which saves and ends; wait for that
    command = [cellbench, "run", "--address", address or "auto", "--out", out, *arguments]
    code = subprocess.call(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    code = 128 - code if code < 0 else code
    if missing and code == 0:
        code = 3
    if os.path.isdir(out):
        say(f"bring the results home: ray rsync-down cluster.yaml '{home_relative(out)}/' results/")
    if receipt:
        write_receipt(os.path.join(out, "receipts"), receipt, code)
    return code


def installed():
    """The path of the cellbench command: CELLBENCH, next to this Python, in PATH, or as in cluster.yaml."""
    beside = os.path.join(os.path.dirname(sys.executable), "cellbench")
    for path in (os.environ.get("CELLBENCH"), beside, shutil.which("cellbench"), os.path.expanduser(INSTALLED)):
        if path and os.access(path, os.X_OK):
            return path
    say(f"cellbench is not installed here: neither in PATH nor as {INSTALLED}; see docs/fleet.md, or set CELLBENCH")
    sys.exit(2)


def wait_for_workers(cellbench, chosen):
    """Wait until every worker of cluster.yaml is up, and return those that are not; none where nodes were chosen."""
    expected = () if chosen else workers()
    end_s, answer = time.monotonic() + PATIENCE_S, False
    while expected:
        missing = sorted(set(expected) - up(cellbench))
        if not missing or time.monotonic() > end_s:
            return missing
        if not answer:
            say(f"waiting for {', '.join(missing)}")
            answer = True
        time.sleep(3)
    return []


def workers():
    """Addresses of the workers in cluster.yaml; none if this fleet was not started by `ray up`."""
    try:
        with open(os.path.expanduser(BOOTSTRAP)) as file:
            return tuple(json.load(file)["provider"]["worker_ips"])
    except (OSError, ValueError, KeyError):
        return ()


def up(cellbench):
    """Addresses of the nodes that are up."""
    done = subprocess.run([cellbench, "node", "status", "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return set()
    return {node["ip"] for node in json.loads(done.stdout)["nodes"] if node["state"] == "up"}


def taken(arguments, name):
    """An option's value and the arguments without it; both --name VALUE and --name=VALUE."""
    value, left, rest = None, [], iter(arguments)
    for word in rest:
        if word == name:
            value = next(rest, None)
        elif word.startswith(name + "="):
            value = word[len(name) + 1 :]
        else:
            left.append(word)
    return value, left


def words_of(arguments):
    return {word.split("=")[0] for word in arguments}


def home_relative(path):
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path


def write_receipt(folder, name, code):
    """The exit code, in a file that is whole or not there."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as file:
        file.write(str(code))
    os.replace(path + ".new", path)


def say(text):
    print("fleet_run:", text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
