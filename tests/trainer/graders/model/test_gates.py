"""The data role calibrates the judge models of gates, and puts their counts into the plan."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import failing
from support.gate_servers import judge_cases, judge_spec
from support.guard_server import GuardServerStub
from support.judge_server import JUDGE_KEY, JudgeServerStub, calibration_rows, find_bad_rows, score
from support.proxy import use_proxy
from support.trainer_root import TrainerRoot, gate_spec, orders_spec
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.main import main
from tunegate_trainer.process.files import sha256_file, write_model

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

MakeJob = Callable[..., TrainerRoot]


@pytest.fixture
def make_job(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Make the root of a job with these gates before its data role has run."""

    def make(scored: list[dict[str, Any]] | None = None, **gates: dict[str, Any]) -> TrainerRoot:
        rows = [{"prompt": f"order {n} mugs", "completion": f"mugs: {n}"} for n in range(40)]
        texts = {"orders/train.jsonl": rows, "scored/scored.jsonl": scored or calibration_rows()}
        root = TrainerRoot(
            tmp_path / "root",
            gates=gates,
            inputs={name: "".join(json.dumps(row) + "\n" for row in text) for name, text in texts.items()},
            spec=orders_spec(tiny_model, {}),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


def plan_of(root: TrainerRoot) -> Plan:
    plan = root.report(Role.DATA).plan
    assert plan is not None
    return plan


def failure_of(root: TrainerRoot) -> str:
    failure = root.report(Role.DATA).failure
    assert failure is not None
    return f"{failure.reason}: {failure.message} {failure.hint}"


def test_judge_of_a_gate_is_calibrated_before_training(make_job, judge, caplog):
    caplog.set_level("INFO")
    root = make_job(quality=gate_spec(judge_cases(), graders=[judge_spec(judge, rubric="It is polite.")]))
    assert main(["data"]) == ExitCode.OK
    counts = plan_of(root).gate_judges["quality"].calibration
    assert (counts.bad, counts.bad_found, counts.good, counts.good_accepted) == (20, 20, 80, 80)
    assert plan_of(root).gate_judges["quality"].model == "judge-7b"
    assert len(judge.bodies) == 100
    assert "It is polite." in judge.bodies[0]["messages"][0]["content"]
    assert "judge of EvalGate quality: calibrated: recall 20/20 = 1.00" in caplog.text
    assert not any("judge" in warning for warning in plan_of(root).data.warnings)


def test_gates_with_the_same_judge_share_its_calibration(make_job, judge):
    gate = gate_spec(judge_cases(), graders=[judge_spec(judge)])
    root = make_job(first=gate, second=gate)
    assert main(["data"]) == ExitCode.OK
    assert len(judge.bodies) == 100
    assert plan_of(root).gate_judges["first"] == plan_of(root).gate_judges["second"]


def test_required_gate_is_not_calibrated_through_the_jobs_proxy(make_job, judge, monkeypatch):
    judge.reply = lambda row, n: score(False) if row["completion"] == "mugs: 99" else find_bad_rows(row, n)
    gate = gate_spec(judge_cases(), graders=[judge_spec(judge)])
    root = make_job(free=gate, required=gate)
    replace(root, required_gates=("required",)).write_request()
    with JudgeServerStub() as proxy:  # accepts the row that the judge does not
        use_proxy(monkeypatch, proxy)
        assert main(["data"]) == ExitCode.OK
    accepted = {name: each.calibration.good_accepted for name, each in plan_of(root).gate_judges.items()}
    assert accepted == {"free": 80, "required": 79}


INCONCLUSIVE = (
    "EvalGate quality: the calibration of the judge judge-7b is inconclusive, so cases that it must "
    "score are errors: recall 14/20 = 0.70, lower bound 0.48, minimum 0.70"
)


@pytest.fixture
def inconclusive_judge(judge) -> JudgeServerStub:
    missed = {row["completion"] for row in calibration_rows()[:6]}
    judge.reply = lambda row, n: score(True) if row["completion"] in missed else find_bad_rows(row, n)
    stub: JudgeServerStub = judge
    return stub


def test_inconclusive_judge_fails_the_job_before_training(make_job, inconclusive_judge):
    root = make_job(quality=gate_spec(judge_cases(), graders=[judge_spec(inconclusive_judge)]))
    assert main(["data"]) == ExitCode.USER_ERROR
    assert failure_of(root).startswith(f"{Reason.USER_ERROR}: {INCONCLUSIVE}")
    assert "add its cases to advisory of the golden set" in failure_of(root)
    assert root.report(Role.DATA).plan is None


def test_inconclusive_judge_of_advisory_cases_is_a_warning(make_job, inconclusive_judge):
    cases = [case | {"tags": ["tone"]} for case in judge_cases(2)]
    cases += [{"id": f"yes-{n}", "prompt": "p", "expect": [{"type": "equals", "value": "yes"}]} for n in "ab"]
    spec = gate_spec(cases, graders=[judge_spec(inconclusive_judge)], golden={"advisory": ["tone"]})
    root = make_job(quality=spec)
    assert main(["data"]) == ExitCode.OK
    assert plan_of(root).data.warnings[0].startswith(INCONCLUSIVE)


GUARDED = {"id": "guarded", "prompt": "order", "tags": ["safety"], "expect": [{"type": "guardrail"}]}


def test_guardrail_that_confuses_its_probes_fails_the_job(make_job):
    with GuardServerStub() as guardrail:
        works = guardrail.reply
        guardrail.reply = lambda _: works("a mug")
        root = make_job(safety=gate_spec([GUARDED], graders=[guardrail.spec]))
        assert main(["data"]) == ExitCode.USER_ERROR
    assert "EvalGate safety: the guardrail guard-8b does not count" in failure_of(root)
    assert "safe probes accepted 5/5, unsafe probes flagged 0/5, minimum 80 % of each" in failure_of(root)


def test_unavailable_guardrail_can_be_probed_by_a_later_attempt(make_job):
    with GuardServerStub() as guardrail:
        works = guardrail.reply
        guardrail.reply = lambda _: failing(503, "no replica is ready")
        root = make_job(safety=gate_spec([GUARDED], graders=[guardrail.spec]))
        assert main(["data"]) == ExitCode.UNREACHABLE
        assert failure_of(root).startswith(
            f"{Reason.UNREACHABLE}: EvalGate safety: spec.graders[guard].endpoint"
        )
        guardrail.reply = works
        assert main(["data"]) == ExitCode.OK


def test_failed_guardrail_of_advisory_cases_is_a_warning(make_job):
    with GuardServerStub() as guardrail:
        works = guardrail.reply
        guardrail.reply = lambda _: works("a mug")
        cases = [GUARDED, {"id": "yes", "prompt": "p", "expect": [{"type": "equals", "value": "yes"}]}]
        root = make_job(safety=gate_spec(cases, graders=[guardrail.spec], golden={"advisory": ["safety"]}))
        assert main(["data"]) == ExitCode.OK
    assert "unsafe probes flagged 0/5" in plan_of(root).data.warnings[0]


def test_calibration_rows_may_have_rubrics_as_golden_cases_have(make_job, judge):
    scored = [
        *calibration_rows(),
        {"prompt": "p", "completion": "mug", "good": True, "rubric": "It is short."},
    ]
    cases = judge_cases(rubric="It names the price.")
    root = make_job(scored, quality=gate_spec(cases, graders=[judge_spec(judge)]))
    assert main(["data"]) == ExitCode.OK
    asked = [body["messages"][0]["content"] for body in judge.bodies]
    assert sum("It is short." in text for text in asked) == 1
    assert plan_of(root).gate_judges["quality"].calibration.good_accepted == 81
    assert not any("judge" in warning for warning in plan_of(root).data.warnings)


def test_rubrics_without_calibration_rows_for_them_give_a_warning(make_job, judge):
    cases = judge_cases(rubric="It names the price.")
    root = make_job(quality=gate_spec(cases, graders=[judge_spec(judge)]))
    assert main(["data"]) == ExitCode.OK
    assert plan_of(root).data.warnings[0] == (
        "EvalGate quality: golden cases have a rubric, but no calibration row has one, so it is unknown how "
        "well the judge judge-7b applies rubrics of cases"
    )


def test_judge_without_cases_is_not_asked(make_job, judge):
    judge.key = JUDGE_KEY
    root = make_job(quality=gate_spec(graders=[judge_spec(judge)]))
    assert main(["data"]) == ExitCode.OK
    assert plan_of(root).gate_judges == {}
    assert judge.bodies == []


def test_restarted_pod_asks_only_about_the_rows_without_a_score(make_job, judge):
    root = make_job(quality=gate_spec(judge_cases(), graders=[judge_spec(judge)]))
    judge.reply = lambda row, n: (
        failing(503) if row["prompt"][0]["content"] > "calibration order 5" else find_bad_rows(row, n)
    )
    assert main(["data"]) == ExitCode.UNREACHABLE
    assert failure_of(root).startswith(
        f"{Reason.UNREACHABLE}: EvalGate quality: spec.graders[judge].endpoint: judge-7b"
    )
    answered = {
        row["completion"] for row in judge.rows if row["prompt"][0]["content"] <= "calibration order 5"
    }
    judge.rows.clear()
    judge.reply = find_bad_rows
    assert main(["data"]) == ExitCode.OK
    assert not answered & {row["completion"] for row in judge.rows}
    assert plan_of(root).gate_judges["quality"].faults["ServerError"] >= 5


def test_too_few_calibration_rows_are_refused_before_judge_requests(make_job, judge):
    scored = calibration_rows(bad=3, good=80)
    root = make_job(scored, quality=gate_spec(judge_cases(), graders=[judge_spec(judge)]))
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "EvalGate quality: spec.sets[people].source: too few rows for any judge to pass" in failure_of(
        root
    )
    assert judge.bodies == []


@pytest.mark.parametrize("field", ["judge", "guardrail"])
def test_key_that_would_be_sent_unencrypted_is_refused_before_training(make_job, judge, field):
    with GuardServerStub() as guardrail:
        specs = {"judge": judge_spec(judge), "guardrail": guardrail.spec}
    specs[field]["endpoint"] = {"url": "http://server.team/v1", "model": "m", "secretName": "key"}
    case = {"id": "a", "prompt": "hi", "expect": [{"type": field}]}
    root = make_job(quality=gate_spec([case], graders=list(specs.values())))
    secret = root.path / "secrets" / "key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text("the-key")
    assert main(["data"]) == ExitCode.USER_ERROR
    name = specs[field]["name"]
    address = f"EvalGate quality: spec.graders[{name}].endpoint.url"
    assert f"{address}: the API key in Secret key would be" in failure_of(root)


def test_golden_set_at_an_address_without_its_server_is_refused(make_job, tmp_path):
    path = tmp_path / "golden.jsonl"
    path.write_text("".join(json.dumps(case) + "\n" for case in judge_cases()))
    root = make_job(quality=gate_spec())
    pinned = {"name": "golden", "source": {"uri": f"file://{path}"}, "sha256": "0" * 64}
    root.gates["quality"]["sets"] = [pinned]
    request = root.context().request
    changed = request.gates[0].model_copy(update={"golden_sha256": sha256_file(path)})
    spec = changed.spec.to_wire() | {"sets": [pinned]}
    changed = changed.model_copy(update={"spec": EvalGateSpec.model_validate(spec)})
    write_model(root.path / "request" / "request.json", request.model_copy(update={"gates": [changed]}))
    assert main(["data"]) == ExitCode.USER_ERROR
    assert "EvalGate quality: spec.graders: the expectation judge of the golden cases" in failure_of(root)
