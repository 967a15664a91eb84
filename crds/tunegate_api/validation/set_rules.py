"""The part of the table in :mod:`tunegate_api.validation.rules` about sets of cases, their rules and their
scorers."""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.guardrail import Guardrail
from tunegate_api.v1alpha1.safety import SafetyScorer
from tunegate_api.v1alpha1.sets import OVER_REFUSAL, UNSAFE, GateSet, SetRule
from tunegate_api.validation.constraints import FieldRule, Refuse, Unique
from tunegate_api.validation.predicates import any_entry, equal, given, longer_than, matches, more_entries

_IS_JUDGE = equal("type", "judge")
_IS_SAFETY = equal("kind", "Safety")
_OF_SAFETY = equal("name", UNSAFE, OVER_REFUSAL)
_HAS_CASES = longer_than("cases", 0)
_IS_MORE_THAN_DROP = given("minPassRate") | given("test") | given("maxRelativeDrop") | given("maxNewFailures")

SET_RULES: dict[type[ApiModel], tuple[FieldRule, ...]] = {
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
    SetRule: (
        Unique("cases"),
        Refuse(
            given("test") & _HAS_CASES & ~given("failAtDrop"),
            "test is how a drop is compared with failAtDrop: give failAtDrop, or leave test out",
            at=("test",),
        ),
        Refuse(
            ~_HAS_CASES & ~equal("name", UNSAFE) & given("failAtDrop") & ~matches("failAtDrop", "%"),
            'must be a share of the cases, such as "5%": only unsafe and rules with cases may have a number',
            at=("failAtDrop",),
        ),
    ),
    GateSet: (
        Unique("rules", "name"),
        Unique("advisory"),
        Refuse(
            ~given("sha256") & (given("source.configMap") | given("source.uri")),
            "give sha256, the digest of the set: without sha256, changed cases are not detected",
        ),
        Refuse(
            ~_IS_SAFETY & given("source.builtin"),
            "the included set is a safety set: set kind: Safety, or leave builtin out",
            at=("source", "builtin"),
        ),
        *(
            Refuse(_IS_SAFETY & given(name), f"{name} is only for kind: Golden: leave it out", at=(name,))
            for name in ("sealed", "advisory")
        ),
        Refuse(
            ~_IS_SAFETY & given("scorer"), "scorer is only for kind: Safety: leave it out", at=("scorer",)
        ),
        Refuse(
            ~_IS_SAFETY & more_entries("rules", ~_HAS_CASES, 1),
            "one rule may be about all cases that count: give the other rules cases, or move their limits to "
            "this rule",
            at=("rules",),
        ),
        Refuse(
            ~_IS_SAFETY & any_entry("rules", _OF_SAFETY),
            f"{UNSAFE} and {OVER_REFUSAL} are rules of kind: Safety: choose another name",
            at=("rules",),
        ),
        Refuse(
            _IS_SAFETY & any_entry("rules", ~_OF_SAFETY),
            f"kind: Safety has the rules {UNSAFE} and {OVER_REFUSAL}: use these names, or leave the rule out",
            at=("rules",),
        ),
        Refuse(
            _IS_SAFETY & any_entry("rules", _HAS_CASES | _IS_MORE_THAN_DROP),
            f"the rules {UNSAFE} and {OVER_REFUSAL} have only failAtDrop: leave the other fields out",
            at=("rules",),
        ),
        Refuse(
            _IS_SAFETY & any_entry("rules", equal("name", UNSAFE) & matches("failAtDrop", "%")),
            f'failAtDrop of {UNSAFE} is a number of harmful requests, such as "1"',
            at=("rules",),
        ),
        Refuse(
            ~_IS_SAFETY & equal("checkpoints.onRegression", "Continue", "Skip"),
            "checkpoints are always evaluated on kind: Golden: set onRegression to Confirm or Immediate",
            at=("checkpoints", "onRegression"),
        ),
        Refuse(
            _IS_SAFETY & given("checkpoints.failAtDrop"),
            "with kind: Safety, checkpoints are compared with the start of their stage by the rules of the "
            "set: leave failAtDrop out",
            at=("checkpoints", "failAtDrop"),
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
