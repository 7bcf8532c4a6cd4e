"""Looks for what the fast suite's fixed examples miss: all property tests, random examples, round after round.

    SEARCH_MINUTES=60 SEARCH_EXAMPLES=2000 SEARCH_SEED=7 python tests/search.py [pytest arguments]

Each round has its own seed, which is printed; the first one that finds something ends the search with exit code 1. What
was found becomes a named `@example` of its test, so that the fast suite holds it from then on.
"""

import os
import random
import secrets
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

_DEFAULT_EXAMPLES = settings().max_examples
_CONSTANTS_OF_THE_SOURCE = providers._get_local_constants


class Search:
    """Raises each property test to ``num_examples``, a costly one in its own proportion, and stops when time is up."""

    def __init__(self, num_examples: int, seed: int, end: float) -> None:
        self.num_examples, self.seed, self.end = num_examples, seed, end
        self.found: list[str] = []
        self.num_tests = self.num_run = 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        providers._get_local_constants = _CONSTANTS_OF_THE_SOURCE  # the fast suite goes without
        for item in items:
            if item.get_closest_marker("hypothesis") is None:
                continue
            test = item.obj  # type: ignore[attr-defined]
            own = test._hypothesis_internal_use_settings
            share = min(1.0, own.max_examples / _DEFAULT_EXAMPLES)
            wanted = max(own.max_examples, round(self.num_examples * share))
            test._hypothesis_internal_use_settings = settings(own, max_examples=wanted)
            self.num_tests += 1
        random.Random(self.seed).shuffle(items)  # a short search is fair to all of them

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.num_run += report.when == "call"
        if report.failed:
            self.found.append(report.nodeid)

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if time.monotonic() > self.end:
            item.session.shouldstop = "the time is up"


def main(arguments: list[str]) -> int:
    """Searches until the time is up; returns 0 if nothing was found."""
    minutes = float(os.environ.get("SEARCH_MINUTES", "60"))
    num_examples = int(os.environ.get("SEARCH_EXAMPLES", "2000"))
    seed = int(os.environ.get("SEARCH_SEED") or secrets.randbelow(2**31))
    end = time.monotonic() + 60.0 * minutes
    options = ["--hypothesis-profile=search", "-m", "hypothesis", "--timeout=3600", "-p", "no:cacheprovider"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported before pytest starts
    num_run = 0
    while time.monotonic() < end or num_run == 0:
        search = Search(num_examples, seed, end)
        print(f"search: seed {seed}, up to {num_examples} examples a test", flush=True)
        folder = str(Path(__file__).parent)
        code = pytest.main([*options, f"--hypothesis-seed={seed}", *(arguments or [folder])], plugins=[search])
        num_run += search.num_run
        if search.found:
            print(f"search: FOUND by seed {seed} (SEARCH_SEED={seed} repeats it): {', '.join(search.found)}")
            return 1
        stopped = code == pytest.ExitCode.INTERRUPTED and time.monotonic() > end
        if (code != pytest.ExitCode.OK and not stopped) or search.num_run == 0:
            print(f"search: pytest ended with {code!r} after {search.num_run} of {search.num_tests} tests")
            return 2
        seed += 1
    print(f"search: {num_run} property tests in {minutes:g} minutes, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
