"""Which golden cases are sealed, and how checkpoints and the final model are judged with them."""

from fractions import Fraction
from itertools import accumulate, pairwise
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import make_gate, make_job
from tunegate_api.cases.golden import GoldenCase, unreachable
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import Judgement, best_checkpoint, judge_checkpoint, judge_final
from tunegate_api.judging.selection import selection_text
from tunegate_api.judging.stages import assess_stage
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet, VerdictState, group_numbers
from tunegate_api.verdict.sealed import sealed_positions
from tunegate_api.verdict.stop_rule import StopAction

SHA = "a" * 64
CASES = CaseSet(
    sha256=SHA,
    ids=[f"case-{i}" for i in range(100)],
    tags=[["pii"] if i < 10 else [] for i in range(100)],
)
SHARE = Fraction(3, 10)
SEALED = sealed_positions(CASES, SHARE, ["pii"])
DEV, TEST = "dev/exact_match", "test/exact_match"


def sealed_ids(cases: CaseSet, must_pass: tuple[str, ...] = ()) -> set[str]:
    return {cases.ids[i] for i in sealed_positions(cases, SHARE, must_pass)}


def outcomes(opened: int, sealed: int | None) -> str:
    """Return outcomes of CASES in which this number of the 70 open cases and of the 30 sealed cases pass.
    Sealed cases are not evaluated if ``sealed`` is None."""
    of_open = iter("p" * opened + "f" * (70 - opened))
    of_sealed = iter("s" * 30 if sealed is None else "p" * sealed + "f" * (30 - sealed))
    return "".join(next(of_sealed if i in SEALED else of_open) for i in range(100))


def gate(
    last: PublishedVersion | None = None,
    sealed: str | None = "30%",
    checkpoints: dict[str, str] | None = None,
    **limits: Any,
) -> GateRequest:
    critical = {"name": "critical", "cases": ["pii"], "minPassRate": "100%"}
    rules = [{"name": "all", **limits}, critical]
    spec = make_gate().with_golden(rules=rules, sealed=sealed, checkpoints=checkpoints or {}).spec | {
        "compareWith": [{"type": each} for each in ("BaseModel", *(["LastPublished"] if last else []))]
    }
    return GateRequest(
        name="golden", spec=EvalGateSpec.model_validate(spec), golden_sha256=SHA, last_published=last
    )


def request(of: GateRequest) -> Request:
    spec = FineTuneJobSpec.model_validate(make_job().spec)
    return Request(name="orders", namespace="default", uid="u", spec=spec, gates=[of])


def evaluation(subject: Subject, step: int, golden: str) -> Evaluation:
    measured = {"golden/golden": golden, DEV: "pppp", TEST: "pppp"}
    return Evaluation(subject=subject, stage="sft", step=step, outcomes=measured)


def results(*evaluations: Evaluation) -> Results:
    rows = CaseSet(sha256="b" * 64, ids=[f"row-{i}" for i in range(4)])
    return Results(sets={"golden/golden": CASES, DEV: rows, TEST: rows}, evaluations=[*evaluations])


START = evaluation(Subject.START, 0, outcomes(50, None))
BASE = evaluation(Subject.BASE, 0, outcomes(50, 20))


def judged_final(final: str, of: GateRequest | None = None) -> Judgement:
    found = judge_final(request(of or gate()), results(START, BASE, evaluation(Subject.FINAL, 20, final)))
    assert found is not None
    return found


def test_three_tenths_of_cases_are_sealed_but_no_must_pass():
    assert len(SEALED) == 30
    assert not SEALED & set(range(10))


def test_another_golden_set_has_other_sealed_cases():
    assert sealed_ids(CASES) != sealed_ids(CASES.model_copy(update={"sha256": "b" * 64}))


@given(
    order=st.permutations(range(24)),
    groups=st.lists(st.sampled_from([None, "x", "y", "z"]), min_size=24, max_size=24),
    critical=st.sets(st.integers(0, 23), max_size=4),
)
def test_order_of_cases_does_not_matter_and_groups_are_whole(order, groups, critical):
    def ordered(positions: Any) -> CaseSet:
        return CaseSet(
            sha256=SHA,
            ids=[f"case-{i}" for i in positions],
            tags=[["pii"] if i in critical else [] for i in positions],
            groups=group_numbers([groups[i] for i in positions]),
        )

    found = sealed_ids(ordered(range(24)), ("pii",))
    assert found == sealed_ids(ordered(order), ("pii",))
    assert len(found) <= 7
    assert not found & {f"case-{i}" for i in critical}
    for name in ("x", "y", "z"):
        members = {f"case-{i}" for i in range(24) if groups[i] == name}
        assert found & members in (set(), members)


def test_checkpoint_is_judged_by_the_open_cases():
    judged = judge_checkpoint(
        request(gate(minPassRate="90%")),
        results(START),
        evaluation(Subject.CHECKPOINT, 10, outcomes(63, None)),
    )
    (found,) = judged.gates
    assert (found.verdict.state, found.verdict.passed, found.verdict.total) == (VerdictState.PASSED, 63, 70)
    assert "golden 63/70, BaseModel 50/70: +18.5 points" in found.verdict.message
    assert len(found.failed_cases) == 7
    assert found.parts is None


def test_outcomes_of_sealed_cases_that_a_checkpoint_reports_are_ignored():
    at = [
        evaluation(Subject.CHECKPOINT, step, outcomes(63, sealed)) for step, sealed in ((10, None), (20, 30))
    ]
    best = best_checkpoint(request(gate()), results(START, *at), "sft")
    assert best is not None
    assert best.step == 10


def test_open_case_reported_as_sealed_is_not_measured():
    letters = outcomes(70, None)
    first = next(i for i in range(10, 100) if i not in SEALED)
    hidden = letters[:first] + "s" + letters[first + 1 :]
    judged = judge_checkpoint(request(gate()), results(START), evaluation(Subject.CHECKPOINT, 10, hidden))
    assert judged.gate_state is VerdictState.ERROR


def test_sealed_cases_do_not_stop_training():
    at = [
        evaluation(Subject.CHECKPOINT, 10, outcomes(70, 30)),
        evaluation(Subject.CHECKPOINT, 20, outcomes(70, 0)),
    ]
    found = assess_stage(
        request(gate(checkpoints={"onRegression": "Immediate"})), results(START, *at), "sft", 0
    )
    assert found is not None
    assert found.assessment.action is StopAction.CONTINUE
    assert found.assessment.message.startswith("golden 70/70 at step 20")


def test_final_model_is_judged_by_open_and_sealed_cases():
    judged = judged_final(outcomes(68, 25), gate(minPassRate="90%"))
    (found,) = judged.gates
    assert (judged.state, found.verdict.passed, found.verdict.total) == (VerdictState.PASSED, 93, 100)
    assert "golden 93/100, BaseModel 70/100: +23.0 points" in judged.message
    assert judged.message.count("open 68/70 = 0.97, sealed 25/30 = 0.83") == 1


def test_final_model_fails_by_its_sealed_cases():
    judged = judged_final(outcomes(70, 10), gate(minPassRate="90%"))
    assert judged.state is VerdictState.FAILED
    assert "golden 80/100 = 0.80, required 0.90" in judged.message


def test_final_model_without_outcomes_of_sealed_cases_is_an_error():
    assert judged_final(outcomes(70, None)).state is VerdictState.ERROR


def test_gate_without_sealed_cases_shows_no_parts():
    judged = judged_final("p" * 100, gate(sealed=None))
    assert judged.gates[0].parts is None
    assert "sealed" not in judged.message


@pytest.mark.parametrize(
    ("by_case", "skipped", "compared"), [(True, [], "LastPublished 60/70"), (False, ["LastPublished"], "")]
)
def test_checkpoint_is_compared_with_the_open_cases_of_a_version(by_case, skipped, compared):
    last = PublishedVersion(job="first", golden_sha256=SHA, outcomes=outcomes(60, 30), by_case=by_case)
    at = evaluation(Subject.CHECKPOINT, 10, outcomes(63, None))
    (found,) = judge_checkpoint(request(gate(last)), results(START), at).gates
    assert (found.verdict.state, list(found.skipped)) == (VerdictState.PASSED, skipped)
    assert compared in found.verdict.message


def test_selection_text_has_rates_of_open_and_all_cases():
    text = selection_text({"sft": 10}, request(gate()), judged_final(outcomes(68, 25)))
    assert text == (
        "best of 10 checkpoints by golden: open rate up to 4.4 points too high on average, and rate of all "
        "cases, which the verdict counts, up to 3.1; the sealed cases are not affected"
    )


def passing_share(checkpoints: int, sealed: int) -> float:
    """Return the exact share of models with the true rate 75 % that pass 80 of 100 cases, if each was the
    best of independent checkpoints by the cases that are not ``sealed``."""
    of_open, of_sealed = (
        [comb(n, k) * 0.75**k * 0.25 ** (n - k) for k in range(n + 1)] for n in (100 - sealed, sealed)
    )
    below = [0.0, *accumulate(of_open)]
    best = [after**checkpoints - before**checkpoints for before, after in pairwise(below)]
    return sum(chance * sum(of_sealed[max(0, 80 - passed) :]) for passed, chance in enumerate(best))


def test_docs_state_how_many_selected_models_pass_with_sealed_cases():
    lines = Path(__file__).parents[3].joinpath("docs", "sealed-cases.md").read_text().splitlines()
    for label, sealed in (("without sealed cases", 0), ("with `sealed: 30%`", 30)):
        exact = " | ".join(f"{100 * passing_share(n, sealed):.1f} %" for n in (1, 2, 5, 10))
        assert f"| {label} | {exact} |" in lines


def cases(total: int, tag: str = "plain", tagged: int = 0) -> list[GoldenCase]:
    expect = [{"type": "contains", "value": "x"}]
    return [
        GoldenCase.model_validate(
            {"id": f"case-{i}", "prompt": f"{i}?", "expect": expect, "tags": [tag] if i < tagged else []}
        )
        for i in range(total)
    ]


@pytest.mark.parametrize(
    ("total", "rules", "message"),
    [
        (
            3,
            [{"name": "all", "failAtDrop": "50%"}],
            "no golden case can be sealed: 0.3 of 3 is less than one case",
        ),
        (
            25,
            [],
            "checkpoints are evaluated on the 18 cases that are not sealed, and 18 golden cases are too few "
            "to detect a drop of 5 points, so no model can pass: have at least 20 cases, or raise "
            "failAtDrop. Lower the share, or add cases",
        ),
        (100, [{"name": "critical", "cases": ["case-0"], "minPassRate": "100%"}], None),
    ],
)
def test_set_too_small_without_its_sealed_cases_is_refused(total, rules, message):
    found = unreachable(sealing(rules), cases(total), SHA)
    assert [problem.where for problem in found] == ["spec.sets[0].sealed"] * (message is not None)
    assert message is None or found[0].message.startswith(message)


def test_required_tag_whose_cases_are_all_sealed_is_refused():
    sealed = sorted(sealed_positions(CaseSet(sha256=SHA, ids=[c.id for c in cases(100)]), SHARE, []))
    tagged = [
        c.model_copy(update={"tags": ["adversarial"]}) if i == sealed[0] else c
        for i, c in enumerate(cases(100))
    ]
    (found,) = unreachable(sealing([{"name": "needed", "cases": ["adversarial"]}]), tagged, SHA)
    assert "no golden case that counts has the id or the tag adversarial" in found.message


def sealing(rules: list[dict[str, Any]]) -> EvalGateSpec:
    """Return a gate with these rules that seals a share of its cases."""
    return EvalGateSpec.model_validate(make_gate().with_golden(rules=rules, sealed="30%").spec)
