"""The nodes of a Ray cluster: connect, take each node's bench slot, survey it, deliver; the only importer of ray."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from harness.engines.registry import DEFAULT
from harness.errors import CellbenchError, FleetUnreachableError
from harness.fleet import network, ray_settings, tags
from harness.fleet.driver import artifacts, node_types, scheduler, survey
from harness.fleet.driver.actor import Relay
from harness.fleet.driver.artifacts import Parcel
from harness.fleet.driver.survey import Absent, Member
from harness.fleet.nodes import daemon, status, token
from harness.machine import folders
from harness.measure.wire import Order
from harness.schema import Sample

TURN = "cellbench-turn"
PATIENT_S = 10.0  # after this long without an answer, report the cause of the wait
SURVEY_S = 3600.0  # for a slot that another run holds, and the survey itself
JOIN_S = 3600.0  # for nodes that are expected
RENT_S = 1800.0  # for nodes that the autoscaler starts, their installation included
DELIVER_S = 600.0  # 40 MB at 0.5 Mbit/s

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Tagged:
    """A live node of the cluster that was started for measuring."""

    node_id: str
    name: str
    promised: Mapping[str, int]


@dataclass(frozen=True)
class _Rented:
    """A node that the autoscaler starts; it is called by its type, since its host name means nothing later."""

    name: str


class Cluster:
    """The nodes of a Ray cluster, each with its bench slot taken until close()."""

    use_ray = True

    def __init__(
        self,
        ray: Any,
        address: str | None,
        relays: Mapping[str, Any],
        found: Sequence[Member],
        absent: Sequence[Absent],
        is_rented: bool = False,
    ) -> None:
        self._ray, self.address, self._relays = ray, address, dict(relays)
        self.members, self.absent, self._is_rented = found, absent, is_rented

    def deliver(self, files: Sequence[Parcel]) -> Mapping[str, str]:
        """Send the files that a node lacks; a node that cannot store them stops the run before it begins."""
        label, sums = artifacts.label(files), {each.name: each.sha256 for each in files}
        content = self._ray.put([(each.name, each.sha256, each.content) for each in files])
        pending = {name: relay.find.remote(label, sums) for name, relay in self._relays.items()}
        places = {name: self._get(name, ref) for name, ref in pending.items()}
        sent = {name: self._relays[name].unpack.remote(content) for name, place in places.items() if place is None}
        return {**places, **{name: self._get(name, ref) for name, ref in sent.items()}}

    def batches(self, orders: Sequence[Order]) -> Generator[Sequence[Sample]]:
        facts = {member.name: member.facts for member in self.members}
        return scheduler.batches(self._ray, dict(self._relays), orders, facts, self._release)

    def close(self) -> None:
        for relay in self._relays.values():
            self._ray.kill(relay)
        self._ray.shutdown()

    def _release(self, name: str) -> None:
        """Let a rented node go as soon as its work is done: it is paid by the second."""
        if self._is_rented:
            self._ray.kill(self._relays.pop(name))

    def _get(self, name: str, ref: Any) -> Any:
        try:
            return self._ray.get(ref, timeout=DELIVER_S)
        except self._ray.exceptions.RayError as error:
            raise FleetUnreachableError(
                f"image and weights did not reach the node: {scheduler.reason(error)}", name,
                "look at the node: cellbench doctor there; or leave it out with --nodes",
            ) from error  # fmt: skip


def join(
    address: str | None,
    names: Sequence[str] = (),
    say: Say = lambda _: None,
    perform: Any = None,
    n_awaited: int = 0,
    engines: Sequence[str] = (DEFAULT,),
    python: str | None = None,
    rent: Sequence[str] = (),
) -> Cluster:
    """Connect to the cluster at an address (auto or HOST:PORT), or start a Ray of this machine alone without one.

    names: of the nodes to use; all if empty. perform: performs an order on a node, by default the worker's.
    n_awaited: number of nodes to wait for before any is chosen. engines, python: the engines to measure. rent: node
    types that the autoscaler starts; only they are used.
    """
    ray = connect(address) if address else start_local()
    try:
        _await(ray, n_awaited, say)
        if rent:
            node_types.check(rent, ray.get_runtime_context().gcs_address)
        tagged = [_Rented(name) for name in rent] or _chosen(_tagged(ray), names)
        with _turn(ray, say) if address else nullcontext():  # no other run can use this machine's own Ray
            relays = {node.name: _relay(ray, node, perform) for node in tagged}
            found, absent = _surveyed(ray, tagged, relays, say, engines, python, perform)
        for each in absent:
            ray.kill(relays.pop(each.name))
        if not found:
            why = "; ".join(f"{each.name}: {each.why}" for each in absent)
            raise FleetUnreachableError("no node can measure", why, "look at each: cellbench doctor there")
    except BaseException:
        ray.shutdown()
        raise
    return Cluster(ray, address, relays, found, absent, is_rented=bool(rent))


def start_local() -> Any:
    """Start the embedded Ray of one node, tagged like a node of a fleet, and return the ray module."""
    network.check_loopback()
    token.make_before_ray(os.environ, Path.home())
    ray = _ray()
    try:
        _init(
            ray,
            address="local",
            num_cpus=1,
            resources={tags.SLOT: 1},
            labels={tags.NAME: tags.host_name()},
            include_dashboard=False,
            object_store_memory=ray_settings.OBJECT_STORE_BYTES,
        )
    except Exception as error:  # a node that is slow to start is a plain Exception of Ray's
        raise FleetUnreachableError(
            f"Ray could not be started: {error}", "this machine", "measure without it: cellbench run --no-ray"
        ) from error
    return ray


def connect(address: str) -> Any:
    """Join the cluster at an address as a driver and return the ray module; this machine must be one of its nodes."""
    # Found and reached here and not by init(), which waits for minutes at the address of a cluster that is gone.
    found = status.which_head(address, daemon.running(folders.home()), os.environ)
    network.reach(found)
    # Another service of Ray's speaks the head's protocol: some seconds instead of Ray's twenty show that it is no head.
    ray = _ray(RAY_NUM_REDIS_GET_RETRIES="3")
    try:
        with _interruptible():
            _init(ray, address=found)
    except Exception as error:  # Ray's own are of many kinds, some of them plain
        raise FleetUnreachableError(
            f"Ray's head does not accept this machine: {_line(error)}", address, _cure(str(error))
        ) from error
    return ray


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end this process at once: Ray may wait for minutes without Python, and nothing is measured yet."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a signal's handler
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _init(ray: Any, **how: Any) -> None:
    """Connect, and restore the handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _hushed():
            ray.init(**how, log_to_driver=False, logging_level="ERROR")
    finally:
        if threading.current_thread() is threading.main_thread():  # only the main thread may set a signal's handler
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the compiled part of Ray from writing to stderr, past Python: each error is an exception as well."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with TemporaryFile() as unread:
        os.dup2(unread.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _ray(**settings: str) -> Any:
    """The ray module, with our settings and these; Ray reads them when it is imported first."""
    os.environ.update({**ray_settings.ENVIRONMENT, **settings})
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:  # as from a bundle that was made without it
        fix = "measure without it: cellbench run --no-ray; or install it"
        raise FleetUnreachableError("Ray is not installed", f"this machine ({error})", fix) from error
    return ray


def _cure(message: str) -> str:
    text = message.lower()
    if "token" in text or "authentica" in text or "unauthor" in text:
        return "this machine needs the fleet's token in ~/.ray/auth_token: cellbench node token, on the head"
    if "version mismatch" in text:
        return "install the head's versions of Ray and Python here"
    if "failed to connect" in text:
        return "check host and port: the head shows its address with cellbench node status"
    return "the driver runs on a node of the fleet: cellbench node start --address HOST:PORT here first, or ray submit"


# ---------------------------------------------------------------- nodes


def _await(ray: Any, n_awaited: int, say: Say) -> None:
    """Wait until n_awaited nodes for measuring have joined: machines may wake up late."""
    end_s, n_before = time.monotonic() + JOIN_S, -1
    while (n_here := len(_slotted(ray))) < n_awaited:
        if n_here != n_before:
            say(f"waiting for nodes: {n_here} of {n_awaited} are here")
            n_before = n_here
        if time.monotonic() > end_s:
            raise FleetUnreachableError(
                f"{n_here} of {n_awaited} nodes joined in {JOIN_S / 60:.0f} min", "--wait-for",
                "look at the others: cellbench node status; or measure on fewer",
            )  # fmt: skip
        time.sleep(1)


def _slotted(ray: Any) -> list[Mapping[str, Any]]:
    """Ray's records of the live nodes that were started for measuring."""
    return [node for node in ray.nodes() if node["Alive"] and tags.SLOT in node["Resources"]]


def _tagged(ray: Any) -> list[_Tagged]:
    """The live nodes that were started for measuring."""
    found = [
        _Tagged(node["NodeID"], node.get("Labels", {}).get(tags.NAME) or node["NodeManagerHostname"], _promised(node))
        for node in _slotted(ray)
    ]
    if not found:
        raise FleetUnreachableError(
            "no node of this cluster was started for measuring", None, "start nodes with: cellbench node start"
        )
    twice = [name for name, count in Counter(node.name for node in found).items() if count > 1]
    if twice:
        raise CellbenchError(
            f"{', '.join(twice)}: the name of more than one node", "the fleet", "start one with another --name"
        )
    return sorted(found, key=lambda node: node.name)


def _promised(node: Mapping[str, Any]) -> dict[str, int]:
    """The number of devices of each backend that a node's tags list."""
    return {name: int(node["Resources"].get(tags.resource(name), 0)) for name in tags.BACKENDS}


def _started(ray: Any, rented: _Rented) -> _Tagged:
    """A rented node after its relay has answered from it."""
    mine = tags.type_resource(rented.name)
    node = next(node for node in _slotted(ray) if mine in node["Resources"])
    return _Tagged(node["NodeID"], rented.name, _promised(node))


def _chosen(tagged: Sequence[_Tagged], wanted: Sequence[str]) -> list[_Tagged]:
    names = [node.name for node in tagged]
    if unknown := [name for name in wanted if name not in names]:
        raise CellbenchError(f"no node is called {', '.join(unknown)}", "--nodes", f"there are {', '.join(names)}")
    return [node for node in tagged if not wanted or node.name in wanted]


@contextmanager
def _turn(ray: Any, say: Say) -> Iterator[None]:
    """Let one run at a time take its nodes, since two runs could each hold a node that the other needs."""
    is_announced = False
    while True:
        try:
            holder = ray.remote(_Holder).options(name=TURN, namespace=TURN, num_cpus=0).remote()
            break
        except ValueError:  # the name is taken, as long as its run takes nodes or until it dies
            if not is_announced:
                say("waiting for another run that is taking its nodes")
                is_announced = True
            time.sleep(1)
    try:
        yield
    finally:
        ray.kill(holder)


class _Holder:
    """An actor whose name is the lock."""


def _relay(ray: Any, node: _Tagged | _Rented, perform: Any) -> Any:
    """An actor that holds its node's slot; no restarts, since a repeated measurement is another one.

    That of a rented node waits for its type. The autoscaler starts a node for as long as the actor lives: a driver that
    dies takes its actors along, and rents nothing any more. A request of ray.autoscaler.sdk would stay.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if isinstance(node, _Rented):
        where: dict[str, Any] = {"resources": {tags.SLOT: 1, tags.type_resource(node.name): 1}}
    else:
        pinned = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        where = {"resources": {tags.SLOT: 1}, "scheduling_strategy": pinned}
    actor = ray.remote(Relay).options(num_cpus=0, max_restarts=0, max_task_retries=0, **where)
    return actor.remote(perform) if perform else actor.remote()


def _surveyed(
    ray: Any,
    tagged: Sequence[_Tagged] | Sequence[_Rented],
    relays: dict[str, Any],
    say: Say,
    engines: Sequence[str],
    python: str | None,
    perform: Any,
) -> tuple[list[Member], list[Absent]]:
    """The survey of each node; it waits for a slot that another run holds, or for the autoscaler.

    Ray may place the actor of a rented node on a machine that was lost seconds ago. Then there is another actor, once.
    """
    is_rented = any(isinstance(node, _Rented) for node in tagged)
    limit_s = RENT_S if is_rented else SURVEY_S
    cause = "the autoscaler starts them" if is_rented else "another run holds the bench slot, or the node is slow"
    pending = {relays[node.name].survey.remote(engines, python): node for node in tagged}
    here, found, absent = ray.get_runtime_context().get_node_id(), [], []
    end_s, is_announced, again = time.monotonic() + limit_s, False, set[str]()
    while pending:
        ready, _ = ray.wait(list(pending), timeout=PATIENT_S)
        for ref in ready:
            node = pending.pop(ref)
            try:
                answer = ray.get(ref)
                node = _started(ray, node) if isinstance(node, _Rented) else node
                found.append(survey.member(answer, node.name, node.promised, node.node_id == here))
            except ray.exceptions.RayError as error:
                is_lost = isinstance(error, ray.exceptions.RayActorError)
                if isinstance(node, _Rented) and is_lost and node.name not in again:
                    again.add(node.name)
                    relays[node.name] = _relay(ray, node, perform)
                    pending[relays[node.name].survey.remote(engines, python)] = node
                else:
                    absent.append(Absent(node.name, scheduler.reason(error)))
        if pending and not ready and not is_announced:
            say(f"waiting for {', '.join(node.name for node in pending.values())}: {cause}")
            is_announced = True
        if time.monotonic() > end_s:
            absent += [Absent(node.name, f"no answer in {limit_s:.0f} s") for node in pending.values()]
            break
    return sorted(found, key=lambda member: member.name), absent


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
