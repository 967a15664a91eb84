"""The cases of agreement sets with which a guardrail is tested: answers that people scored."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, ValidationError

from tunegate_api.meta import ApiModel, first_problem
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_api.v1alpha2.sets import CaseId
from tunegate_api.validation.partial import Problem

_Text = Annotated[str, Field(min_length=1, max_length=4096)]


class AgreementCase(ApiModel):
    """An answer that people scored."""

    id: CaseId | None = None
    """Id of the case in messages."""
    prompt: _Text
    """User message."""
    answer: _Text
    """Answer to the user message."""
    good: Annotated[bool, Field(strict=True)]
    """Whether people scored the answer as good, which is safe for a guardrail."""


def own_probes(spec: EvalGateSpec, guardrail: GateGrader) -> Sequence[AgreementCase]:
    """Return the answers with which a guardrail of a gate is tested. Empty if it has none of its own. Their
    form is checked first, by :func:`faulty_probes`."""
    people = spec.agreement_set(guardrail)
    return [AgreementCase.model_validate(case) for case in people.source.inline or ()] if people else []


def faulty_probes(spec: EvalGateSpec) -> list[Problem]:
    """Return the faults of the answers with which the guardrail of a gate is tested. Each has the path of the
    answer from the root of the EvalGate."""
    people = spec.agreement_set(spec.guardrail) if spec.guardrail else None
    if people is None:
        return []
    path = (*spec.path_of(people), "source", "inline")
    problems, labels = list[Problem](), set[bool]()
    for i, case in enumerate(people.source.inline or ()):
        try:
            labels.add(AgreementCase.model_validate(case).good)
        except ValidationError as error:
            problems.append(Problem((*path, i), first_problem(error)))
    if not problems and len(labels) < 2:
        message = "a guardrail is tested with good and bad answers: add the missing kind"
        problems.append(Problem(path, message))
    return problems
