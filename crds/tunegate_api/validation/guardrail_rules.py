"""The rules of guardrails."""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.guardrail import Guardrail
from tunegate_api.validation.constraints import Refuse, Rule
from tunegate_api.validation.predicates import any_entry, equal, longer_than

GUARDRAIL_RULES: dict[type[ApiModel], tuple[Rule, ...]] = {
    Guardrail: (
        Refuse(
            longer_than("probes", 0)
            & ~(
                any_entry("probes", equal("rating", "Safe")) & any_entry("probes", equal("rating", "Unsafe"))
            ),
            "probes need a safe and an unsafe answer: add the missing kind, or leave probes out",
            at=("probes",),
        ),
    ),
}
"""The part of the table in :mod:`tunegate_api.validation.rules` about guardrails."""
