"""The results of evaluated models in status."""

import pytest

from support.builders import make_gate, make_job
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.judging.judgement import judge_checkpoint
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_operator.finetunejob.judge import checkpoint_status


@pytest.mark.parametrize(
    ("metric", "counts", "value"),
    [
        ({"name": "f1", "type": "F1"}, "0>0 0>0 1>1 1>0", "0.75"),
        ({"name": "f1", "type": "F1", "average": "Micro"}, "0>0 0>0 1>1 1>-", "0.75"),
        # label 0: 3 tp, 1 fp: 6/7; label 1: 1 fn: 0
        ({"name": "f1", "type": "F1", "average": "Macro"}, "0>0 0>0 0>0 1>0", "0.42"),
        ({"name": "rouge_l", "type": "RougeL"}, "4/4 2/4 0/4 1/4", "0.43"),
    ],
)
def test_status_shows_the_value_of_a_count_metric(metric, counts, value):
    spec = make_job().with_gates("golden").spec | {"taskMetrics": [metric | {"min": "50%"}]}
    name = f"dev/{metric['name']}"
    gate = GateRequest(
        name="golden",
        spec=EvalGateSpec.model_validate(make_gate("golden").spec),
        golden_sha256="a" * 64,
    )
    request = Request(
        name="orders", namespace="default", uid="u", spec=FineTuneJobSpec.model_validate(spec), gates=[gate]
    )
    evaluation = Evaluation(
        subject=Subject.CHECKPOINT,
        stage="sft",
        step=10,
        outcomes={name: "pppf"},
        counts={name: counts},
    )
    rows = CaseSet(sha256="b" * 64, ids=[f"row-{n}" for n in range(4)])
    results = Results(sets={name: rows}, evaluations=[evaluation])
    judged = judge_checkpoint(request, results, evaluation)
    assert checkpoint_status(judged, results).task == {metric["name"]: value}
