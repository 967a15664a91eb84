"""The data role probes the servers that score safety sets, so that a job fails before it requests a GPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import failing
from support.guard_server import GuardServerStub
from support.judge_server import JudgeServerStub, compliance, find_refusals
from support.trainer_root import TrainerRoot, gate_spec, orders_spec
from tunegate_api.contract import ExitCode, Role
from tunegate_api.v1alpha1.finetunejob_status import Reason
from tunegate_trainer.inference import asking
from tunegate_trainer.main import main

MakeJob = Callable[..., TrainerRoot]


@pytest.fixture
def judge() -> Iterator[JudgeServerStub]:
    with JudgeServerStub(find_refusals) as stub:
        yield stub


@pytest.fixture
def guardrail() -> Iterator[GuardServerStub]:
    with GuardServerStub() as stub:
        yield stub


@pytest.fixture
def make_job(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Make the root of a job whose gate has a safety set, before its data role has run."""
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0)
    monkeypatch.setattr(asking, "LONGEST_PAUSE", 0)

    def make(scorer: dict[str, Any], **spec: Any) -> TrainerRoot:
        rows = [{"prompt": f"order {n} mugs", "completion": f"mugs: {n}"} for n in range(40)]
        safety = {"source": {"builtin": "refusals-v1"}, "scorer": scorer}
        root = TrainerRoot(
            tmp_path / "root",
            gates={"safe": gate_spec(safety=safety, **spec)},
            inputs={"orders/train.jsonl": "".join(json.dumps(row) + "\n" for row in rows)},
            spec=orders_spec(tiny_model, {}),
        ).write_for_data(tiny_model)
        monkeypatch.setenv("TUNEGATE_ROOT", str(root.path))
        return root

    return make


def failure_of(root: TrainerRoot) -> str:
    failure = root.report(Role.DATA).failure
    assert failure is not None
    return f"{failure.reason}: {failure.message} {failure.hint}"


def test_job_whose_servers_recognize_their_probes_is_prepared(make_job, judge, guardrail):
    make_job({"type": "judge", "endpoint": judge.endpoint})
    assert main(["data"]) == ExitCode.OK
    assert len(judge.bodies) == 24
    make_job({"type": "guardrail"}, guardrail=guardrail.spec)
    assert main(["data"]) == ExitCode.OK
    assert len(guardrail.bodies) == 15


def test_judge_that_does_not_count_fails_the_job_with_the_figures(make_job, judge):
    judge.reply = lambda *_: compliance(True)
    root = make_job({"type": "judge", "endpoint": judge.endpoint})
    assert main(["data"]) == ExitCode.USER_ERROR
    assert failure_of(root).startswith(
        f"{Reason.USER_ERROR}: EvalGate safe: the judge judge-7b of the safety set does not count, so cases "
        "that it must score are errors: it scores its probes wrongly: compliant probes recognized 12/12, "
        "refused probes recognized 0/12, minimum 80 % of each"
    )


def test_guardrail_that_does_not_count_fails_the_job_with_the_figures(make_job, guardrail):
    works = guardrail.reply
    guardrail.reply = lambda _: works("a mug")
    root = make_job({"type": "guardrail"}, guardrail=guardrail.spec)
    assert main(["data"]) == ExitCode.USER_ERROR
    assert "EvalGate safe: the guardrail guard-8b does not count" in failure_of(root)
    assert "unsafe probes flagged 0/5, refusals accepted 5/5" in failure_of(root)


def test_judge_that_is_down_can_be_probed_by_a_later_attempt(make_job, judge):
    judge.reply = lambda *_: failing(503, "no replica is ready")
    root = make_job({"type": "judge", "endpoint": judge.endpoint})
    assert main(["data"]) == ExitCode.UNREACHABLE
    field = "EvalGate safe: spec.safety.scorer.endpoint"
    assert failure_of(root).startswith(f"{Reason.UNREACHABLE}: {field}")
    judge.reply = find_refusals
    assert main(["data"]) == ExitCode.OK


@pytest.mark.parametrize(
    ("type_", "field"), [("judge", "safety.scorer.endpoint"), ("guardrail", "guardrail.endpoint")]
)
def test_key_that_would_be_sent_unencrypted_is_refused_before_training(make_job, guardrail, type_, field):
    endpoint = {"url": "http://server.team/v1", "model": "m", "secretName": "key"}
    scorer = {"type": type_, **({"endpoint": endpoint} if type_ == "judge" else {})}
    root = make_job(scorer, guardrail=guardrail.spec | {"endpoint": endpoint})
    secret = root.path / "secrets" / "key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text("the-key")
    assert main(["data"]) == ExitCode.USER_ERROR
    assert f"EvalGate safe: spec.{field}.url: the API key in Secret key would be" in failure_of(root)
