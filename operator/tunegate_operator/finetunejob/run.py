"""What the policies of a job that has its request decide from."""

from dataclasses import dataclass

from tunegate_api.contract import Request, Results
from tunegate_api.plan import Plan
from tunegate_operator.finetunejob.build import PodSettings
from tunegate_operator.finetunejob.draft import Draft
from tunegate_operator.finetunejob.observe import Observed


@dataclass(frozen=True)
class Run:
    """One decision's input, and the draft that policies write to."""

    observed: Observed
    draft: Draft
    request: Request
    plan: Plan | None
    results: Results
    pods: PodSettings
