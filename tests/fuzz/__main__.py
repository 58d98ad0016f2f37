"""Run sequences of agent actions and print each misjudged one: `python -m tests.fuzz SEED…` or `--count N`."""

import argparse
import os
import sys
import time
from collections import Counter

import anyio

from redline.cell.open import DEFAULT_VARIABLE
from tests.fuzz.grammar import generate
from tests.fuzz.runner import SequenceResult, run_all, script_of


def main() -> int:
    """Run, report, and return the exit status: 1 if any sequence was misjudged."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seeds", metavar="SEED", type=int, nargs="*", help="seeds to replay")
    parser.add_argument("--count", type=int, default=20, help="without SEED: number of sequences to run")
    parser.add_argument("--first", type=int, help="the first seed; default: from the clock")
    parser.add_argument("--concurrency", type=int, default=4, help="maximum number of concurrent cells")
    parser.add_argument("--show", action="store_true", help="print scripts and truths without running them")
    options = parser.parse_args()
    os.environ.setdefault(DEFAULT_VARIABLE, "runc")
    first = int(time.time()) if options.first is None else options.first
    seeds = options.seeds or range(first, first + options.count)
    if options.show:
        for seed in seeds:
            sequence = generate(seed)
            print(f"{script_of(sequence)}\n# seed {seed}: {sequence.truth}")
        return 0
    began = time.monotonic()
    outcomes: Counter[str] = Counter()
    misjudged: list[int] = []

    def report(result: SequenceResult) -> None:
        outcomes[result.verdict.outcome if result.verdict else "not judged"] += 1
        if result.faults:
            misjudged.append(result.sequence.seed)
            print(result, flush=True)
            if not options.seeds:
                print(f"{script_of(result.sequence)}\n", flush=True)
        elif options.seeds:
            print(result, flush=True)

    anyio.run(run_all, seeds, options.concurrency, report)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    verdict = f"misjudged: {sorted(misjudged)}" if misjudged else "none misjudged"
    print(f"{sum(outcomes.values())} sequences in {time.monotonic() - began:.0f} s: {counted}; {verdict}")
    return 1 if misjudged else 0


if __name__ == "__main__":
    sys.exit(main())
