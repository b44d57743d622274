"""Test all readers with seeded hostile input: images, profiles, results, SQL, paths, texts, submissions.

    python scripts/fuzz.py [--seed 0] [--counts tiff=8000,profile=4500,path=1500,…]

Each input must be read, or rejected with a CellbenchError, in 10 s of processor time and 8 GiB of address space, and
nothing may be written outside the scratch folder. A defect is printed with its number: the same seed and number make
the same input again (--kind sql --only 17). tests/hostile.py makes the inputs. Exit code 1 if there was any defect.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
COUNTS = "tiff=8000,profile=4500,sql=4700,parquet=400,journal=400,path=1500,letters=500,submission=6000"
DEADLINE_S = 10.0  # of processor time, since wall time depends on the load of the machine
STUCK_S = 300.0  # for an input that waits without computing
MEMORY_BYTES = 8 * 2**30  # of address space, libraries included
RUNNING = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class")
WRITING = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}


def child(kind: str, seed: int, first: int, last: int, scratch: Path) -> None:
    """Try the inputs from first to last and print the outcome of each as a JSON line."""
    sys.path.insert(0, str(ROOT))
    from tests import hostile

    written: list[str] = []
    answer = os.fdopen(os.dup(1), "w")
    for number in range(3):  # import and start what has to be before the clock runs
        hostile.verdict(kind, hostile.draw(kind, random.Random(number)), scratch)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))

    def watch(event: str, arguments: tuple) -> None:
        if event.startswith(RUNNING):
            written.append(event)
        opens = event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opens or event in WRITING:
            path = os.path.abspath(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes) else ""
            if path and not path.startswith((str(scratch), "/dev/")):
                written.append(f"{event} {path}")

    sys.addaudithook(watch)
    for number in range(first, last):
        data = hostile.draw(kind, random.Random(f"{seed}/{kind}/{number}"))
        print(json.dumps({"started": number}), file=answer, flush=True)
        try:
            outcome, error = hostile.verdict(kind, data, scratch), None
        except BaseException as raised:
            outcome, error = "defect", f"{type(raised).__name__}: {raised}"[:300]
        if written:
            outcome, error = "defect", f"wrote outside, or started a program: {written}"
            written.clear()
        print(json.dumps({"number": number, "outcome": outcome, "error": error}), file=answer, flush=True)


def tried(kind: str, seed: int, first: int, count: int, scratch: Path) -> Iterator[tuple[int, str, str | None]]:
    """Number, outcome and error of each input; a child that crashes or hangs costs that input only."""
    number = first
    while number < first + count:
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", kind, str(seed), str(number), str(first + count), str(scratch)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=scratch,
            env={**os.environ, "HOME": str(scratch), "TMPDIR": str(scratch)},
        )  # fmt: skip
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
        answer = psutil.Process(process.pid)
        cpu_s, running, silent_since = 0.0, False, time.monotonic()
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                used_s = sum(answer.cpu_times()[:2]) if process.poll() is None else 0.0
                hangs = running and used_s - cpu_s > DEADLINE_S
                if not hangs and time.monotonic() - silent_since < STUCK_S:
                    continue
                process.kill()
                yield number, "defect", f"hangs: {used_s - cpu_s:.0f} s of processor time"
                number += 1
                break
            silent_since = time.monotonic()
            if not line:
                if number < first + count:
                    yield number, "defect", f"the process died: {process.wait()}"
                    number += 1
                break
            output = json.loads(line)
            if "started" in output:
                running = True
                cpu_s = sum(answer.cpu_times()[:2]) if process.poll() is None else cpu_s
            if "number" in output:
                yield output["number"], output["outcome"], output["error"]
                number = output["number"] + 1
        process.wait()


def _forward(stream: Iterable[str], lines: queue.SimpleQueue[str]) -> None:
    """Put each line into the queue as soon as it is there, and an empty one at the end."""
    for line in stream:
        lines.put(line)
    lines.put("")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--counts", default=COUNTS)
    parser.add_argument("--kind", help="with --only")
    parser.add_argument("--only", type=int, help="try the one input with this number")
    args = parser.parse_args()
    counts = {kind: int(n) for kind, n in (word.split("=") for word in args.counts.split(","))}
    defects = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        outside = Path(folder) / "outside"
        scratch = outside / "scratch"
        scratch.mkdir(parents=True)
        plan = [(args.kind, args.only, 1)] if args.only is not None else [(k, 0, n) for k, n in counts.items()]
        for kind, first, count in plan:
            begin_s, outcomes = time.monotonic(), Counter()
            for number, outcome, error in tried(kind, args.seed, first, count, scratch):
                outcomes[outcome] += 1
                if error:
                    print(f"{kind} {number}: {error}", flush=True)
            defects += outcomes["defect"]
            answer = ", ".join(f"{outcomes[name]} {name}" for name in ("fine", "refused", "defect"))
            print(f"{kind}: {sum(outcomes.values())} inputs, {answer}, {time.monotonic() - begin_s:.0f} s", flush=True)
        stray = [str(p) for p in outside.iterdir() if p != scratch]
        if stray:
            print(f"written outside: {stray}")
    return int(bool(defects or stray))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], *map(int, sys.argv[3:6]), Path(sys.argv[6]))
        sys.exit(0)
    sys.exit(main())
