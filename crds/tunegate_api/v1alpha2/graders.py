"""The types of the graders of an EvalGate: servers that grade answers that no exact grader can grade."""

from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_api.v1alpha2.fields import ShortName
from tunegate_api.v1alpha2.shares import Percent
from tunegate_api.v1alpha2.values import Between

SafetyRating = Literal["Safe", "Unsafe"]
_Bound = Annotated[Percent, Between(least=50, most=99, percent=True)]
"""A model that guesses, or accepts everything, does not reach 50 % for both recall and specificity. A model
without errors reaches 99 % with 1,000 answers."""


class RequiredAgreement(ApiModel):
    """How often a grader must agree with people. Otherwise its answers do not count."""

    set: Annotated[ShortName, Field(examples=["tone-by-people"])]
    """Name of a set of the kind Agreement in `sets`. For a Guardrail, its cases are in `source.inline`, at
    least 80 % of the good ones must be rated as safe, and at least 80 % of the others as unsafe."""
    min_recall: Annotated[_Bound | None, Field(examples=["70%"])] = None
    """Minimum share of the bad answers that the grader must find, 50 % to 99 %. The lower bound of the 95 %
    confidence interval is compared. Only for the type Model. Defaults to 80%."""
    min_specificity: Annotated[_Bound | None, Field(examples=["80%"])] = None
    """Minimum share of the good answers that the grader must accept, 50 % to 99 %, compared in the same way.
    Only for the type Model. Defaults to 80%."""


class GateGrader(ApiModel):
    """A server that grades answers."""

    name: Annotated[ShortName, Field(examples=["tone"])]
    """Name of the grader, to which sets and jobs refer."""
    type: Annotated[Literal["Model", "Guardrail"], Field(examples=["Model"])]
    """What the server is. Model: a language model that scores answers by a rubric. With `agreement`, it
    scores golden cases with the expectation judge, and may score training data (`data.quality.grader` of a
    FineTuneJob). For a set of the kind Safety, it decides whether an answer complies with the request, and
    probes of Tunegate test it. Guardrail: a service that rates answers as safe or unsafe, for golden cases
    with the expectation guardrail and for a set of the kind Safety."""
    endpoint: Endpoint
    """The server. For a Guardrail, `protocol` decides what is appended to its `url`."""
    rubric: Annotated[
        str | None,
        Field(min_length=1, max_length=4096, examples=["The total is that of the invoice."]),
    ] = None
    """Criteria of a good answer. Defaults to general criteria: correct, complete and in the requested
    format. Only for the type Model; not used for a set of the kind Safety."""
    protocol: Annotated[
        Literal["OpenAIModeration", "LlamaGuard", "Qwen3Guard", "GraniteGuardian", "Webhook"] | None,
        Field(examples=["LlamaGuard"]),
    ] = None
    """How a Guardrail is asked, and required for it. OpenAIModeration: POST to `url` with /moderations
    appended. LlamaGuard, Qwen3Guard and GraniteGuardian: chat completions of a model of this family, whose
    output has the format of its model card. Webhook: POST to `url` itself, with the JSON object {model,
    messages}, which is answered by {flagged, reason}."""
    agreement: RequiredAgreement | None = None
    """Answers that people scored, with which the grader is tested before its answers count. A Guardrail
    without it is tested with a few general answers of Tunegate; one for another purpose, such as personal
    data, needs answers of its own."""

    @property
    def is_judge(self) -> bool:
        """Whether the grader may score golden cases and training data by its rubric."""
        return self.type == "Model" and self.agreement is not None
