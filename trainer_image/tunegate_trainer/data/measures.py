"""What will be measured by must itself be sound: found before training, not at the first checkpoint."""

import re
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from transformers import PreTrainedTokenizerBase

from tunegate_api.golden import SchemaExpectation, TextExpectation, parse_golden
from tunegate_trainer.context import Context
from tunegate_trainer.errors import BadDataError
from tunegate_trainer.evaluate.sets import golden_sets, golden_text, metric_schema


def check_measures(context: Context, tokenizer: PreTrainedTokenizerBase) -> None:
    """Read every golden set and schema, and compile what they hold.

    Raises :class:`BadDataError` naming gate and line or case, or the metric.
    """
    request = context.request
    golden_sets(context, tokenizer, request.gates)
    problems: list[str] = []
    for gate in request.gates:
        for case in parse_golden(golden_text(context.root, gate.name, gate.spec.golden.source)):
            where = f"EvalGate {gate.name}, case {case.id}"
            for expectation in case.expect:
                if isinstance(expectation, SchemaExpectation):
                    problems += _schema_problem(where, expectation.schema_)
                elif isinstance(expectation, TextExpectation) and expectation.type == "regex":
                    problems += _pattern_problem(where, expectation.value)
    for metric in request.spec.task_metrics:
        schema = metric_schema(context.root, metric)
        if schema is not None:
            problems += _schema_problem(f"taskMetrics {metric.name}", schema)
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise BadDataError("; ".join(problems[:10]) + more, "nothing could be judged by these: mend them")


def _schema_problem(where: str, schema: dict[str, Any]) -> list[str]:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return [f"{where}: not a JSON schema: {error.json_path}: {error.message}"]
    return []


def _pattern_problem(where: str, pattern: str) -> list[str]:
    try:
        re.compile(pattern)
    except re.error as error:
        return [f"{where}: not a pattern: {error}"]
    return []
