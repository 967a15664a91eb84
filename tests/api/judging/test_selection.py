"""Which golden rates are optimistic, because they selected the model."""

import numpy as np
import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import Judgement, judge_final
from tunegate_api.judging.selection import selection_text
from tunegate_api.v1alpha2 import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.optimism import optimism
from tunegate_api.verdict.outcomes import CaseSet


def request(final: list[str], of_stage: list[str], dry_run: tuple[str, ...] = (), stages: int = 1) -> Request:
    spec = make_job().with_gates(*final).spec
    if stages == 2:
        spec["stages"].append({"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}})
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
def test_only_final_gates_of_a_stage_select_its_checkpoint(final, of_stage, dry_run, found):
    of = request(final, of_stage, dry_run)
    text = selection_text({"sft": 5}, of, judged(of, **dict.fromkeys(final, 45)))
    assert [name for name in final if name in text] == found


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
    assert selection_text({"sft": 1}, of, judged(of, golden=45)) == ""
    of = request(["golden"], ["form"])
    assert selection_text({"sft": 5}, of, judged(of, golden=45)) == ""


def test_text_names_checkpoints_gates_and_points():
    of = request(["golden"], [])
    expected = "best of 5 checkpoints by golden: rate up to 5.8 points too high on average"
    assert selection_text({"sft": 5}, of, judged(of, golden=45)) == expected
    of = request(["golden", "safety"], [])
    assert selection_text({"sft": 2}, of, judged(of, golden=45, safety=48)) == (
        "best of 2 checkpoints by golden and safety: rates up to 2.7 and 1.9 points too high on average"
    )


def test_text_counts_checkpoints_of_all_selecting_stages():
    of = request(["golden"], [], stages=2)
    text = selection_text({"sft": 5, "dpo": 2}, of, judged(of, golden=45))
    assert text == "best of 5 and then of 2 checkpoints by golden: rate up to 7.9 points too high on average"
    assert "best of 2 checkpoints" in selection_text({"sft": 1, "dpo": 2}, of, judged(of, golden=45))
    assert "best of 5 checkpoints" in selection_text({"sft": 5, "dpo": 1}, of, judged(of, golden=45))


def test_gates_that_selected_in_different_stages_have_own_counts():
    of = request(["golden", "safety"], ["golden"], stages=2)
    assert selection_text({"sft": 5, "dpo": 2}, of, judged(of, golden=45, safety=45)) == (
        "best of 5 and then of 2 checkpoints by golden: rate up to 7.9 points too high on average; "
        "best of 5 checkpoints by safety: rate up to 5.8 points too high on average"
    )


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_stated_points_are_at_least_the_mean_of_two_selections(kept):
    """The best of 5 checkpoints is trained further, and keeps the outcome of a case with probability
    ``kept``. The best of 2 checkpoints of this stage is the final model. All have the true rate 0.9."""
    random, cases, rounds, rate = np.random.default_rng(3), 100, 4000, 0.9
    first = random.random((rounds, 5, cases)) < rate
    start = first[np.arange(rounds), first.sum(axis=2).argmax(axis=1)]
    fresh = random.random((rounds, 2, cases)) < rate
    second = np.where(random.random((rounds, 2, cases)) < kept, start[:, None], fresh)
    passed = second.sum(axis=2).max(axis=1)
    true = 100 * (passed.mean() / cases - rate)
    stated = np.mean([optimism(10, int(number), cases) for number in passed])
    only_last = np.mean([optimism(2, int(number), cases) for number in passed])
    assert true <= stated
    assert only_last < true or kept == 0


def test_groups_of_equal_cases_make_a_rate_more_optimistic():
    of = request(["golden"], [])
    pairs = tuple(i // 2 for i in range(50))
    assert "rate up to 8.6 points" in selection_text({"sft": 5}, of, judged(of, pairs, golden=45))
