"""Which golden rates are optimistic, because they selected the model."""

import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import Judgement, judge_final
from tunegate_api.judging.selection import selecting_gates, selection_text
from tunegate_api.v1alpha2 import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet


def request(final: list[str], of_stage: list[str], dry_run: tuple[str, ...] = ()) -> Request:
    spec = make_job().with_gates(*final).spec
    if of_stage:
        spec["stages"][-1]["gates"] = [{"name": name} for name in of_stage]
    gates = [
        GateRequest(
            name=name,
            spec=EvalGateSpec.model_validate(
                make_gate(name).spec | ({"enforcement": "DryRun"} if name in dry_run else {})
            ),
            golden_sha256="a" * 64,
        )
        for name in sorted({*final, *of_stage})
    ]
    return Request(
        name="orders", namespace="default", uid="u", spec=FineTuneJobSpec.model_validate(spec), gates=gates
    )


@pytest.mark.parametrize(
    ("final", "of_stage", "dry_run", "found"),
    [
        (["golden", "safety"], [], (), ["golden", "safety"]),
        (["golden", "safety"], ["golden"], (), ["golden"]),
        (["golden"], ["form"], (), []),
        (["golden", "safety"], [], ("safety",), ["golden"]),
    ],
)
def test_only_final_gates_of_the_last_stage_select_its_checkpoint(final, of_stage, dry_run, found):
    assert selecting_gates(request(final, of_stage, dry_run)) == found


def judged(of: Request, groups: tuple[int, ...] = (), **passed: int) -> Judgement:
    """Return the judgement of a final model that passes this number of 50 cases of each gate."""
    cases = CaseSet(sha256="a" * 64, ids=[f"case-{i}" for i in range(50)], groups=list(groups))
    outcomes = {f"golden/{name}": "p" * n + "f" * (50 - n) for name, n in passed.items()}
    final = Evaluation(subject=Subject.FINAL, stage="sft", step=10, outcomes=outcomes)
    found = judge_final(of, Results(sets=dict.fromkeys(outcomes, cases), evaluations=[final]))
    assert found is not None
    return found


def test_text_is_empty_if_nothing_was_selected():
    of = request(["golden"], [])
    assert selection_text(1, of, judged(of, golden=45)) == ""
    of = request(["golden"], ["form"])
    assert selection_text(5, of, judged(of, golden=45)) == ""


def test_text_names_checkpoints_gates_and_points():
    of = request(["golden"], [])
    expected = "best of 5 checkpoints by golden: rate up to 5.8 points too high"
    assert selection_text(5, of, judged(of, golden=45)) == expected
    of = request(["golden", "safety"], [])
    assert selection_text(2, of, judged(of, golden=45, safety=48)) == (
        "best of 2 checkpoints by golden and safety: rates up to 2.7 and 1.9 points too high"
    )


def test_groups_of_equal_cases_make_a_rate_more_optimistic():
    of = request(["golden"], [])
    pairs = tuple(i // 2 for i in range(50))
    assert "rate up to 8.6 points" in selection_text(5, of, judged(of, pairs, golden=45))
