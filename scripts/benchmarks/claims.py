"""The number of sentences about random stores that are false or exceed the evidence of their rows.

    python scripts/benchmarks/claims.py [--seed 0] [--stores 2000] [--quick]

Stores are those of tests/odd_stores.py; tests/refute.py recomputes each claim from the raw rows. A traceback counts as
a refuted claim. A store takes about a second; after Ctrl-C the table is that of the stores so far. Exit code 1 if any
claim is refuted.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import claims

WORDS = {
    "Time": "a median", "Span": "from the fastest to the slowest", "Speedup": "a speed-up",
    "BySize": "how a speed-up changes with size", "Growth": "a scaling law", "Elsewhere": "published speed-ups",
    "Fastest": "which is the fastest", "SameMasks": "whether masks are the same", "Agreement": "how masks agree",
    "Change": "changed since the run before", "Judged": "as usual, by the runs before",
    "Winner": "the winner of a search", "Share": "where the time goes", "Note": "cautions and notes",
    "Compared": "a case of compare", "Alarm": "an alarm or a suspicion", "Difference": "what differs",
    "ModelCost": "what another model costs", "Accuracy": "accuracy on drawn cells", "NoAccuracy": "none is known",
    "unsaid": "stores with every caution that they need",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first store; the others follow")
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="12 stores")
    args = parser.parse_args()
    made, refuted, stores = Counter[str](), Counter[str](), 0
    try:
        for seed in range(args.seed, args.seed + (12 if args.quick else args.stores)):
            try:
                counts, found = claims.check(seed)
            except Exception as error:
                counts, found = Counter({"traceback": 1}), [f"{seed}: traceback: {error!r}"]
            made, stores = made + counts, stores + 1
            refuted += Counter(text.split(": ")[1] for text in found)
            for text in found:
                print(text, file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    print(f"seed {args.seed}, {stores} stores, {made.pop('traceback', 0)} tracebacks\n")
    print("| claim | made | refuted |\n|---|---:|---:|")
    for kind, n in made.most_common():
        print(f"| {WORDS.get(kind, kind)} | {n} | {refuted[kind]} |")
    print(f"| all | {made.total()} | {refuted.total()} |")
    return int(refuted.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
