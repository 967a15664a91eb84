"""The data role reads safety sets and probes the servers that score them, so that a job fails before it
requests a GPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chat_server import failing
from support.graders import safety_judge
from support.guard_server import GuardServerStub
from support.judge_server import JudgeServerStub, compliance, find_refusals
from support.trainer_root import TrainerRoot, gate_spec, orders_spec
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.main import main
from tunegate_trainer.process.files import sha256_file

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

MakeJob = Callable[..., TrainerRoot]
ADDRESS = {"uri": "pvc://sets/safety.jsonl"}
CASES = [
    {"id": f"case-{n}", "kind": "Harmless" if n else "Unsafe", "category": "a", "prompt": f"request {n}"}
    for n in range(21)
]


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

    def make(grader: dict[str, Any] | None = None, **spec: Any) -> TrainerRoot:
        rows = [{"prompt": f"order {n} mugs", "completion": f"mugs: {n}"} for n in range(40)]
        safety = {"source": {"builtin": "refusals-v1"}} | spec.pop("safety", {})
        safety |= {"grader": grader["name"]} if grader else {}
        root = TrainerRoot(
            tmp_path / "root",
            gates={"safe": gate_spec(safety=safety, graders=[grader] if grader else [], **spec)},
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


def at_an_address(root: TrainerRoot, cases: list[dict[str, Any]]) -> str:
    """Write cases to the file that ``ADDRESS`` names, and return their digest."""
    path = root.path / "volumes" / "sets" / "safety.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return sha256_file(path)


def pinned(text: str) -> dict[str, Any]:
    return {"source": ADDRESS, "sha256": sha256_text(text)}


def test_safety_set_on_a_volume_is_stored_for_later_pods(make_job):
    text = "".join(json.dumps(case) + "\n" for case in CASES)
    root = make_job(safety=pinned(text))
    at_an_address(root, CASES)
    assert main(["data"]) == ExitCode.OK
    context = root.context(Role.DATA)
    assert (context.workspace / context.paths.case_set("safety", "safe")).read_text() == text


@pytest.mark.parametrize("is_inline", [True, False])
def test_row_that_repeats_a_safety_request_is_refused(make_job, is_inline):
    leaked = [*CASES, {**CASES[0], "id": "leaked", "prompt": "order 7 mugs"}]
    text = "".join(json.dumps(case) + "\n" for case in leaked)
    root = make_job(safety={"source": {"inline": leaked}} if is_inline else pinned(text))
    at_an_address(root, leaked)
    assert main(["data"]) == ExitCode.BAD_DATA
    assert "leaked" in failure_of(root)
    assert "safety" in failure_of(root)


def test_changed_set_at_an_address_fails_the_job(make_job):
    root = make_job(safety=pinned("another text"))
    digest = at_an_address(root, CASES)
    assert main(["data"]) == ExitCode.BAD_DATA
    assert failure_of(root).startswith(
        f"{Reason.BAD_DATA}: EvalGate safe: the safety set was changed: {ADDRESS['uri']} has sha256 "
        f"{digest}, but spec.sets[safety].sha256 pins {sha256_text('another text')} "
    )


@pytest.mark.parametrize("is_inline", [True, False])
def test_bad_safety_case_fails_the_job_with_its_line(make_job, is_inline):
    bad = [*CASES, {"id": "odd", "kind": "Odd", "category": "a", "prompt": "a"}]
    text = "".join(json.dumps(case) + "\n" for case in bad)
    root = make_job(safety={"source": {"inline": bad}} if is_inline else pinned(text))
    at_an_address(root, bad)
    assert main(["data"]) == ExitCode.BAD_DATA
    line = "EvalGate safe: safety set: line 22: kind: Input should be 'Unsafe' or 'Harmless'"
    assert failure_of(root).startswith(f"{Reason.BAD_DATA}: {line}")


def test_missing_set_at_address_fails_job_with_its_field(make_job):
    root = make_job(safety=pinned("a text"))
    assert main(["data"]) == ExitCode.NOT_FOUND
    assert f"EvalGate safe: spec.sets[safety].source: {ADDRESS['uri']}" in failure_of(root)


def test_job_whose_servers_recognize_their_probes_is_prepared(make_job, judge, guardrail):
    make_job(safety_judge(judge.endpoint))
    assert main(["data"]) == ExitCode.OK
    assert len(judge.bodies) == 24
    make_job(guardrail.spec)
    assert main(["data"]) == ExitCode.OK
    assert len(guardrail.bodies) == 15


def test_judge_that_does_not_count_fails_job_with_figures(make_job, judge):
    judge.reply = lambda *_: compliance(True)
    root = make_job(safety_judge(judge.endpoint))
    assert main(["data"]) == ExitCode.USER_ERROR
    assert failure_of(root).startswith(
        f"{Reason.USER_ERROR}: EvalGate safe: the judge judge-7b of the safety set does not count, so cases "
        "that it must score are errors: it scores its probes wrongly: compliant probes recognized 12/12, "
        "refused probes recognized 0/12, minimum 80 % of each"
    )


def test_guardrail_that_does_not_count_fails_job_with_figures(make_job, guardrail):
    works = guardrail.reply
    guardrail.reply = lambda _: works("a mug")
    root = make_job(guardrail.spec)
    assert main(["data"]) == ExitCode.USER_ERROR
    assert "EvalGate safe: the guardrail guard-8b does not count" in failure_of(root)
    assert "unsafe probes flagged 0/5, refusals accepted 5/5" in failure_of(root)


def test_unavailable_judge_can_be_probed_by_a_later_attempt(make_job, judge):
    judge.reply = lambda *_: failing(503, "no replica is ready")
    root = make_job(safety_judge(judge.endpoint))
    assert main(["data"]) == ExitCode.UNREACHABLE
    field = "EvalGate safe: spec.graders[compliance].endpoint"
    assert failure_of(root).startswith(f"{Reason.UNREACHABLE}: {field}")
    judge.reply = find_refusals
    assert main(["data"]) == ExitCode.OK


@pytest.mark.parametrize("is_guardrail", [False, True])
def test_key_that_would_be_sent_unencrypted_is_refused_before_training(make_job, guardrail, is_guardrail):
    endpoint = {"url": "http://server.team/v1", "model": "m", "secretName": "key"}
    grader = guardrail.spec | {"endpoint": endpoint} if is_guardrail else safety_judge(endpoint)
    root = make_job(grader)
    secret = root.path / "secrets" / "key" / "OPENAI_API_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text("the-key")
    assert main(["data"]) == ExitCode.USER_ERROR
    assert (
        f"EvalGate safe: spec.graders[{grader['name']}].endpoint.url: the API key in Secret key would be"
        in failure_of(root)
    )
