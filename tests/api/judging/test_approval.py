"""What a person's decision about a final verdict allows, and when it no longer applies."""

from datetime import UTC, datetime
from typing import Any

import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.approval import may_override, may_publish, verdict_digest
from tunegate_api.judging.judgement import judge_final
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet, VerdictState

GOLDEN, DIGEST, OTHER = "a" * 64, "d" * 64, "e" * 64
PASSED, FAILED, ERROR = VerdictState.PASSED, VerdictState.FAILED, VerdictState.ERROR
INCONCLUSIVE = VerdictState.INCONCLUSIVE
REQUIRED, ALLOWED, DRY = {"approval": "WhenPassed"}, {"approval": "WhenFailed"}, {"enforcement": "DryRun"}


def request_with(*gates: dict[str, Any]) -> Request:
    names = [f"gate-{i}" for i in range(len(gates))]
    return Request(
        name="orders",
        namespace="default",
        uid="u",
        spec=FineTuneJobSpec.model_validate(make_job().with_gates(*names).spec),
        gates=[
            GateRequest(
                name=name,
                spec=EvalGateSpec.model_validate(make_gate().spec | changes),
                golden_sha256=GOLDEN,
            )
            for name, changes in zip(names, gates, strict=True)
        ],
    )


def decided(action: str, verdict: str = DIGEST) -> PersonDecision:
    return PersonDecision.model_validate(
        {"action": action, "about": verdict, "by": "ana", "reason": "ok", "time": datetime.now(UTC)}
    )


@pytest.mark.parametrize(
    ("gates", "verdict", "decision", "allowed"),
    [
        ([{}], PASSED, None, True),
        ([REQUIRED], PASSED, None, False),
        ([{}, REQUIRED], PASSED, None, False),
        ([REQUIRED | DRY], PASSED, None, True),
        ([REQUIRED], PASSED, decided("approve"), True),
        ([REQUIRED], PASSED, decided("approve", OTHER), False),
        ([REQUIRED], PASSED, decided("reject"), False),
        ([REQUIRED], PASSED, decided("override", OTHER), True),
        ([{}], FAILED, None, False),
        ([ALLOWED], FAILED, None, False),
        ([ALLOWED], FAILED, decided("override"), True),
        ([ALLOWED], INCONCLUSIVE, decided("override"), True),
        ([ALLOWED], FAILED, decided("override", OTHER), False),
        ([ALLOWED], FAILED, decided("approve"), False),
        ([ALLOWED], FAILED, decided("reject"), False),
        ([ALLOWED], ERROR, decided("override"), False),
        ([{}], FAILED, decided("override"), False),
        ([ALLOWED, {}], FAILED, decided("override"), False),
        ([ALLOWED, DRY], FAILED, decided("override"), True),
        ([ALLOWED | DRY], FAILED, decided("override"), False),
    ],
)
def test_only_a_fitting_decision_lets_a_model_be_published(gates, verdict, decision, allowed):
    assert may_publish(request_with(*gates), verdict, DIGEST, decision) is allowed


def test_verdict_that_was_not_measured_offers_no_override():
    request = request_with(ALLOWED)
    offered = {state for state in VerdictState if may_override(request, state)}
    assert offered == {FAILED, INCONCLUSIVE}


def digest(golden: str, published: str | None = None, **limits: str) -> str:
    """Return the digest of the verdict on a model with these outcomes of its golden cases."""
    request = request_with({})
    rule = {"name": "all", "minPassRate": "80%", **limits}
    (gate,) = request.gates
    spec = EvalGateSpec.model_validate(make_gate().with_golden(rules=[rule]).spec)
    request.gates[0] = gate.model_copy(update={"spec": spec})
    evaluations = [
        Evaluation(
            subject=subject,
            stage="sft",
            step=10,
            digest=DIGEST,
            outcomes={"golden/gate-0": outcomes, "test/exact_match": "p"},
        )
        for subject, outcomes in ((Subject.BASE, "f" * len(golden)), (Subject.FINAL, golden))
    ]
    read = None
    if published:
        version = PublishedVersion(job="rival", by_case=True, golden_sha256=GOLDEN, outcomes=published)
        read = LastPublished(reading=1, versions={"gate-0": version})
    cases = CaseSet(sha256=GOLDEN, ids=[f"case-{i}" for i in range(len(golden))])
    rows = CaseSet(sha256=GOLDEN, ids=["row-0"])
    sets = {"golden/gate-0": cases, "test/exact_match": rows}
    results = Results(sets=sets, evaluations=evaluations, last_published=read)
    judged = judge_final(request, results)
    assert judged is not None
    return verdict_digest(judged)


def test_comparison_with_a_new_version_keeps_a_passed_verdict():
    assert digest("p" * 100) == digest("p" * 100, published="p" * 90 + "f" * 10)


def test_comparison_with_a_better_version_changes_a_failed_verdict():
    failed = "p" * 50 + "f" * 50
    digests = [digest(failed), digest(failed, "p" * 60 + "f" * 40), digest(failed, "p" * 90 + "f" * 10)]
    assert len(set(digests)) == 3


def test_other_new_failures_change_a_failed_verdict():
    failed = "p" * 90 + "f" * 10
    three_new, ten_new = "p" * 83 + "f" * 14 + "p" * 3, "p" * 76 + "f" * 14 + "p" * 10
    assert three_new.count("p") == ten_new.count("p"), "so the drop is the same"
    strict = {"minPassRate": "80%", "maxNewFailures": 2}
    assert digest(failed, three_new, **strict) != digest(failed, ten_new, **strict)


def test_digest_names_the_outcome_of_each_case_and_the_limits():
    limits = {"minPassRate": "95%"}
    digests = [digest("pf" * 50), digest("fp" * 50), digest("p" * 90 + "f" * 10, **limits)]
    assert len({*digests, digest("p" * 90 + "f" * 10)}) == 4
