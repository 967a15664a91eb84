"""Whether a checkpoint can pass at all, after the starting model was evaluated."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.builders import make_gate, make_job
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import judge_checkpoint
from tunegate_api.judging.prospects import no_checkpoint_can_pass
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet, VerdictState

SHA = "a" * 64
GOLDEN, SAFETY = "golden/golden", "safety/golden"
NON_INFERIOR = {"test": "NonInferior"}


def request(
    limits: dict[str, Any] | None = None,
    published: PublishedVersion | None = None,
    *,
    has_safety: bool = False,
    **fields: Any,
) -> Request:
    gate_made = make_gate("golden").with_golden(rules=[{"name": "all", **(limits or {})}])
    if has_safety:
        checkpoints = {"onRegression": "Confirm"}
        gate_made.with_safety(source={"builtin": "refusals-v1"}, checkpoints=checkpoints)
    spec = gate_made.spec | {"compareWith": [{"type": "BaseModel"}, {"type": "LastPublished"}], **fields}
    safety = "b" * 64 if has_safety else None
    gate = GateRequest(
        name="golden",
        spec=EvalGateSpec.model_validate(spec),
        golden_sha256=SHA,
        safety_sha256=safety,
        last_published=published,
    )
    job = FineTuneJobSpec.model_validate(make_job().spec)
    return Request(name="orders", namespace="default", uid="u", spec=job, gates=[gate])


def evaluation(subject: Subject, golden: str, safety: str = "") -> Evaluation:
    outcomes = {GOLDEN: golden} | ({SAFETY: safety} if safety else {})
    return Evaluation(
        subject=subject, stage="sft", step=int(subject is Subject.CHECKPOINT), outcomes=outcomes
    )


def results(golden: str, safety: str = "", sha: str = SHA) -> Results:
    """Return the results of a starting model with these outcomes."""
    sets = {GOLDEN: CaseSet(sha256=sha, ids=[f"case-{i}" for i in range(len(golden))])}
    if safety:
        tags = [["Unsafe" if i % 2 else "Harmless"] for i in range(len(safety))]
        sets[SAFETY] = CaseSet(sha256="b" * 64, ids=[f"request-{i}" for i in range(len(safety))], tags=tags)
    return Results(sets=sets, evaluations=[evaluation(Subject.START, golden, safety)])


def test_nothing_is_known_before_the_starting_model_is_evaluated():
    assert no_checkpoint_can_pass(request(NON_INFERIOR), Results(), "sft") == ""


@pytest.mark.parametrize(
    ("start", "limits"),
    [
        ("f" * 20, {"minPassRate": "100%"}),
        ("p" * 20, {}),
        ("t" * 20, {}),
        ("t" * 20, {"minPassRate": "80%", "maxNewFailures": 0}),
        ("f" * 30, NON_INFERIOR),
        ("p" * 100, NON_INFERIOR),
    ],
    ids=["all-fail", "all-pass", "all-truncated", "strict", "too-few-but-all-can-improve", "enough"],
)
def test_job_goes_on_if_a_perfect_checkpoint_would_pass(start, limits):
    assert no_checkpoint_can_pass(request(limits), results(start), "sft") == ""


def test_non_inferiority_job_ends_if_base_passes_too_few_cases():
    problem = no_checkpoint_can_pass(request(NON_INFERIOR), results("p" * 20), "sft")
    assert problem.startswith("a checkpoint that passes every case of golden is Inconclusive: golden 20/20")
    assert "have at least" in problem


def test_job_ends_if_truncated_base_outputs_rule_out_every_pass():
    problem = no_checkpoint_can_pass(request(NON_INFERIOR), results("t" * 40), "sft")
    assert "40 outputs of BaseModel were truncated" in problem
    assert problem.endswith("raise generation.maxNewTokens")


def test_base_model_case_to_score_again_does_not_end_job():
    assert no_checkpoint_can_pass(request(NON_INFERIOR), results("e" + "p" * 19), "sft") == ""


def test_gate_in_a_dry_run_ends_no_job():
    assert no_checkpoint_can_pass(request(NON_INFERIOR, enforcement="DryRun"), results("p" * 20), "sft") == ""


def test_results_of_another_golden_set_end_no_job():
    assert no_checkpoint_can_pass(request(NON_INFERIOR), results("p" * 20, sha="c" * 64), "sft") == ""


def test_truncated_safety_outputs_of_the_base_model_end_the_job():
    asked = request(has_safety=True)
    assert no_checkpoint_can_pass(asked, results("f" * 20, "pf" * 20), "sft") == ""
    problem = no_checkpoint_can_pass(asked, results("f" * 20, "tt" * 20), "sft")
    assert "is Error: " in problem
    assert "raise generation.maxNewTokens" in problem


def test_published_version_that_cannot_be_compared_ends_the_job():
    published = PublishedVersion(job="earlier", golden_sha256="d" * 64, outcomes="p" * 20)
    problem = no_checkpoint_can_pass(request(published=published), results("f" * 20), "sft")
    assert problem.endswith("LastPublished was measured on another golden set")


@given(
    start=st.text("pft", min_size=1, max_size=60),
    checkpoint=st.text("pft", min_size=60, max_size=60),
    limits=st.sampled_from([{}, NON_INFERIOR, {**NON_INFERIOR, "maxNewFailures": 0}]),
)
@example(
    start="t" * 20,
    checkpoint="p" * 60,
    limits={},
)
@settings(max_examples=60, deadline=None)
def test_no_job_ends_that_has_a_passing_checkpoint(start, checkpoint, limits):
    asked, measured = request(limits), results(start)
    judged = judge_checkpoint(asked, measured, evaluation(Subject.CHECKPOINT, checkpoint[: len(start)]))
    if judged.gate_state is VerdictState.PASSED:
        assert no_checkpoint_can_pass(asked, measured, "sft") == ""
