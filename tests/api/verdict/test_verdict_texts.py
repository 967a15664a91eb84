"""The messages of verdicts and the stop rule in all situations, compared with snapshots.

After an intended change, ``pytest tests/api/judging --snapshot-update`` updates the snapshots.
"""

from collections.abc import Iterator
from fractions import Fraction

from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from support.bars import golden_bar
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.golden import judge_golden, judge_task
from tunegate_api.verdict.measured import Letters
from tunegate_api.verdict.outcomes import (
    Baseline,
    CaseSet,
    RuleFinding,
    Verdict,
)
from tunegate_api.verdict.stop_rule import Assessment, StepOutcomes, assess_checkpoint

TWENTY = CaseSet(
    sha256="golden",
    ids=[f"case-{i}" for i in range(20)],
    tags=[["pii"] if i in (3, 5, 8, 13, 14, 15, 16, 17) else [] for i in range(20)],
)
UNTAGGED = CaseSet(sha256="golden", ids=TWENTY.ids)


def golden(outcomes: str, rules: Bar, cases: CaseSet = TWENTY, **baselines: str | None) -> Verdict:
    measured = {name: Baseline("golden", text) for name, text in baselines.items()}
    return judge_golden(cases, outcomes, rules, measured)


def task(outcomes: str, rows: int | None = None) -> RuleFinding:
    total = len(outcomes) if rows is None else rows
    held_out = CaseSet(sha256="rows", ids=[f"row-{i}" for i in range(total)])
    return judge_task("exact_match", held_out, Letters(outcomes, total), Fraction(3, 4))


def with_fails(*failed: int, letter: str = "f", total: int = 20) -> str:
    return "".join(letter if i in failed else "p" for i in range(total))


NINETY, PII = golden_bar(min_pass_rate=Fraction(9, 10)), golden_bar(must_pass=("pii",))


def verdicts() -> dict[str, Verdict | RuleFinding]:
    # Computed in the test, so that mutation tests know which test covers a message.
    return {
        "no threshold at all": golden(with_fails(0), golden_bar()),
        "a minimum with three digits": golden(with_fails(0), golden_bar(min_pass_rate=Fraction(925, 1000))),
        "below the minimum": golden(with_fails(0, 1, 2), NINETY),
        "at the minimum": golden(with_fails(0, 1), NINETY),
        "an erroneous case that decides": golden(with_fails(0, 1) [:19] + "e", NINETY),
        "a missing case": golden("p" * 19, NINETY),
        "an unknown letter": golden("p" * 19 + "x", NINETY),
        "only errors": golden("e" * 20, NINETY, BaseModel="p" * 20),
        "one outcome too many": golden("p" * 21, NINETY),
        "no cases": golden("", NINETY, CaseSet(sha256="golden", ids=[])),
        "as good as both baselines": golden(
            "p" * 20, golden_bar(), BaseModel="p" * 20, LastPublished="p" * 20
        ),
        "worse than one of them": golden(
            with_fails(0), golden_bar(), BaseModel=with_fails(1, 2), LastPublished="p" * 20
        ),
        "a baseline that was not measured": golden("p" * 20, golden_bar(), BaseModel=None),
        "a baseline of another set": judge_golden(
            TWENTY, "p" * 20, golden_bar(), {"BaseModel": Baseline("other", "p" * 20)}
        ),
        "a baseline with errors": golden("p" * 20, golden_bar(), BaseModel="p" * 18 + "ee"),
        "errors on both sides": golden("p" * 19 + "e", golden_bar(), BaseModel="p" * 18 + "ee"),
        "a drop that errors could hide": golden("p" * 19 + "e", golden_bar(), BaseModel="p" * 20),
        "too few cases for the limit": golden(
            "p" * 20, golden_bar(max_drop_points=Fraction(3)), BaseModel="p" * 20
        ),
        "too few cases for a limit with digits": golden(
            "p" * 20, golden_bar(max_drop_points=Fraction(35, 10)), BaseModel="p" * 20
        ),
        "critical tag passed": golden(with_fails(0, 1), PII),
        "critical tag failed once": golden(with_fails(5), PII),
        "critical tag truncated": golden(with_fails(5, letter="t"), PII),
        "critical tag failed seven times": golden(with_fails(3, 5, 8, 13, 14, 15, 16), PII),
        "critical tag failed six times": golden(with_fails(3, 5, 8, 13, 14, 15), PII),
        "critical tag failed five times": golden(with_fails(3, 5, 8, 13, 14), PII),
        "critical tag not measured": golden(with_fails(5, letter="e"), PII),
        "critical tag failed and not measured": golden("pppfpe" + "p" * 14, PII),
        "critical tag without outcomes": golden("p" * 17, PII),
        "critical id passed": golden(with_fails(6), golden_bar(must_pass=("case-7",))),
        "critical id failed": golden(with_fails(7), golden_bar(must_pass=("case-7",))),
        "critical id of a set without tags": golden(
            with_fails(7), golden_bar(must_pass=("case-7", "case-6")), UNTAGGED
        ),
        "critical that names nothing": golden("p" * 20, golden_bar(must_pass=("no-such",))),
        "task metric passed": task("pppf"),
        "task metric failed": task("ppff"),
        "task metric truncated": task("pppttt"),
        "task metric with an error that decides": task("ppfe"),
        "task metric with a row missing": task("ppp", rows=4),
        "task metric with too few outcomes to fail": task("p", rows=10),
        "task metric with an outcome too many": task("pppp", rows=3),
        "task metric without rows": task(""),
    }  # fmt: skip


def stop_rule(*outcomes: str, rules: Bar | None = None) -> Assessment:
    """Return a history with ``outcomes`` at the steps 0, 10, 20, …"""
    history = [StepOutcomes(10 * i, text) for i, text in enumerate(outcomes)]
    return assess_checkpoint(TWENTY, rules or golden_bar(), history)


ALL, ONE_DOWN, TWO_DOWN = "p" * 20, with_fails(4), with_fails(4, 9)
IMMEDIATE = golden_bar(confirm=False)


def stops() -> dict[str, Assessment]:
    return {
        "the starting model alone": stop_rule(TWO_DOWN),
        "better than the starting model": stop_rule(TWO_DOWN, ALL),
        "as good as the best": stop_rule(TWO_DOWN, ALL, ALL),
        "below the starting model": stop_rule(ALL, ONE_DOWN),
        "below the best": stop_rule(TWO_DOWN, ALL, ONE_DOWN),
        "below the best twice": stop_rule(TWO_DOWN, ALL, ONE_DOWN, TWO_DOWN),
        "below the best, recovered, and below again": stop_rule(TWO_DOWN, ALL, ONE_DOWN, ALL, ONE_DOWN),
        "below the best at once": stop_rule(TWO_DOWN, ALL, ONE_DOWN, rules=IMMEDIATE),
        "within a wider limit": stop_rule(
            ALL, TWO_DOWN, rules=golden_bar(max_drop_between_checkpoints=Fraction(101, 10))
        ),
        "at a wider limit": stop_rule(
            ALL, TWO_DOWN, rules=golden_bar(max_drop_between_checkpoints=Fraction(10))
        ),
        "truncated outputs": stop_rule(ALL, with_fails(4, 9, letter="t")),
        "outcomes that could not be measured": stop_rule(ALL, with_fails(4, 9, letter="e")),
        "a failed and an unmeasured case": stop_rule(ALL, "f" + "p" * 18 + "e"),
        "a critical case that was lost": stop_rule(TWO_DOWN, ALL, with_fails(5), rules=PII),
        "a critical case lost to truncation": stop_rule(ALL, with_fails(5, letter="t"), rules=PII),
        "a critical case that could not be measured": stop_rule(ALL, with_fails(5, letter="e"), rules=PII),
        "a critical case that passed long ago": stop_rule(ALL, with_fails(5), with_fails(5), rules=PII),
        "a critical case that never passed": stop_rule(with_fails(5), with_fails(5), rules=PII),
        "critical by two names of one case": stop_rule(
            ALL, with_fails(5), rules=golden_bar(must_pass=("pii", "case-5"))
        ),
        "six critical cases that were lost": stop_rule(ALL, with_fails(3, 5, 8, 13, 14, 15), rules=PII),
    }  # fmt: skip


class TextFile(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "txt"


def test_verdict_messages_match_the_snapshot(snapshot: SnapshotAssertion) -> None:
    text = "\n".join(line for name, verdict in verdicts().items() for line in _verdict_lines(name, verdict))
    assert text + "\n" == snapshot(extension_class=TextFile)


def test_stop_rule_messages_match_the_snapshot(snapshot: SnapshotAssertion) -> None:
    text = "\n".join(line for name, assessment in stops().items() for line in _stop_lines(name, assessment))
    assert text + "\n" == snapshot(extension_class=TextFile)


def _verdict_lines(name: str, judged: Verdict | RuleFinding) -> Iterator[str]:
    if isinstance(judged, RuleFinding):
        yield f"{name}: {judged.state}"
        findings: tuple[RuleFinding, ...] = (judged,)
    else:
        deltas = "".join(f", {k} {v} points" for k, v in (judged.delta_points or {}).items())
        yield f"{name}: {judged.state}, {judged.passed} of {judged.total}{deltas}"
        yield f"  message: {judged.message}"
        findings = judged.findings
    yield from (f"  {f.rule} {f.state}: {f.message}" for f in findings)
    yield ""


def _stop_lines(name: str, assessment: Assessment) -> Iterator[str]:
    yield f"{name}: {assessment.action}{', critical' if assessment.must_pass else ''}"
    yield f"  message: {assessment.message}"
    regressed = ", ".join(assessment.regressed) or "none"
    yield f"  best: {assessment.best_passed} at step {assessment.best_step}; regressed: {regressed}"
    yield ""
