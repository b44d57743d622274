"""The plan of a run on rented machines, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.fleet.cloud import HOUR_S, Item, Offer
from harness.results.formatting import text
from harness.terminal.table_printer import Column, print_columns, print_json, stderr


def show(items: Sequence[Item], offer: Offer, form: str) -> None:
    """Print a plan on stdout, as table or json."""
    if form == "json":
        print_json({
            "currency": offer.currency, "prices_from": offer.prices_from,
            "machines": [
                {**vars(item), "about": item.cost(item.about_s), "most": item.cost(item.most_s)} for item in items
            ],
        })  # fmt: skip
        return
    columns = [
        Column("type"), Column("machine", order=2), Column("devices", order=3), Column("about (h)", True),
        Column("at most (h)", True), Column("price/h", True, 1),
        Column(f"about {offer.currency}".strip(), True), Column(f"at most {offer.currency}".strip(), True),
    ]  # fmt: skip
    rows = [
        [
            item.name, item.machine, text(", ".join(item.devices)), _two(item.about_s / HOUR_S),
            _two(item.most_s / HOUR_S), text(item.price), _two(item.cost(item.about_s)), _two(item.cost(item.most_s)),
        ]
        for item in items
    ]  # fmt: skip
    print_columns(columns, [*rows, _total(items)], form)
    for note in notes(items, offer):
        stderr().print(note, markup=False)


def notes(items: Sequence[Item], offer: Offer) -> list[str]:
    """The limits of a plan."""
    texts = ["at most: machines that start late, calls three times as long as estimated; without disks, traffic, tax"]
    if offer.prices:
        texts.append(f"prices: yours, {offer.origin}; today's may differ")
    if missing := [item.name for item in items if item.price is None]:
        texts.append(f"without a price: {', '.join(missing)}; give them with --price {missing[0]}=PRICE")
    return [*texts, "the head is paid until you end it: scripts/fleet down"]


def _total(items: Sequence[Item]) -> list[str]:
    sums = []
    for costs in ([item.cost(item.about_s) for item in items], [item.cost(item.most_s) for item in items]):
        known = [cost for cost in costs if cost is not None]
        sums.append(sum(known) if len(known) == len(costs) else None)
    return ["all", "", "", "", "", "", *map(_two, sums)]


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"
