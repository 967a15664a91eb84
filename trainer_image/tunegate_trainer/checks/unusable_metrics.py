"""Check for task metrics that are undefined on the data, or that do not fit its answers."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from referencing.exceptions import Unresolvable

from tunegate_api.judging.verdict import MAX_CASES, MAX_LABELS
from tunegate_api.v1alpha1.finetunejob import TaskMetric
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity, listed
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.records.record import Place
from tunegate_trainer.data.split import SIDES
from tunegate_trainer.evaluate.references import labelled_answer
from tunegate_trainer.evaluate.scorers.json_values import schema_problem, schema_validator
from tunegate_trainer.evaluate.scorers.labels import label_of, shown_labels
from tunegate_trainer.evaluate.scorers.normalize import normalized
from tunegate_trainer.evaluate.scorers.numeric import numbers_of
from tunegate_trainer.evaluate.scorers.rouge import rouge_tokens

NAME = "unusable_metrics"
HELD_OUT = ("dev", "test")
MAX_SCHEMA_ROWS = 10_000
"""Maximum number of training rows whose answers are checked against a JSON schema."""


@dataclass(frozen=True)
class Answer:
    """The labelled answer of a row."""

    place: Place
    text: str
    has_calls: bool
    """Whether the answer has tool calls."""


Answers = Mapping[str, Sequence[Answer]]
"""The answers by side: train, dev, test."""


def run(rows: SplitRows, context: CheckContext) -> list[Finding]:
    """Refuse task metrics that cannot measure anything on these rows, and name what is missing."""
    asked = [metric for metric in context.request.spec.task_metrics if metric.name in _CHECKS]
    if not asked:
        return []
    answers: Answers = {
        side: [
            Answer(
                measured.labelled.place,
                labelled_answer(context.tokenizer, measured.labelled.row),
                bool(measured.labelled.row.tool_calls),
            )
            for measured in rows.rows.side(side)
        ]
        for side in SIDES
    }
    return [found for metric in asked for found in _CHECKS[metric.name](metric, answers, context)]


def _f1(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del context
    labels = {side: Counter(label_of(answer.text) for answer in answers[side]) for side in SIDES}
    everywhere = sum(labels.values(), Counter[str]())
    total = everywhere.total()
    if total and len(everywhere) == 1:
        yield _error(
            f"taskMetrics f1: all {total} rows have the same label, {_names(everywhere)}, but F1 needs at "
            "least two labels",
            total,
            [],
            "add rows with other labels, or use another task metric",
        )
    elif len(everywhere) > min(MAX_LABELS, total // 2):
        yield _error(
            f"taskMetrics f1: the {total} rows have {len(everywhere)} different answers, so the answers are "
            f"not labels: at most {MAX_LABELS} labels, and at most half as many labels as rows, are possible",
            len(everywhere),
            [],
            "use exact_match, or rouge_l for longer texts, or make the whole answer the label",
        )
    else:
        yield from _missing_labels(metric, labels)


def _missing_labels(metric: TaskMetric, labels: Mapping[str, Counter[str]]) -> Iterator[Finding]:
    """Report labels that are only in some splits. With the average Macro, each such label has the same weight
    as a frequent one, so it is refused."""
    severity = Severity.ERROR if metric.average == "Macro" else Severity.WARNING
    held_out = labels["dev"] + labels["test"]
    for side in HELD_OUT:
        missing = sorted((labels["train"] + held_out).keys() - labels[side].keys())
        if missing and labels[side]:
            yield _labels_finding(
                severity,
                f"the {side} split has no row with the label",
                missing,
                "so f1 does not measure them on this split",
            )
    unseen = sorted(held_out.keys() - labels["train"].keys())
    if unseen and labels["train"]:
        yield _labels_finding(
            severity, "no training row has the label", unseen, "so the model cannot learn them"
        )


def _labels_finding(severity: Severity, what: str, labels: Sequence[str], so: str) -> Finding:
    names = [_names([label]) for label in labels]
    return Finding(
        check=NAME,
        severity=severity,
        message=f"taskMetrics f1: {what} {listed(names)}, {so}",
        count=len(labels),
        examples=names[:SHOWN_EXAMPLES],
        remedy="add rows with these labels, raise heldOut.fraction, merge rare labels, or use average: Micro",
    )


def _json_schema(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del metric
    checked = [*answers["train"][:MAX_SCHEMA_ROWS], *answers["dev"], *answers["test"]]
    try:
        validator = schema_validator(context.schemas["json_schema"])
        problems = {answer: _schema_problem(validator, answer.text) for answer in checked}
    except (SchemaError, Unresolvable):
        return  # the check `schemas` reports it
    yield from _bad_answers(
        "json_schema: the labelled answers of {} rows do not follow the schema",
        [f"{answer.place}: {problem}" for answer, problem in problems.items() if problem],
        "correct these rows or the schema: a model that answers as labelled would fail",
    )


def _schema_problem(validator: Validator, text: str) -> str | None:
    try:
        return schema_problem(validator, text)
    except RecursionError:
        return "is nested too deeply"


def _numeric(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del metric, context
    found = [(answer, len(numbers_of(answer.text))) for side in SIDES for answer in answers[side]]
    yield from _bad_answers(
        "numeric: the labelled answers of {} rows are not one number",
        [f"{answer.place} has {count or 'no'} numbers" for answer, count in found if count != 1],
        "make each answer one number, such as -3, 1,234.5 or 1e-3, or use exact_match",
    )


def _tool_calls(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del metric, context
    for side in HELD_OUT:
        if answers[side] and not any(answer.has_calls for answer in answers[side][:MAX_CASES]):
            yield _error(
                f"taskMetrics tool_calls: no row of the {side} split has tool calls",
                len(answers[side]),
                [],
                "add rows whose answer has tool_calls, or use exact_match",
            )


def _rouge_l(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del metric, context
    held_out = [(answer, len(rouge_tokens(answer.text))) for side in HELD_OUT for answer in answers[side]]
    yield from _bad_answers(
        "rouge_l: the labelled answers of {} held-out rows have no letters and digits, so their score is "
        "always 0",
        [f"{answer.place}" for answer, tokens in held_out if not tokens],
        "remove or correct these rows, or use exact_match",
    )
    short = sum(tokens == 1 for _, tokens in held_out)
    if short > len(held_out) / 2:
        yield Finding(
            check=NAME,
            severity=Severity.WARNING,
            message=f"taskMetrics rouge_l: {short} of {len(held_out)} held-out answers have one word, on "
            "which ROUGE-L is not more than an exact match; exact_match or f1 may fit better",
            count=short,
        )


def _exact_match(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del context
    forms = tuple(metric.normalize or ())
    held_out = [answer for side in HELD_OUT for answer in answers[side]] if forms else []
    yield from _bad_answers(
        f"exact_match: normalize {', '.join(forms)} leaves no text of the labelled answers of {{}} held-out "
        "rows",
        [f"{answer.place}" for answer in held_out if not normalized(answer.text, forms)],
        "leave out some of the normalizations, or correct these rows",
    )


def _bad_answers(message: str, examples: Sequence[str], remedy: str) -> Iterator[Finding]:
    """Report the rows with unusable answers, if there are any. ``message`` has ``{}`` for their number."""
    if examples:
        text = f"taskMetrics {message.format(len(examples))}: {listed(examples)}"
        yield _error(text, len(examples), examples, remedy)


def _error(message: str, count: int, examples: Sequence[str], remedy: str) -> Finding:
    return Finding(
        check=NAME,
        severity=Severity.ERROR,
        message=message,
        count=count,
        examples=examples[:SHOWN_EXAMPLES],
        remedy=remedy,
    )


def _names(labels: Sequence[str] | Counter[str]) -> str:
    return ", ".join(f'"{label}"' for label in shown_labels(list(labels)) or ())


_CHECKS: Mapping[str, Callable[[TaskMetric, Answers, CheckContext], Iterator[Finding]]] = {
    "f1": _f1,
    "json_schema": _json_schema,
    "numeric": _numeric,
    "tool_calls": _tool_calls,
    "rouge_l": _rouge_l,
    "exact_match": _exact_match,
}
"""The checks of each task metric. The other metrics have none."""
