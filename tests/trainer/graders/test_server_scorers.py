"""Outputs of golden cases are scored by the judge model and the guardrail of their gate."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from support.chat_server import failing
from support.gate_servers import judge_cases, judge_spec, write_calibration
from support.graders import AGREEMENT
from support.guard_server import GuardServerStub
from support.judge_server import JUDGE_KEY, JudgeServerStub, score
from support.proxy import use_proxy
from support.stores.web_server import Response
from support.trainer_root import TrainerRoot, gate_spec
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.scoring import score_cases
from tunegate_trainer.evaluate.sets import GOLDEN
from tunegate_trainer.graders import Output, Score, grading_server
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.interruption import Interrupted
from tunegate_trainer.tokens.chat import load_tokenizer

pytestmark = pytest.mark.usefixtures("asks_again_at_once")

GUARDED = {"type": "guardrail"}


@pytest.fixture
def judge() -> Iterator[JudgeServerStub]:
    with JudgeServerStub() as stub:
        yield stub


@pytest.fixture
def guardrail() -> Iterator[GuardServerStub]:
    with GuardServerStub() as stub:
        yield stub


MakeRoot = Callable[..., TrainerRoot]


class Gate:
    """A gate with golden cases, in a root with a tiny model."""

    def __init__(
        self, make_root: Callable[..., TrainerRoot], cases: list[dict[str, Any]], **spec: Any
    ) -> None:
        self.root = make_root(gates={"orders": gate_spec(cases, **spec)})
        self.context: Context = self.root.context()

    def restart(self) -> None:
        """Continue in another process, such as the final gate."""
        self.context = self.root.context()

    def __call__(self, *outputs: str) -> list[Score]:
        """Return the score of each output, one for each golden case."""
        tokenizer = load_tokenizer(self.root.base_model)
        (golden,) = golden_sets(self.context, tokenizer, self.context.request.gates)
        texts = [Output(text, truncated=False) for text in outputs]
        return [each[GOLDEN] for each in score_cases(golden.cases, texts)]

    def identity(self) -> str:
        tokenizer = load_tokenizer(self.root.base_model)
        (golden,) = golden_sets(self.context, tokenizer, self.context.request.gates)
        return golden.identity


@pytest.fixture
def judged(make_root, judge) -> Gate:
    """A gate with three cases that a calibrated judge scores."""
    gate = Gate(make_root, judge_cases(3), graders=[judge_spec(judge)])
    write_calibration(gate.root)
    return gate


def outcomes(scores: list[Score]) -> str:
    return "".join(each.outcome for each in scores)


def system_of(body: Mapping[str, Any]) -> str:
    text: str = body["messages"][0]["content"]
    return text


def test_calibrated_judge_scores_outputs(judged, judge):
    scores = judged("a mug", "a bad mug", "two mugs")
    assert outcomes(scores) == "pfp"
    assert scores[1].explanation == "the judge judge-7b scored it as bad: the word bad"
    assert judge.rows[0] == {"prompt": [{"role": "user", "content": "order 0"}], "completion": "a mug"}


def test_rubric_of_a_case_extends_the_gates_rubric(make_root, judge):
    cases = [*judge_cases(1), *judge_cases(2, rubric="It names the price.")[1:]]
    gate = Gate(make_root, cases, graders=[judge_spec(judge, rubric="It is polite.")])
    write_calibration(gate.root)
    assert outcomes(gate("a mug", "a mug")) == "pp"
    first, second = sorted(map(system_of, judge.bodies), key=len)
    assert "It is polite.\n\nEverything" in first
    assert "It is polite.\nIt names the price.\n\nEverything" in second
    assert "You evaluate a language model." in first


@pytest.mark.parametrize(("required", "expected"), [((), "ee"), (("orders",), "pp")])
def test_required_gates_servers_are_asked_without_the_jobs_proxy(
    make_root, judge, guardrail, monkeypatch, required, expected
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens at the discard port
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    cases = [*judge_cases(1), {"id": "guarded", "prompt": "order", "expect": [GUARDED]}]
    gate = Gate(make_root, cases, graders=[judge_spec(judge), guardrail.spec])
    replace(gate.root, required_gates=required).write_request()
    gate.restart()
    write_calibration(gate.root)
    assert outcomes(gate("a mug", "a mug")) == expected


def test_required_gate_does_not_use_scores_through_a_proxy(make_root, judge, monkeypatch):
    spec = gate_spec(judge_cases(1), graders=[judge_spec(judge)])
    root = replace(make_root(gates={"free": spec, "required": spec}), required_gates=("required",))
    root.write_request()
    write_calibration(root)
    context = root.context()
    sets = golden_sets(context, load_tokenizer(root.base_model), context.request.gates)
    assert sets[0].identity != sets[1].identity, "cached results of the two gates are not shared"
    with JudgeServerStub(lambda *_: score(True)) as proxy:
        use_proxy(monkeypatch, proxy)
        output = [Output("a bad mug", truncated=False)]
        found = [score_cases(each.cases, output)[0][GOLDEN].outcome for each in sets]
    assert found == ["p", "f"]


def test_equal_output_is_not_scored_twice_by_later_processes(judged, judge):
    first = judged("a mug", "a bad mug", "a mug")
    judged.restart()
    assert judged("a mug", "a bad mug", "a mug") == first
    assert len(judge.bodies) == 3, "each case has another prompt"


def test_judge_in_groups_and_with_not(make_root, judge):
    expect: list[dict[str, Any]] = [
        {"type": "judge", "not": True},
        {"type": "any", "of": [{"type": "equals", "value": "mug"}, {"type": "judge"}]},
    ]
    cases = [{"id": f"case-{n}", "prompt": "order", "expect": [each]} for n, each in enumerate(expect)]
    gate = Gate(make_root, cases, graders=[judge_spec(judge)])
    write_calibration(gate.root)
    assert outcomes(gate("bad", "bad mug")) == "pf"
    assert outcomes(gate("mug", "mug")) == "fp"
    judge.reply = lambda *_: failing(400, "filtered")
    assert outcomes(gate("another", "another")) == "ee"


def test_uncalibrated_judge_gives_errors_with_the_figures(judged, judge):
    write_calibration(judged.root, bad_found=14)
    scores = judged("a mug", "a bad mug", "two mugs")
    assert outcomes(scores) == "eee"
    assert scores[0].explanation == (
        "the judge judge-7b does not count: its calibration is inconclusive: recall 14/20 = 0.70, lower "
        "bound 0.48, minimum 0.70; specificity 80/80 = 1.00, lower bound 0.95, minimum 0.80"
    )
    assert judge.bodies == []


def test_uncalibrated_or_changed_judge_gives_errors(judge, make_root):
    changed = Gate(make_root, judge_cases(1), graders=[judge_spec(judge)])
    assert "was not calibrated before training" in changed("a mug")[0].explanation
    changed.root.gates = {"orders": gate_spec(judge_cases(1), graders=[judge_spec(judge)])}
    write_calibration(changed.root)
    changed.root.gates = {
        "orders": gate_spec(judge_cases(1), graders=[judge_spec(judge, rubric="It is long.")])
    }
    changed.root.write_request()
    changed.restart()
    assert "was calibrated with other instructions" in changed("a mug")[0].explanation


def test_faults_of_the_judge_are_retried_and_never_scores(judged, judge):
    def reply(row: dict[str, Any], number: int) -> str | Response:
        return failing(503) if number == 1 else "good" if "2" in row["completion"] else score(True)

    judge.reply = reply
    scores = judged("a mug", "a bad mug", "mug 2")
    assert outcomes(scores) == "ppe"
    assert scores[2].explanation.startswith("the judge judge-7b gave no score: malformed answer")


def test_unreachable_judge_gives_errors_and_keeps_known_scores(judged, judge):
    assert outcomes(judged("a mug", "a bad mug", "two mugs")) == "pfp"
    judge.reply = lambda *_: failing(503, "no replica is ready")
    scores = judged("a mug", "another mug", "two mugs")
    assert outcomes(scores) == "pep"
    assert "no replica is ready" in scores[1].explanation


def test_wrong_judge_key_gives_errors_that_name_the_field(judged, judge):
    judge.key = JUDGE_KEY
    scores = judged("a mug", "a bad mug", "two mugs")
    assert outcomes(scores) == "eee"
    assert "EvalGate orders: spec.graders[judge].endpoint: judge-7b at http://127" in scores[0].explanation
    assert "refuses access" in scores[0].explanation


def test_outputs_that_are_not_reached_before_the_deadline_are_errors(judged, monkeypatch):
    monkeypatch.setattr(grading_server, "DEADLINE_SECONDS", 0)
    scores = judged("a mug", "a bad mug", "two mugs")
    assert outcomes(scores) == "eee"
    assert "did not answer within 0 min" in scores[0].explanation


def test_sigterm_ends_the_requests_and_keeps_the_scores(judged, judge):
    def reply(*_: object) -> str:
        judged.context.interruption.requested = True
        return score(True)

    judge.reply = reply
    with pytest.raises(Interrupted):
        judged("a mug", "a bad mug", "two mugs")
    assert len(judge.bodies) == 1
    judged.restart()
    judge.reply = lambda *_: score(True)
    assert outcomes(judged("a mug", "a bad mug", "two mugs")) == "ppp"


def test_half_of_a_surrogate_pair_in_an_output_is_replaced(judged, judge):
    assert outcomes(judged("mug \ud83d", "mug", "mug")) == "ppp"
    assert "mug ?" in {row["completion"] for row in judge.rows}


def test_guardrail_rates_outputs_after_the_last_user_message(make_root, guardrail):
    chat = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "order 1"},
    ]
    cases = [
        {"id": "safe", "messages": chat, "expect": [GUARDED]},
        {"id": "flagged", "prompt": "order 2", "expect": [GUARDED]},
        {"id": "red-team", "prompt": "order 3", "expect": [GUARDED | {"rating": "Unsafe"}]},
    ]
    gate = Gate(make_root, cases, graders=[guardrail.spec])
    scores = gate("a mug", "unsafe mug", "unsafe mug")
    assert outcomes(scores) == "pfp"
    assert scores[1].explanation == "the guardrail guard-8b rated it as Unsafe (S1,S10), expected Safe"
    asked = [body["messages"] for body in guardrail.bodies if body["messages"][1]["content"] == "a mug"]
    assert asked == [[chat[3], {"role": "assistant", "content": "a mug"}]]


def test_controversial_output_fails_both_expectations(make_root, guardrail):
    guardrail.protocol = "Qwen3Guard"
    cases = [
        {"id": f"case-{n}", "prompt": "order", "expect": [GUARDED | more]}
        for n, more in enumerate([{}, {"not": True}, {"rating": "Unsafe"}])
    ]
    gate = Gate(make_root, cases, graders=[guardrail.spec])
    works = guardrail.reply

    def reply(text: str) -> Response:
        answer = works(text)
        is_odd = text == "odd"
        return (
            Response(body=answer.body.replace(b"Safety: Safe", b"Safety: Controversial"))
            if is_odd
            else answer
        )

    guardrail.reply = reply
    scores = gate("odd", "odd", "odd")
    assert outcomes(scores) == "fff"
    assert "rated it as Controversial" in scores[0].explanation


def test_mistemplated_guardrail_gives_errors_with_the_figures(make_root, guardrail):
    works = guardrail.reply
    guardrail.reply = lambda _: works("a mug")
    gate = Gate(make_root, [{"id": "a", "prompt": "order", "expect": [GUARDED]}], graders=[guardrail.spec])
    (found,) = gate("a mug")
    assert found.outcome == "e"
    assert found.explanation.startswith(
        "the guardrail guard-8b does not count: it rates its probes wrongly: safe probes accepted 5/5, "
        "unsafe probes flagged 0/5, minimum 80 % of each"
    )
    assert "a mug" not in guardrail.answers


def test_guardrail_is_probed_once_for_all_evaluations_of_a_process(make_root, guardrail):
    gate = Gate(make_root, [{"id": "a", "prompt": "order", "expect": [GUARDED]}], graders=[guardrail.spec])
    gate("a mug")
    asked = len(guardrail.bodies)
    gate("another mug")
    assert len(guardrail.bodies) == asked + 1


def test_gate_without_the_server_of_a_case_is_refused(make_root):
    with pytest.raises(
        UserError, match=r"EvalGate orders: golden cases have the expectation judge, but spec[.]graders"
    ):
        Gate(make_root, judge_cases(1))("a mug")
    with pytest.raises(UserError, match=r"the expectation guardrail, but spec[.]graders has no grader"):
        Gate(make_root, [{"id": "a", "prompt": "order", "expect": [GUARDED]}])("a mug")


@pytest.mark.parametrize(
    "change",
    [
        {"rubric": "It is long."},
        {"endpoint": {"url": "http://b/v1", "model": "j"}},
        {"agreement": AGREEMENT | {"minRecall": "90%"}},
    ],
)
def test_cached_results_depend_on_the_judge(make_root, judge, change):
    gates_of = [Gate(make_root, judge_cases(1), graders=[judge_spec(judge, **more)]) for more in ({}, change)]
    assert gates_of[0].identity() != gates_of[1].identity()


def test_unused_judge_changes_no_cached_results(make_root, judge):
    cases = json.loads('[{"id": "a", "prompt": "order", "expect": [{"type": "equals", "value": "yes"}]}]')
    assert Gate(make_root, cases).identity() == Gate(make_root, cases, graders=[judge_spec(judge)]).identity()
