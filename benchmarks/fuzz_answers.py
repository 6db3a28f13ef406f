"""A long run of what tests/test_answers.py tries briefly: hostile texts against the slow parser.

Prints how many texts were tried, and how many of them held to the format; stops with the text
where the two parsers differ, an explanation is missing, a reward is not finite, or a reader fails.
Run: python benchmarks/fuzz_answers.py [--inputs 200000] [--seed 0]
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import hypothesis

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from answer_texts import SPACE, any_text, check_text
from test_readers import check_readers

from stvgkit import parse_answer

BATCH = 5000  # hypothesis remembers every text of a run; small runs keep memory flat


def fuzz(inputs: int, seed: int) -> Counter:
    """Counts of the kinds of text tried."""
    tried = Counter()

    def check(text):
        check_text(text)
        check_readers(text)
        answer = parse_answer(text, SPACE)
        kind = "broken" if answer is None else "consistent" if answer.consistent else "inconsistent"
        tried[kind] += 1

    while tried.total() < inputs:
        settings = hypothesis.settings(
            max_examples=min(BATCH, inputs - tried.total()),
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        before = tried.total()
        hypothesis.seed(seed + before)(settings(hypothesis.given(any_text)(check)))()
        print(f"\r{tried.total():>9} texts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return tried


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--inputs", type=int, default=200_000)
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    start = time.perf_counter()
    tried = fuzz(args.inputs, args.seed)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in tried.most_common())
    print(
        f"{tried.total():,} texts tried in {time.perf_counter() - start:.0f} s, seed {args.seed}: "
        f"{kinds}; no exception, no difference from the slow parser"
    )


if __name__ == "__main__":
    main()
