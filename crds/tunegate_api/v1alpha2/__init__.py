"""tunegate.dev/v1alpha2: FineTuneJob and EvalGate."""

from tunegate_api.v1alpha2.evalgate import EvalGate, EvalGateSpec
from tunegate_api.v1alpha2.evalgate_status import EvalGateStatus
from tunegate_api.v1alpha2.finetunejob import FineTuneJob, FineTuneJobSpec
from tunegate_api.v1alpha2.finetunejob_status import FineTuneJobStatus

__all__ = [
    "EvalGate",
    "EvalGateSpec",
    "EvalGateStatus",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
]
