"""The screen during a run, on stderr: the plan and the progress."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.fleet.driver.survey import Absent, Member, versions_of
from harness.machine.accelerators import Device
from harness.machine.versions import Versions
from harness.plan import estimate
from harness.plan.cases import Block, Case
from harness.plan.config import Config
from harness.results.formatting import count, duration, seconds
from harness.run.bench import Prepared, Result
from harness.schema import FINE, Sample

DAY_S = 86_400.0
DRAW_S = 0.2  # between two drawings of several nodes, whose samples arrive at any time
LINES = 4  # of a table of nodes without a node: title, head, the number of other nodes, and an empty one


def console(quiet: bool) -> Console:
    """The console for progress: stderr, since stdout is for data."""
    return Console(stderr=True, quiet=quiet, highlight=False)


def remaining(left_s: float) -> str:
    """The remaining time and the time of day of the end: 'about 12 min left, until about 14:32'."""
    if not left_s:
        return "done"
    until = datetime.now().astimezone() + timedelta(seconds=left_s)
    day = f"{until:%a }" if left_s > DAY_S / 2 else ""
    return f"about {duration(max(1.0, left_s))} left, until about {day}{until:%H:%M}"


def waiting(to: Console) -> Callable[[str], None]:
    """A function that prints the reason why a run has not begun."""
    return lambda text: to.print(text, markup=False)


class Progress:
    """Live progress of one run: a table on a terminal, a line per finished case elsewhere.

    It draws only when a sample has arrived, and the next repetition waits for it: nothing is drawn
    while something is being timed.
    """

    def __init__(self, prepared: Prepared, console: Console) -> None:
        self._prepared, self.console = prepared, console
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._blocks = {(b.node, b.device.id, b.index): _Pace(b) for b in prepared.blocks}
        self._of_node: dict[str, list[_Pace]] = {member.name: [] for member in prepared.members}
        for pace in self._blocks.values():
            self._of_node[pace.block.node].append(pace)
        self._left_s: dict[str, float] = {}  # the remaining time of each node, without the changed ones
        self._latest: dict[str, _Pace] = {}
        self._draw_s = 0.0  # when to draw again
        drivers = [member.name for member in prepared.members if member.drives]
        self._own = drivers[0] if drivers else None

    def begin(self, absent: Sequence[Absent] = ()) -> None:
        """Print the plan, the absent nodes, and the estimated time."""
        p, config = self._prepared, self._prepared.config
        image, say = p.material.image, self._say
        height_px, width_px = image.pixels.shape
        kind = "synthetic image" if image.is_synthetic else "image"
        models = "; ".join(f"{each.model}, weights: {each.kind}" for each in p.material.models)
        say(f"{kind} {image.name} ({height_px} × {width_px} px); model {models}")
        for warning in dict.fromkeys(each.warning for each in p.material.models if each.warning):
            self._warn(warning)
        for node in absent:
            self._warn(f"{node.name} is left out: {node.why}")
        devices, here = 0, versions_of(p.material.engines, config.engine_python)
        for member in p.members:
            measured = {pace.block.device.id: pace.block.device for pace in self._of_node[member.name]}
            devices += len(measured)
            self._member(member, list(measured.values()), here)
        for each in p.left_out:
            crops = ",".join(each.crops)
            self._warn(
                f"{each.model} on {each.device.id} of {each.node}: {crops} px are left out, since one call would take "
                f"about {duration(each.call_s)} or more. To measure them: --crops {crops}"
            )
        where = count(devices, "device") + (f" on {len(p.members)} nodes" if len(p.members) > 1 else "")
        say(
            f"{count(p.n_cases, 'case')}: crops {', '.join(map(str, config.crops))} px on {where}, "
            f"protocol {', '.join(config.protocols)}; {_effort_text(config)}"
            + (f", in each of {config.blocks} blocks" if config.blocks > 1 else "")
            + (f"; then {', '.join(config.passes)}" if config.passes else "")
        )
        say(f"{remaining(p.estimate_s)} (estimated from the kind of device; measured times will refine it)")

    def _member(self, member: Member, devices: Sequence[Device], here: Versions) -> None:
        many = len(self._prepared.members) > 1
        for device in devices:
            self._say(
                f"{f'{member.name} ' if many else ''}device {device.id}: {_device_text(device, member.node.threads)}"
            )
        for backend in member.lacking:
            self._warn(f"{member.name} is tagged for {backend}, but no such device computes there: its cases will fail")
        if different := member.differs(here):
            versions = ", ".join(
                f"{each.name} {each.there or 'missing'} (here {each.here or 'missing'})" for each in different
            )
            self._warn(f"{member.name} has other versions: {versions}")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def _warn(self, text: str) -> None:
        self.console.print(f"! {text}", style="bold yellow", markup=False)

    def sample(self, sample: Sample) -> None:
        """Take in one sample and redraw."""
        pace = self._blocks[sample["node"], sample["device"], sample["block"]]
        self._latest[sample["node"]] = pace
        self._left_s.pop(sample["node"], None)
        if sample["role"] == "cold" and sample["status"] == "ok":
            return
        news = pace.take(sample)
        if news and not self.console.is_terminal:
            many = f"{sample['node']} " if len(self._prepared.members) > 1 else ""
            self._say(f"{many}{self._device(pace.block)} {pace.case.label}: {news}; {self._left()}")
        # Where this machine is measured as well, the samples of others do not cause drawing.
        is_drawn = self.console.is_terminal and not self.console.quiet and self._own in (None, sample["node"])
        if is_drawn and time.monotonic() >= self._draw_s:
            self._live.start()
            self._live.update(self._table(pace), refresh=True)
            self._draw_s = time.monotonic() + (DRAW_S if len(self._prepared.members) > 1 else 0.0)

    def end(self, result: Result) -> None:
        """Print the place of the results."""
        self._say(f"run {result.run_id}: {duration(result.elapsed_s)}, saved in {result.store.root}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _device(self, block: Block) -> str:
        """The device of a block, with model and precision where the run has several."""
        config = self._prepared.config
        words = [block.model] if len(config.models) > 1 else []
        return " ".join([block.device.id, *words, *([block.dtype] if len(config.dtypes) > 1 else [])])

    def _left(self) -> str:
        return remaining(max(self._all_left_s().values()))  # nodes work at the same time

    def _all_left_s(self) -> dict[str, float]:
        """The remaining time of each node in s; only nodes with new samples are computed again."""
        for node in self._of_node.keys() - self._left_s.keys():
            paces = self._of_node[node]
            known = {each.place: each.pace_s for each in paces if each.pace_s is not None}
            self._left_s[node] = sum(each.left_s(known.get(each.place)) for each in paces)
        return self._left_s

    def _table(self, pace: _Pace) -> Table:
        return self._cases(pace) if len(self._prepared.members) == 1 else self._nodes()

    def _nodes(self) -> Table:
        """A line per node with its present case; where the screen is too small, of those with the most time left."""
        left_s, room = self._all_left_s(), max(1, self.console.height - LINES)
        names = [member.name for member in self._prepared.members]
        last = set(sorted(names, key=lambda name: -left_s[name])[:room])
        table = Table(box=None, pad_edge=False, title_justify="left", title=f"measuring; {self._left()}")
        for name in ("node", "device", "crop"):
            table.add_column(name)
        for name in ("repetitions", "median"):
            table.add_column(name, justify="right")
        table.add_column("")
        for name in (name for name in names if name in last):
            if (pace := self._latest.get(name)) is None:
                table.add_row(name, "", "", "", "", "starting")
                continue
            case = pace.case
            times_s = pace.times_s[case]
            median = seconds(statistics.median(times_s)) if times_s else ""
            status = pace.status.get(case, "")
            repetitions = f"{len(times_s)}/{pace.block.effort.most}"
            left = f"{status} {remaining(left_s[name])}".strip()
            table.add_row(name, self._device(pace.block), case.crop, repetitions, median, left)
        if len(names) > len(last):
            table.caption = f"and {count(len(names) - len(last), 'other node')} with less time left"
            table.caption_justify = "left"
        return table

    def _cases(self, pace: _Pace) -> Table:
        block = pace.block
        n = sum((each.node, each.device) == (block.node, block.device) for each in self._prepared.blocks)
        where = self._device(block) + (f", block {block.index + 1} of {n}" if n > 1 else "")
        table = Table(box=None, pad_edge=False, title_justify="left", title=f"measuring {where}; {self._left()}")
        table.add_column("case")
        for name in ("repetitions", "median"):
            table.add_column(name, justify="right")
        table.add_column("")
        for case in block.cases:
            times_s = pace.times_s[case]
            median = seconds(statistics.median(times_s)) if times_s else ""
            status = pace.status.get(case, "")
            table.add_row(case.label, f"{len(times_s)}/{block.effort.most}", median, status)
        return table


class _Pace:
    """The progress and the speed of one block: its tasks follow each other, so one index is enough."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.times_s: dict[Case, list[float]] = defaultdict(list)
        self.status: dict[Case, str] = {}
        self.pace_s: float | None = None  # per GFLOP of the network
        self._at, self._calls, self._begun = 0, 0, -1
        self._work_gflop = self._spent_s = 0.0

    @property
    def place(self) -> tuple[str, ...]:
        """The key of its pace: node, device, model and precision."""
        return self.block.node, self.block.device.id, self.block.model, self.block.dtype

    @property
    def case(self) -> Case:
        """The present case."""
        return self.block.tasks[self._at].case

    def take(self, sample: Sample) -> str | None:
        """Take in one sample; returns a line about its case where there is news."""
        began = self._advance(sample)
        task = self.block.tasks[self._at]
        key = task.case
        if sample["status"] not in FINE:
            self._calls = estimate.n_calls(task, self.block.effort)
            self.status[key] = sample["status"]
            return f"{sample['status']}: {sample['error_message']}"
        if sample["phase"] == "call" and sample["elapsed_s"] is not None:
            self._calls += 1
            self._work_gflop += estimate.gflop(task.case)
            self._spent_s += sample["elapsed_s"]
            self.pace_s = self._spent_s / self._work_gflop
        if sample["role"] == "timed" and sample["elapsed_s"] is not None:
            times_s = self.times_s[key]
            times_s.append(sample["elapsed_s"])
            if sample["stop_reason"]:
                self._calls = estimate.n_calls(task, self.block.effort)
                self.status[key] = "done"
                why = "" if sample["stop_reason"] == "fixed_n" else f", {sample['stop_reason']}"
                median = seconds(statistics.median(times_s))
                return f"{median} (median of {len(times_s)}{why}), {sample['n_cells']} cells"
        elif began and sample["role"] not in ("warmup", "control", "ceiling"):
            self.status[key] = sample["role"]
            return sample["role"] if sample["status"] == "ok" else f"{sample['role']} {sample['error_message']}"
        return None

    def left_s(self, pace_s: float | None) -> float:
        """The remaining time of the block in s at a device's pace, or at the engine's guess before it is known."""
        if pace_s is None:
            return estimate.block_s(self.block)
        effort, tasks = self.block.effort, self.block.tasks
        calls = [(task, estimate.n_calls(task, effort)) for task in tasks[self._at :]]
        calls[0] = (calls[0][0], max(0, calls[0][1] - self._calls))
        return pace_s * sum(n * estimate.gflop(task.case) for task, n in calls)

    def _advance(self, sample: Sample) -> bool:
        """Advance to the task of this sample; True if it is another one than before."""
        for index, task in enumerate(self.block.tasks[self._at :], self._at):
            same_role = sample["role"] in (("warmup", task.role) if task.role in ("timed", "control") else (task.role,))
            if task.case.is_of(sample) and same_role:
                began, self._begun = index > self._begun, index
                if index > self._at:
                    self._at, self._calls = index, 0
                return began
        return False


def _effort_text(config: Config) -> str:
    """The number of repetitions of each case, in words."""
    if config.precision is None:
        return f"{count(config.warmups, 'warm-up')} and {count(config.repeats, 'repetition')} each"
    return (
        f"at least {count(config.warmups, 'warm-up')} and {count(config.repeats, 'repetition')} each, "
        f"until the mean's 95 % CI is within ±{100 * config.precision:g} %"
    )


def _device_text(device: Device, threads: int) -> str:
    return f"{device.name}, {threads} threads" if device.backend == "cpu" else device.name
