"""Measure how well the data checks find generated faults: ``make bench-checks``.

The text is the documentation of installed packages. Each set is checked as a whole, with all checks, as
``tunegate check`` does. The seeds are not those with which the checks were developed. Prints a table, and
writes build/bench/checks.json.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from measures import Measure, run

from support.checked_files import checked_files
from support.data_faults import copies, leaks, shifts, templates
from support.data_faults.clean import DataSet, clean_set, clean_sets, jsonl
from support.fault_measure import Counts, compare
from tunegate_api.contract.forecast import CheckedData
from tunegate_trainer.checks import SETTINGS

SEEDS = (1001, 1002)
SHIFT_SEEDS = range(1001, 1007)
SHAPES = ("sections", "functions", "labels", "fields", "names", "continuations")
TARGET = ">= 0.95"
FAULTS = 20
"""Number of faulty rows that are put into each set."""
_LINE = re.compile(r"line (\d+)")


@dataclass(frozen=True)
class Checked:
    """What the checks found in one set."""

    data: CheckedData
    report: dict[str, Any]

    @property
    def settings(self) -> set[str]:
        """The settings of the checks that warned or refused."""
        found = {one.name for one in self.data.results if one.result in ("Warned", "Refused")}
        return {SETTINGS.get(name, name) for name in found}


def main() -> int:
    parts = {
        "duplicates": _duplicates,
        "leaks": _leaks,
        "templates": _templates,
        "shifts": _shifts,
        "contradictions": _contradictions,
        "clean": _clean,
    }
    return run("checks", parts, versions=f"rensa {version('rensa')}, scikit-learn {version('scikit-learn')}")


def check(**files: str) -> Checked:
    with tempfile.TemporaryDirectory() as folder:
        return Checked(*checked_files({f"{name}.jsonl": text for name, text in files.items()}, Path(folder)))


def _sets() -> Iterator[tuple[DataSet, int]]:
    for seed in SEEDS:
        for shape in SHAPES:
            data = clean_set(shape, seed=seed)
            if len(data.spare) >= 2 * FAULTS:
                yield data, seed


def _measures(name: str, counts: Counts) -> Iterator[Measure]:
    yield Measure(f"{name}: precision", round(counts.precision, 3), "share", TARGET)
    yield Measure(f"{name}: recall", round(counts.recall, 3), "share", TARGET)


def _lines(entries: list[Any]) -> set[int]:
    """Return the line of each entry: a dictionary with a line or a row, or a text that names lines."""
    found: set[int] = set()
    for entry in entries:
        text = entry if isinstance(entry, str) else entry.get("row") or f"line {entry.get('line')}"
        found |= {int(number) for number in _LINE.findall(text)}
    return found


def _duplicates() -> Iterator[Measure]:
    counts = Counts()
    for data, seed in _sets():
        for edit, similarity in (
            ("words", 0.7),
            ("words", 0.85),
            ("case", 1),
            ("punctuation", 1),
            ("spaces", 1),
        ):
            try:
                found = copies.near_duplicates(
                    data, edit=edit, similarity=similarity, count=FAULTS, seed=seed
                )
            except ValueError:  # too few rows are long enough
                continue
            entries = check(train=jsonl(found.rows, data.system)).report.get("near_duplicates", [])
            counts += compare(_lines(entries), found.faulty)
    yield from _measures("near-duplicates", counts)


def _leaks() -> Iterator[Measure]:
    counts = Counts()
    for data, seed in _sets():
        for kind in leaks.KINDS:
            try:
                found = leaks.leaks(data, kind=kind, count=FAULTS, seed=seed)
            except ValueError:
                continue
            cases = "".join(json.dumps(case) + "\n" for case in leaks.golden_cases(found.held_out[:100]))
            kept = frozenset(number for number in found.leaked if number <= 100)
            if len(kept) < len(found.leaked):
                continue
            report = check(train=jsonl(found.rows, data.system), golden=cases).report
            entries = [*report.get("golden_prompts", []), *report.get("leaked_passages", [])]
            counts += compare(_lines(entries), found.faulty)
    yield from _measures("leaks of golden cases", counts)


def _templates() -> Iterator[Measure]:
    counts, reported = Counts(), Counts()
    for data, seed in _sets():
        for wrapper in templates.WRAPPERS:
            found = templates.second_template(data, wrapper=wrapper, share=0.2, seed=seed)
            one = check(train=jsonl(found.rows, data.system))
            named = "MixedTemplates" in one.settings
            reported += compare({1} if named else set(), {1})
            shares = [each["share"] for each in one.report.get("templates", [])]
            others = round(sum(sorted(shares)[:-1]) * len(found.rows)) if named else 0
            right = min(others, len(found.faulty))
            counts += Counts(right, others - right, len(found.faulty) - right)
    yield Measure("second templates: sets found", round(reported.recall, 3), "share", TARGET)
    yield from _measures("second templates, rows counted", counts)


def _shifts() -> Iterator[Measure]:
    counts = Counts()
    for kind in shifts.KINDS:
        for size in (150, 300):
            results: Counter[str] = Counter()
            for seed in SHIFT_SEEDS:
                data = shifts.shift(kind, size=size, seed=seed)
                production = "".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in data.production)
                one = check(train=jsonl(data.rows), production=production)
                found = {1} if "Distribution" in one.settings else set()
                counts += compare(found, {1} if data.shifted else set())
                results += Counter(r.result for r in one.data.results if r.name == "distribution_shift")
            what = "like training inputs" if kind == "none" else f"of other {kind}"
            for result in ("Refused", "Warned"):
                share = results[result] / len(SHIFT_SEEDS)
                yield Measure(f"{size} production inputs {what}: {result}", round(share, 3), "share")
    yield from _measures("shifted production inputs, sets warned or refused", counts)


def _contradictions() -> Iterator[Measure]:
    counts = Counts()
    for seed in SEEDS:
        for edit in (None, "case", "spaces"):
            data = clean_set("labels", seed=seed)
            found = copies.contradictory_labels(data, count=FAULTS // 2, edit=edit, seed=seed)
            entries = check(train=jsonl(found.rows, data.system)).report.get("contradictions", [])
            counts += compare(_lines(entries), found.faulty)
    yield from _measures("contradictory labels", counts)


def _clean() -> Iterator[Measure]:
    refused = warned = total = 0
    for data in clean_sets():
        one = check(train=jsonl(data.rows, data.system))
        refused += one.data.failure is not None
        warned += bool(one.settings - {"Distribution"})
        total += 1
    yield Measure(f"{total} clean sets: refused", round(refused / total, 3), "share", "<= 0.05")
    yield Measure(f"{total} clean sets: with a warning", round(warned / total, 3), "share")


if __name__ == "__main__":
    sys.exit(main())
