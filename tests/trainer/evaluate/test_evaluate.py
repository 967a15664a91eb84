"""The evaluation that a pod reports."""

from datetime import UTC, datetime

from tunegate_api.contract.results import Evaluation, Subject
from tunegate_trainer.evaluate.evaluate import Weights, as_evaluation


def test_evaluation_has_the_time_at_which_it_ended():
    before = datetime.now(UTC).replace(microsecond=0)
    evaluation = as_evaluation(Weights(Subject.CHECKPOINT, "sft", 10, "a" * 64), [], [])
    assert evaluation.time is not None
    assert before <= evaluation.time <= datetime.now(UTC)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
