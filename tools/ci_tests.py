"""Run test suites in CI: repeat the tests that failed, alone, and refuse skips that no list allows.

Usage: ``ci_tests.py run NAME COMMAND…`` for each suite, then ``ci_tests.py again``. ``run`` succeeds although
tests failed, so that they are repeated when nothing else keeps the machine busy. ``again`` fails if one of
them fails again. Both fail if more than MAX_FLAKY tests could pass only when repeated.
"""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

MAX_FLAKY = 3
"""How many tests may pass only when they are repeated."""
ALLOWED = Path(".ci/skips.txt")
"""Tests that may be skipped or expected to fail: on each line a test id, in which * stands for any
characters, then the reason."""
RESULTS = Path("build/ci")
WAITING, FLAKY = RESULTS / "failed.json", RESULTS / "flaky.json"


@dataclass(frozen=True)
class Result:
    """A test that did not pass."""

    test: str
    problem: str
    """The reason of a skip; empty if the test failed."""


def main(arguments: list[str]) -> int:
    match arguments:
        case ["run", name, *command] if command:
            return run(name, command)
        case ["again"]:
            return again()
    print(__doc__, file=sys.stderr)
    return 2


def run(name: str, command: list[str]) -> int:
    """Run a suite, and store the ids of the tests that failed.

    Fails if too many tests failed, if a skip is not allowed, or if the run itself failed.
    """
    done, results = _tested(name, command)
    unexpected = _unexpected([r for r in results if r.problem])
    failed = sorted({r.test for r in results if not r.problem})
    for result in unexpected:
        print(f"SKIPPED, but not listed in {ALLOWED}: {result.test}: {result.problem}")
    if unexpected or (done != 0 and not failed):
        return done or 1
    _store(WAITING, _stored(WAITING) + failed)
    allowed = MAX_FLAKY - len(_stored(FLAKY))
    if len(_stored(WAITING)) > allowed:
        print(f"{len(_stored(WAITING))} tests failed; at most {allowed} are repeated")
        return 1
    return 0


def again() -> int:
    """Repeat the tests that failed, one after the other in one process."""
    waiting, flaky = _stored(WAITING), _stored(FLAKY)
    if waiting:
        command = [sys.executable, "-m", "pytest", "-m", "", *waiting]
        done, results = _tested("again", command)
        if done != 0:
            print("FAILED AGAIN:", *sorted({r.test for r in results} or waiting), sep="\n  ")
            return done
        flaky += waiting
        _store(FLAKY, flaky)
        _store(WAITING, [])
    if flaky:
        print("FLAKY: passed only when repeated alone", *flaky, sep="\n  ")
    return 0


def _tested(name: str, command: list[str]) -> tuple[int, list[Result]]:
    """Run pytest by ``command``. Return the exit code, and the tests that did not pass."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    page = RESULTS / f"{name}.xml"
    page.unlink(missing_ok=True)
    options = f"--junitxml={page.resolve()} --override-ini=junit_family=xunit1"
    done = subprocess.run(command, env=os.environ | {"PYTEST_ADDOPTS": options}, check=False)
    if not page.exists():
        return done.returncode or 1, []
    cases = ET.parse(page).getroot().iter("testcase")  # noqa: S314 - pytest wrote it
    return done.returncode, [result for case in cases if (result := _result(case))]


def _result(case: ET.Element) -> Result | None:
    """Return how a test did not pass; None if it passed."""
    test = "::".join(part for part in (case.get("file"), case.get("name")) if part)
    if case.find("failure") is not None or case.find("error") is not None:
        return Result(test, "")
    skipped = case.find("skipped")
    return None if skipped is None else Result(test, skipped.get("message") or "no reason given")


def _unexpected(skipped: list[Result]) -> list[Result]:
    lines = [line.split(maxsplit=1) for line in ALLOWED.read_text().splitlines()] if ALLOWED.exists() else []
    patterns = [re.escape(words[0]).replace(r"\*", ".*") for words in lines if len(words) == 2]
    return [r for r in skipped if not any(re.fullmatch(pattern, r.test) for pattern in patterns)]


def _stored(file: Path) -> list[str]:
    return [str(test) for test in json.loads(file.read_text())] if file.exists() else []


def _store(file: Path, tests: list[str]) -> None:
    file.write_text(json.dumps(tests))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
