"""The rules between the fields of a task metric, a part of :data:`tunegate_api.validation.rules.RULES`."""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.finetunejob import TaskMetric, Tolerance
from tunegate_api.validation.constraints import FieldRule, Refuse, Unique
from tunegate_api.validation.predicates import equal, given

_OF_METRICS = {
    "schema": "JSONSchema",
    "average": "F1",
    "normalize": "ExactMatch",
    "tolerance": "Numeric",
    "entryPoint": "Custom",
}
"""Fields of a task metric, with the only type that has the field."""

METRIC_RULES: dict[type[ApiModel], tuple[FieldRule, ...]] = {
    TaskMetric: (
        Refuse(
            equal("type", "JSONSchema") & ~given("schema"),
            "JSONSchema needs the schema that outputs must follow: give schema.inline or schema.configMap",
        ),
        Refuse(
            equal("type", "Custom") & ~given("entryPoint"),
            "Custom needs the name of the entry point with the scorer: give entryPoint",
        ),
        *(
            Refuse(
                given(field) & ~equal("type", metric),
                f"{field} is only for type: {metric}: leave it out",
                at=(field,),
            )
            for field, metric in _OF_METRICS.items()
        ),
        Unique("normalize"),
    ),
    Tolerance: (
        Refuse(
            ~given("absolute") & ~given("relative"),
            "tolerance needs a distance: give absolute, relative or both, or leave tolerance out",
        ),
    ),
}
"""Maps a type to its rules."""
