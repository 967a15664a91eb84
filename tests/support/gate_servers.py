"""Gates with a judge model or a guardrail, and plans in which the judge is calibrated."""

from typing import Any

from support.graders import JUDGE
from support.judge_server import JudgeServerStub
from support.trainer_root import TrainerRoot
from tunegate_api.contract.plan import CalibrationCounts, JudgePlan
from tunegate_trainer.graders.model.instructions import instructions_sha256
from tunegate_trainer.process.files import write_model


def judge_spec(stub: JudgeServerStub, **changes: Any) -> dict[str, Any]:
    """Return the grader of a gate whose calibration rows are in the ConfigMap ``scored``."""
    return JUDGE | {"endpoint": stub.endpoint, **changes}


def judge_cases(count: int = 20, **expectation: Any) -> list[dict[str, Any]]:
    """Return cases that a judge scores."""
    return [
        {"id": f"case-{n}", "prompt": f"order {n}", "expect": [{"type": "judge", **expectation}]}
        for n in range(count)
    ]


def write_calibration(root: TrainerRoot, *, bad_found: int = 20, good_accepted: int = 80) -> None:
    """Put the calibration of the judges of all gates, with 20 bad and 80 good rows, into the plan of
    ``root``."""
    counts = CalibrationCounts(
        source_sha256="2" * 64, bad=20, bad_found=bad_found, good=80, good_accepted=good_accepted
    )
    context = root.context()
    judges = {
        gate.name: JudgePlan(
            model=gate.spec.judge.endpoint.model,
            instructions_sha256=instructions_sha256(gate.spec.judge),
            calibration=counts,
        )
        for gate in context.request.gates
        if gate.spec.judge
    }
    write_model(root.path / "plan" / "plan.json", context.plan.model_copy(update={"gate_judges": judges}))
