"""The results of a scope in sentences: headline, cautions, and an answer to each question."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.results import answers as found_by
from harness.results import findings, sentences
from harness.results.findings import Elsewhere, Finding, Kind, SameMasks, Span, Speedup, Time, Winner
from harness.results.formatting import Row, count, dimension_value, model_name, number
from harness.results.notes import flag_note
from harness.results.tables import Tables
from harness.schema import identity

MOST = 4  # the most sentences of a kind; the tables have the others
WEIGHTS = {
    "published": "", "standin": "’s network with stand-in weights", "custom": "’s network with custom weights",
}  # fmt: skip


# Short forms of the cautions; the full sentences are under "Methods".
CAUTIONS = {
    Kind.SIMULATED: "simulated workload, not a measurement",
    Kind.STANDIN: "stand-in weights",
    Kind.CUSTOM: "custom weights",
    Kind.IMPORTED: "imported, not measured by cellbench",
    Kind.SYNTHETIC: "synthetic image",
    Kind.FAILED: "failed repetitions: {n}",
    Kind.ALL_FLAGGED: "all repetitions flagged in {n} of {of} cases",
    Kind.FEW: f"fewer than {findings.FEW} repetitions in {{n}} of {{of}} cases",
    Kind.NO_CELLS: "no cells found in {n} of {of} cases",
    Kind.UNSTABLE: "masks differ between repetitions",
    Kind.UNLIKE: "CPU and accelerator counted different numbers of cells",
}


@dataclass(frozen=True)
class KeyFigure:
    """A number at the top of a report, with its label."""

    value: str
    label: str


@dataclass(frozen=True)
class Answer:
    """A question of a report's readers, and the answer of these results."""

    question: str
    sentences: list[str]


def headline(data: Tables) -> str:
    """The results in one sentence, with claims about its rows only."""
    found = found_by.headline(data)
    if not found:
        if data.races.num_rows or data.throughput.num_rows:
            return "No case was timed by itself: variants or ways to go about many images were"
        failed = data.n_failed
        return f"Nothing was timed: {count(failed, 'repetition')} failed" if failed else "Nothing was timed in this run"
    rows = {findings.case(row): row for row in data.cases}
    first = rows[found[0].cases[0]]
    varied = identity.distinguishing(data.cases, (), found_by.KIND)
    among = ", ".join(f"{identity.word(column)} {dimension_value(first, column)}" for column in varied)
    return _what(first) + _claims(found) + (f" ({among})" if among else "")


def banners(data: Tables) -> list[str]:
    """The notes that a reader needs before the numbers, in full sentences."""
    return list(map(sentences.sentence, found_by.cautions(data)))


def cautions_in_short(data: Tables) -> str:
    """The short forms of the cautions in one line."""
    notes = {each.kind: each for each in found_by.cautions(data)}
    words = (text.format(n=notes[kind].n, of=notes[kind].of) for kind, text in CAUTIONS.items() if kind in notes)
    text = " · ".join(words)
    return text[:1].upper() + text[1:]


def key_figures(data: Tables) -> list[KeyFigure]:
    """The most important numbers: time, images per hour, speed-up, and the best variant of a search."""
    times = [each for each in found_by.times(data) if isinstance(each, Time)]
    sizes = {findings.case(row): row["n_pixels"] for row in data.cases}
    found = []
    if times:
        most = max(sizes[each.cases[0]] for each in times)
        best = min((each for each in times if sizes[each.cases[0]] == most), key=lambda each: each.known.value)
        value_s, where = best.known.value, f"{sentences.size(best.size)}, {best.series}"
        found.append(KeyFigure(sentences.seconds(value_s), f"per image: {where}"))
        found.append(KeyFigure(number(3600 / value_s), "images per hour, one at a time"))
    gains = found_by.largest_speedups(data)
    if gains:
        gain = max(gains, key=lambda each: each.known.value)
        known = sentences.known(gain.known).strip(" ()")
        found.append(KeyFigure(f"{number(gain.known.value)}×", f"as fast as its CPU: {gain.device} ({known})"))
    elif times and all(row["backend"] == "cpu" for row in data.cases):
        found.append(KeyFigure("no GPU", "in this run"))
    winners = [each for _, each in found_by.faster(data) if isinstance(each, Winner) and each.variant]
    if winners:
        best_won = max(winners, key=lambda each: each.times)
        found.append(KeyFigure(f"{number(best_won.times)}×", f"faster with {best_won.variant}, masks {best_won.masks}"))
    return found


def case_notes(data: Tables) -> list[str]:
    """The notes below the table of cases: flags, ends of repetitions and processes."""
    found = []
    if flags := flag_note(data):
        found.append(f"{flags}.")
    if ends := [f"{sentences.sentence(each)} ({count(each.n, 'case')})" for each in findings.endings(data.cases)]:
        found.append(f"Repetitions ended because {'; because '.join(ends)}.")
    if (blocks := max((row["n_blocks"] for row in data.cases), default=1)) > 1:
        found.append(f"The repetitions of a case come from up to {blocks} processes.")
    return found


def answers(data: Tables) -> list[Answer]:
    """The answers of these results to each question."""
    gained, faster = found_by.gain(data), found_by.faster(data)
    models, batch = found_by.models(data), found_by.batch(data)
    compared = [*found_by.fastest(data), *(masks := found_by.masks(data))]
    return [
        Answer(
            "How fast is it, and how does that change with image size?",
            _sentences([*found_by.how_fast(data), *found_by.same_hardware(data)]) or ["Nothing was timed."],
        ),
        *([Answer(BATCH, [*_sentences(batch), OTHER_SIZES])] if batch else []),
        Answer(
            "How much does a GPU help, and from which image size on?",
            ([] if any(not isinstance(each, Elsewhere) for each in gained) else [NO_GPU]) + _sentences(gained),
        ),
        Answer(
            "Which device should run the jobs, and do all give the same masks?",
            _sentences(compared) + ([UNCOMPARED] if len(masks) == 1 and _differ(masks[0]) else [])
            or ["Nothing was timed."],
        ),
        *([Answer(MODELS, _sentences(models))] if models else []),
        Answer("Is it slower than before?", _sentences(found_by.before(data)) or [FIRST]),
        Answer(
            "What would make it faster here?",
            [f"{place}: {sentences.sentence(each)}" for place, each in faster][:MOST]
            or [UNREMARKABLE if data.stages.num_rows else UNSTAGED],
        ),
    ]


MODELS = "Cellpose 3 or Cellpose-SAM here: what does the larger model cost, and what does it give?"
BATCH = f"How long do {found_by.N_IMAGES} images take?"
OTHER_SIZES = f"Other sizes, and other machines: cellbench estimate {found_by.N_IMAGES} --size HEIGHTxWIDTH."
NO_GPU = "No accelerator was measured together with a CPU here."
UNCOMPARED = "Whether the differences matter was not measured: run it with --passes masks."
FIRST = "These are the first results of their series here. Run it again after an update to compare."
UNREMARKABLE = "The stage pass shows nothing that stands out."
UNSTAGED = "cellbench tune searches for faster settings with the same masks. Where the time goes: --passes stages."


def _sentences(found: Iterable[Finding]) -> list[str]:
    """The sentences of findings, at most MOST of each kind."""
    lines = []
    for each in identity.grouped(found, type).values():
        lines += [sentences.sentence(one) for one in each[:MOST]]
        if len(each) > MOST:
            lines.append(f"{len(each) - MOST} more in the tables.")
    return lines


def _claims(found: list[Finding]) -> str:
    """The claims of the headline: speed-ups, times or spans."""
    gains = [each for each in found if isinstance(each, Speedup)]
    times = [each for each in found if isinstance(each, Time)]
    if gains:
        return ": " + "; ".join(f"the {each.device} {sentences.speedup(each)}" for each in gains)
    if times:
        return f" on {times[0].series}: {', '.join(map(sentences.time, times))}"
    return "".join(f" on {sentences.sentence(each)}" for each in found if isinstance(each, Span))


def _differ(found: Finding) -> bool:
    return isinstance(found, SameMasks) and bool(found.n_differing)


def _what(row: Row) -> str:
    if row["workload"] == "simulated":
        return "Simulated workload"
    name = model_name(row) + WEIGHTS.get(row["weights"], "’s network with unknown weights")
    return name[:1].upper() + name[1:] if row["model"] is None else name
