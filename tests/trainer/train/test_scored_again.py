"""Outputs of the starting model that a judge could not score are scored again at the next evaluation."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.chat_server import failing
from support.gate_servers import judge_cases, judge_spec, write_calibration
from support.judge_server import JudgeServerStub, score
from support.stores.web_server import Response
from support.trainer_root import STAGE, TrainerRoot, gate_spec, stage_plan
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.workspace import RESULT
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.graders import Output
from tunegate_trainer.process.files import write_model
from tunegate_trainer.roles import train as train_role

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("asks_again_at_once")]
STEP = 20
YES = Output("yes", truncated=False)


@pytest.fixture
def judge() -> Iterator[JudgeServerStub]:
    with JudgeServerStub() as stub:
        yield stub


def train(root: TrainerRoot, stage: str = STAGE, start_step: int | None = None) -> None:
    assert train_role.run(root.context(stage=stage, start_step=start_step)) is Outcome.COMPLETED


@pytest.mark.parametrize(
    "samples", [None, pytest.param({"count": 3, "temperature": "0.01"}, marks=pytest.mark.slow)]
)
def test_unscored_outputs_of_the_starting_model_are_scored_again(make_root, judge, samples):
    generation = {"maxNewTokens": 6, **({"samples": samples} if samples else {})}
    gate = gate_spec(judge_cases(6), graders=[judge_spec(judge)], generation=generation)
    more = stage_plan("more", (3, 6), starts_from="Adapter", lora_dropout=0.0)
    root = make_root(checkpoint_steps=(STEP,), later=[more], gates={"orders": gate})
    write_calibration(root)

    def down_for_one_case(row: dict[str, Any], _: int) -> str | Response:
        return failing(503) if row["prompt"][0]["content"] == "order 3" else score(True)

    judge.reply = down_for_one_case
    train(root)
    assert root.evaluation(STEP).outcomes["golden/orders"] == "pppepp"
    judge.reply = lambda *_: score(True)
    train(root, "more", start_step=STEP)
    start = root.evaluation(0, "more")
    assert start.outcomes["golden/orders"] == "pppppp"
    assert start.digest == root.evaluation(STEP).digest
    reported = root.context(stage="more").report.results.evaluations
    assert [each.outcomes for each in reported if (each.stage, each.step) == ("more", 0)] == [start.outcomes]


def test_new_scores_are_used_after_a_kill_before_the_evaluation(make_root, judge):
    gate = gate_spec(judge_cases(6), graders=[judge_spec(judge)], generation={"maxNewTokens": 6})
    root = make_root(checkpoint_steps=(3,), gates={"orders": gate})
    write_calibration(root)
    judge.reply = lambda *_: score(True)
    train(root)
    start = root.workspace / root.paths.evaluation(STAGE, 0) / RESULT
    before = root.evaluation(0)
    outcomes = before.outcomes["golden/orders"]
    unscored = {"golden/orders": f"{outcomes[:3]}e{outcomes[4:]}"}
    # The files of the cases have the new scores.
    write_model(start, before.model_copy(update={"outcomes": before.outcomes | unscored}))
    (root.workspace / root.paths.evaluation(STAGE, 3) / RESULT).unlink()
    train(root)
    assert root.evaluation(0).outcomes == before.outcomes


def test_training_ends_if_new_scores_rule_out_every_checkpoint(make_root, judge, monkeypatch):
    """With the policy NonInferior, 20 cases are too few for a starting model that passes all of them."""
    gate = gate_spec(judge_cases(20), graders=[judge_spec(judge)], limits={"test": "NonInferior"})
    root = make_root(checkpoint_steps=(3, 6), gates={"orders": gate})
    write_calibration(root)
    # The outputs of a real model cannot be chosen.
    monkeypatch.setattr(
        evaluate, "generate", lambda _model, _tokenizer, prompts, *_, **__: [YES] * len(prompts)
    )

    def down_at_first(row: dict[str, Any], _: int) -> str | Response:
        is_at_start = not root.evaluated_steps()
        return failing(503) if is_at_start and row["prompt"][0]["content"] == "order 3" else score(True)

    judge.reply = down_at_first
    train(root)
    assert root.evaluation(0).outcomes["golden/orders"] == "p" * 20
    assert root.evaluated_steps() == [0, 3]
