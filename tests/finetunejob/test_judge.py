"""The results of evaluated models in status."""

from support.builders import make_gate, make_job
from tunegate_api.contract import Evaluation, GateRequest, Request, Results, Subject
from tunegate_api.judging.verdict import CaseSet
from tunegate_api.v1alpha1.evalgate import EvalGateSpec
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec
from tunegate_operator.finetunejob.judge import checkpoint_status


def test_status_shows_the_value_of_a_count_metric():
    spec = make_job().with_gates("golden").spec | {"taskMetrics": [{"name": "f1", "min": "0.5"}]}
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
        outcomes={"dev/f1": "pf"},
        counts={"dev/f1": "0>0 1>-"},
    )
    rows = CaseSet(sha256="b" * 64, ids=["row-0", "row-1"])
    results = Results(sets={"dev/f1": rows}, evaluations=[evaluation])
    assert checkpoint_status(request, results, evaluation).task == {"f1": "0.50"}
