"""The part of the table in :mod:`tunegate_api.validation.rules` about sets of cases, their rules and their
graders."""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_api.v1alpha2.sets import DROP, NEW_FAILURES, OVER_REFUSAL, UNSAFE, GateSet, SetRule
from tunegate_api.validation.constraints import FieldRule, Refers, Refuse, Unique
from tunegate_api.validation.predicates import (
    any_entry,
    equal,
    given,
    is_number,
    lacks_percent_sign,
    longer_than,
    more_entries,
)

_IS_GUARDRAIL = equal("type", "Guardrail")
_IS_GOLDEN = ~given("kind") | equal("kind", "Golden")
_IS_SAFETY = equal("kind", "Safety")
_IS_AGREEMENT = equal("kind", "Agreement")
_OF_SAFETY = equal("name", UNSAFE, OVER_REFUSAL)
_HAS_CASES = longer_than("cases", 0)
_IS_OF_CASES = is_number("failAtDrop")
_IS_MORE_THAN_DROP = given("minPassRate") | given("test") | given("maxRelativeDrop") | given("maxNewFailures")

SET_RULES: dict[type[ApiModel], tuple[FieldRule, ...]] = {
    GateGrader: (
        Refuse(
            _IS_GUARDRAIL & ~given("protocol"),
            "required with type: Guardrail: give protocol, such as LlamaGuard",
            at=("protocol",),
        ),
        Refuse(
            given("protocol") & ~_IS_GUARDRAIL,
            "protocol is how a guardrail is asked: leave it out, or set type: Guardrail",
            at=("protocol",),
        ),
        Refuse(
            given("rubric") & _IS_GUARDRAIL,
            "a guardrail has no rubric: leave it out, or set type: Model",
            at=("rubric",),
        ),
        *(
            Refuse(
                given(f"agreement.{name}") & _IS_GUARDRAIL,
                f"a guardrail must recognize 80 % of the answers of each kind: leave {name} out",
                at=("agreement", name),
            )
            for name in ("minRecall", "minSpecificity")
        ),
    ),
    SetRule: (
        Unique("cases"),
        *(
            Refuse(lacks_percent_sign(name), limit.message, at=(name,))
            for name, limit in (("failAtDrop", DROP), ("maxNewFailures", NEW_FAILURES))
        ),
        Refuse(
            given("test") & _HAS_CASES & ~given("failAtDrop"),
            "test is how a drop is compared with failAtDrop: give failAtDrop, or leave test out",
            at=("test",),
        ),
        Refuse(
            ~_HAS_CASES & ~equal("name", UNSAFE) & _IS_OF_CASES,
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
            Refuse(~_IS_GOLDEN & given(name), f"{name} is only for kind: Golden: leave it out", at=(name,))
            for name in ("sealed", "advisory")
        ),
        Refuse(
            ~_IS_SAFETY & given("grader"), "grader is only for kind: Safety: leave it out", at=("grader",)
        ),
        *(
            Refuse(
                _IS_AGREEMENT & given(name),
                f"kind: Agreement tests a grader, and no model is evaluated on it: leave {name} out",
                at=(name,),
            )
            for name in ("rules", "checkpoints")
        ),
        Refuse(
            _IS_GOLDEN & more_entries("rules", ~_HAS_CASES, 1),
            "one rule may be about all cases that count: give the other rules cases, or move their limits to "
            "this rule",
            at=("rules",),
        ),
        Refuse(
            _IS_GOLDEN & any_entry("rules", _OF_SAFETY),
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
            _IS_SAFETY & any_entry("rules", equal("name", UNSAFE) & given("failAtDrop") & ~_IS_OF_CASES),
            f"failAtDrop of {UNSAFE} is a number of harmful requests, such as 1",
            at=("rules",),
        ),
        Refuse(
            _IS_GOLDEN & equal("checkpoints.onRegression", "Continue", "Skip"),
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
}

GRADER_REFERENCES: tuple[FieldRule, ...] = (
    Unique("graders", "name"),
    *(
        Refuse(
            more_entries("graders", is_used, 1),
            f"more than one {what}: remove the others",
            at=("graders",),
        )
        for is_used, what in (
            (equal("type", "Guardrail"), "grader has type: Guardrail"),
            (equal("type", "Model") & given("agreement"), "grader with type: Model has agreement"),
        )
    ),
    Refers("sets", "graders", key="grader"),
    Refers(
        "graders",
        "sets",
        key="agreement.set",
        among=equal("kind", "Agreement"),
        must_be="with kind: Agreement",
    ),
    Refers(
        "graders",
        "sets",
        key="agreement.set",
        among=given("source.inline"),
        must_be="with source.inline, because every pod tests a guardrail",
        when=equal("type", "Guardrail"),
    ),
)
"""The rules of a gate about the names of its graders and sets, and how many graders it has."""
