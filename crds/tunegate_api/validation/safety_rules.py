"""The rules of safety sets and guardrails."""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.guardrail import Guardrail
from tunegate_api.v1alpha1.safety import Safety, SafetyScorer
from tunegate_api.validation.constraints import FieldRule, Refuse
from tunegate_api.validation.predicates import any_entry, equal, given, longer_than, true

_IS_JUDGE = equal("type", "judge")

SAFETY_RULES: dict[type[ApiModel], tuple[FieldRule, ...]] = {
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
    Safety: (
        Refuse(
            (given("source.configMap") | given("source.uri")) & ~given("sha256"),
            "give sha256, the digest of the safety set: without sha256, changed cases are not detected",
        ),
        Refuse(
            given("onRegression") & ~true("evaluateCheckpoints"),
            "onRegression is about checkpoints, which are not evaluated on the safety set: set "
            "evaluateCheckpoints to true, or leave onRegression out",
            at=("onRegression",),
        ),
    ),
    SafetyScorer: (
        Refuse(
            _IS_JUDGE & ~given("endpoint"),
            "a judge needs a server: give endpoint",
        ),
        Refuse(
            given("endpoint") & ~_IS_JUDGE,
            "endpoint is only for the type judge; a guardrail is in spec.guardrail: leave endpoint out, or "
            "set type: judge",
            at=("endpoint",),
        ),
    ),
}
"""The part of the table in :mod:`tunegate_api.validation.rules` about safety sets and guardrails."""
