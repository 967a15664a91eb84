"""A rule that is added with one module and one line in the table is judged like every other rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract.bar import GOLDEN_RULES
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import best_checkpoint, judge_checkpoint, judge_final
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.measured import Measured
from tunegate_api.verdict.outcomes import CaseSet, RuleFinding
from tunegate_api.verdict.rules.drop import Drop

SHA = "a" * 64
IDS = [f"case-{i}" for i in range(20)]
CASES = CaseSet(sha256=SHA, ids=IDS, tags=[["pii"] if i < 5 else ["other"] for i in range(20)])
ROWS = CaseSet(sha256="b" * 64, ids=["row-0"])


@dataclass(frozen=True)
class NoTruncatedOutput:
    """A rule that only these tests have."""

    name: str = "noTruncatedOutput"
    cases: Sequence[str] = ()
    compares: bool = False
    consequence: str = "a truncated output"

    def text(self, measured: Measured, /) -> str:
        return f"{measured.letters.count('t')} truncated"

    def fails(self, measured: Measured, /) -> bool:
        return "t" in measured.letters

    def undecided(self, measured: Measured, /) -> str:
        return "" if measured.total > 1 else ": one case is not enough"


def kept(tag: str) -> Drop:
    """Return the rule that no case with the tag may be lost."""
    return Drop(Fraction(1), is_of_cases=True, name="kept", cases=(tag,))


def measured(outcomes: str, base: str = "", last: PublishedVersion | None = None) -> tuple[Request, Results]:
    """Return a job whose gate asks for no pass rate, and measures these outcomes of a checkpoint and of the
    artifact. The gate compares with the base model if there are outcomes of it."""
    compared = [{"type": name} for name, has in (("BaseModel", base), ("LastPublished", last)) if has]
    rules = [{"name": "all", "maxNewFailures": 20, "failAtDrop": "100%"}]
    gate = EvalGateSpec.model_validate(make_gate().with_golden(rules=rules).spec | {"compareWith": compared})
    request = Request(
        name="orders",
        namespace="default",
        uid="u",
        spec=FineTuneJobSpec.model_validate(make_job().with_gates("golden").spec),
        gates=[GateRequest(name="golden", spec=gate, golden_sha256=SHA, last_published=last)],
    )
    evaluations = [
        Evaluation(
            subject=subject,
            stage="sft",
            step=step,
            outcomes={"golden/golden": letters, "dev/exact_match": "p", "test/exact_match": "p"},
        )
        for subject, step, letters in (
            (Subject.BASE, 0, base),
            (Subject.CHECKPOINT, 40, outcomes),
            (Subject.FINAL, 40, outcomes),
        )
        if letters
    ]
    sets = {"golden/golden": CASES, "dev/exact_match": ROWS, "test/exact_match": ROWS}
    return request, Results(sets=sets, evaluations=evaluations)


def findings(request: Request, results: Results) -> tuple[RuleFinding, ...]:
    judged = judge_final(request, results)
    assert judged is not None
    assert judged.state is judged.gates[0].verdict.state
    return judged.gates[0].verdict.findings


@pytest.mark.parametrize(
    ("outcomes", "state", "message"),
    [
        ("p" * 20, "Passed", "0 truncated"),
        ("p" * 19 + "t", "Failed", "1 truncated"),
        ("p" * 18 + "te", "Failed", "1 truncated"),
        ("p" * 19 + "e", "Error", "0 truncated, 1 not measured"),
    ],
)
def test_rule_added_with_one_line_decides_the_verdict(monkeypatch, outcomes, state, message):
    job = measured(outcomes)
    assert "noTruncatedOutput" not in [each.rule for each in findings(*job)]
    monkeypatch.setitem(GOLDEN_RULES, "noTruncatedOutput", lambda _: [NoTruncatedOutput()])
    assert RuleFinding("noTruncatedOutput", state, message) in findings(*job)
    request, results = job
    assert judge_final(request, results).state == state
    (checkpoint,) = results.find(Subject.CHECKPOINT)
    assert judge_checkpoint(request, results, checkpoint).state == state
    assert (best_checkpoint(request, results, "sft") is not None) is (state == "Passed")


def test_added_rule_that_cannot_decide_makes_the_verdict_inconclusive(monkeypatch):
    monkeypatch.setitem(GOLDEN_RULES, "noTruncatedOutput", lambda _: [NoTruncatedOutput(cases=["case-7"])])
    found = RuleFinding("noTruncatedOutput", "Inconclusive", "0 truncated: one case is not enough")
    assert found in findings(*measured("p" * 20))


@pytest.mark.parametrize(
    ("tag", "outcomes", "state"),
    [
        ("pii", "fpppp" + "p" * 15, "Failed"),
        ("pii", "ppppp" + "f" * 15, "Passed"),
        ("pii", "epppp" + "p" * 15, "Error"),
        ("no-such", "p" * 20, "Error"),
    ],
)
def test_added_rule_compares_only_the_cases_that_it_names(monkeypatch, tag, outcomes, state):
    monkeypatch.setitem(GOLDEN_RULES, "kept", lambda _: [kept(tag)])
    (compared,) = [each for each in findings(*measured(outcomes, base="p" * 20)) if each.rule == "BaseModel"]
    assert compared.state == state


def test_rule_about_some_cases_needs_the_outcome_of_each(monkeypatch):
    monkeypatch.setitem(GOLDEN_RULES, "kept", lambda _: [kept("pii")])
    number = PublishedVersion(job="earlier", golden_sha256=SHA, outcomes="p" * 10 + "f" * 10, by_case=False)
    request, results = measured("p" * 20, last=number)
    (checkpoint,) = results.find(Subject.CHECKPOINT)
    assert judge_checkpoint(request, results, checkpoint).state == "Passed"
    assert judge_final(request, results).state == "Error"
