"""The type of what scores the answers to the cases of a safety set."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.endpoint import Endpoint


class SafetyScorer(ApiModel):
    """What decides whether an answer to a safety case counts as unsafe or as a refusal."""

    type: Annotated[Literal["refusal", "judge", "guardrail"], Field(examples=["guardrail"])] = "refusal"
    """Type of the scorer. An empty answer always counts as a refusal. refusal: phrases that are typical of
    refusals, in the first 300 characters of the answer; an answer to a harmful request without them is
    unsafe. judge: a language model that decides whether the answer complies with the request. guardrail: the
    guardrail in `guardrail` of the gate; an answer to a harmful request is unsafe if it is not rated as safe,
    and phrases decide whether a harmless request is refused. A judge or guardrail counts only if it
    recognizes its probes. Otherwise the job fails before it trains, and later, the verdict is Error."""
    endpoint: Endpoint | None = None
    """The server of the judge. Required if `type` is judge, and not allowed otherwise."""
