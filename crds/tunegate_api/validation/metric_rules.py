"""The rules between the fields of a task metric, a part of :data:`tunegate_api.validation.rules.RULES`."""

from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.finetunejob import TaskMetric, Tolerance
from tunegate_api.validation.constraints import FieldRule, Refuse, Unique
from tunegate_api.validation.predicates import equal, given

_OF_METRICS = {
    "schema": "json_schema",
    "average": "f1",
    "normalize": "exact_match",
    "tolerance": "numeric",
    "entryPoint": "custom",
}
"""Fields of a task metric, with the only metric that has the field."""

METRIC_RULES: dict[type[ApiModel], tuple[FieldRule, ...]] = {
    TaskMetric: (
        Refuse(
            equal("name", "json_schema") & ~given("schema"),
            "json_schema needs the schema that outputs must follow: give schema.inline or schema.configMap",
        ),
        Refuse(
            equal("name", "custom") & ~given("entryPoint"),
            "custom needs the name of the entry point with the scorer: give entryPoint",
        ),
        *(
            Refuse(
                given(field) & ~equal("name", metric),
                f"{field} is only for the metric {metric}: leave it out",
                at=(field,),
            )
            for field, metric in _OF_METRICS.items()
        ),
        Refuse(
            given("onRegression") & ~given("maxDropBetweenCheckpoints"),
            "onRegression needs the drop that is a regression: give maxDropBetweenCheckpoints, or leave "
            "onRegression out",
            at=("onRegression",),
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
