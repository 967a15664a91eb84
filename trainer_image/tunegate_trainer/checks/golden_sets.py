"""What will be measured by must itself be sound: found before training, not at the first checkpoint."""

from collections.abc import Sequence
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import GateRequest
from tunegate_api.judging.golden import SchemaExpectation, parse_golden
from tunegate_api.judging.verdict import MAX_CUT
from tunegate_trainer.evaluate.sets import (
    GeneratedSet,
    check_metrics,
    golden_sets,
    golden_text,
    metric_schema,
)
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError


def check_measures(context: Context, tokenizer: PreTrainedTokenizerBase) -> dict[str, GeneratedSet]:
    """Read every golden set, whose patterns are checked with it, and every schema.

    Returns the golden set of each gate. Raises :class:`BadDataError` naming gate and line or case, or
    the metric, and :class:`UserError` naming a metric that cannot be measured.
    """
    request = context.request
    check_metrics(request.spec.task_metrics)
    sets = golden_sets(context, tokenizer, request.gates)
    problems: list[str] = []
    for gate in request.gates:
        for case in parse_golden(golden_text(context.root, gate.name, gate.spec.golden.source)):
            where = f"EvalGate {gate.name}, case {case.id}"
            for expectation in case.expect:
                if isinstance(expectation, SchemaExpectation):
                    problems += _schema_problem(where, expectation.schema_)
    for metric in request.spec.task_metrics:
        schema = metric_schema(context.root, metric)
        if schema is not None:
            problems += _schema_problem(f"taskMetrics {metric.name}", schema)
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise BadDataError("; ".join(problems[:10]) + more, "nothing could be judged by these: mend them")
    return {gate.name: found for gate, found in zip(request.gates, sets, strict=True)}


def cut_answers(gates: Sequence[GateRequest], answers: Sequence[int]) -> list[str]:
    """A warning for each gate that would cut many answers as long as those that are trained. ``answers`` are
    their lengths in tokens."""
    warnings = []
    for gate in gates:
        most = gate.spec.generation.max_new_tokens
        longer = sum(length > most for length in answers)
        if longer > MAX_CUT * len(answers):
            warnings.append(
                f"EvalGate {gate.name}: generation.maxNewTokens is {most}, and {longer} of {len(answers)} "
                "training answers are longer: an output that is cut does not pass"
            )
    return warnings


def _schema_problem(where: str, schema: dict[str, Any]) -> list[str]:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return [f"{where}: not a JSON schema: {error.json_path}: {error.message}"]
    return [
        f"{where}: the schema's reference {reference} leads nowhere; it may refer to its own parts alone"
        for reference in _dangling(schema)
    ]


def _dangling(schema: dict[str, Any]) -> list[str]:
    """References of a valid schema to what is not in it, such as those that the network would be needed for.

    Followed as jsonschema follows them, see https://referencing.readthedocs.io.
    """
    specification = specification_with(validator_for(schema).META_SCHEMA["$schema"])
    root = specification.create_resource(schema)
    pending = [(root, REGISTRY.resolver_with_root(root))]
    dangling: set[str] = set()
    seen: set[int] = set()
    while pending:
        part, resolver = pending.pop()
        if id(part.contents) in seen or not isinstance(part.contents, dict):
            continue
        seen.add(id(part.contents))
        pending += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        for reference in (part.contents.get("$ref"), part.contents.get("$dynamicRef")):
            if not isinstance(reference, str):
                continue
            try:
                found = resolver.lookup(reference)
            except (Unresolvable, TypeError, ValueError):  # the last two: a pointer into a number or a list
                dangling.add(reference)
            else:
                pending.append((specification.create_resource(found.contents), found.resolver))
    return sorted(dangling)
