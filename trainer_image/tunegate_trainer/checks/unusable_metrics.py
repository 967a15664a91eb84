"""Check for task metrics that are undefined on the data, or that do not fit its answers."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from referencing.exceptions import Unresolvable
from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.normalize import normalized
from tunegate_api.v1alpha2.finetunejob import TaskMetric
from tunegate_api.verdict.outcomes import MAX_CASES, MAX_LABELS
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity, listed
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.excerpts import start_of
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.data.split import HELD_OUT, SIDES
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.graders.exact.expected_calls import expected_calls
from tunegate_trainer.graders.exact.json_values import schema_problem, schema_validator
from tunegate_trainer.graders.exact.labels import SHOWN_LABEL, f1_label
from tunegate_trainer.graders.exact.numeric import numbers_of
from tunegate_trainer.graders.exact.rouge import rouge_tokens
from tunegate_trainer.graders.exact.tool_calls import tool_calls
from tunegate_trainer.graders.grader import Sample
from tunegate_trainer.tokens.answers import labelled_answer
from tunegate_trainer.tokens.rows import Row

NAME = "unusable_metrics"
MAX_SCHEMA_ROWS = 10_000
"""Maximum number of training rows whose answers are checked against a JSON schema."""


@dataclass(frozen=True)
class RowAnswer:
    """The labelled answer of a row."""

    place: RecordPlace
    text: str


class _SideAnswers:
    """The answers of all rows of a side. They are read when they are iterated over, and not kept."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rows: Sequence[UsableRow[Row]]) -> None:
        self._tokenizer = tokenizer
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Row]:
        """All rows of the side."""
        return [measured.labelled.row for measured in self._rows]

    def __iter__(self) -> Iterator[RowAnswer]:
        for measured in self._rows:
            text = labelled_answer(self._tokenizer, measured.labelled.row)
            yield RowAnswer(measured.labelled.place, text)


Answers = Mapping[str, _SideAnswers]
"""The answers by side: train, dev, test."""


def run(rows: SplitRows, context: CheckContext) -> list[Finding]:
    """Refuse task metrics that cannot measure anything on these rows, and name what is missing."""
    asked = [metric for metric in context.request.spec.task_metrics if metric.type in _CHECKS]
    if not asked:
        return []
    answers = {side: _SideAnswers(context.tokenizer, rows.rows.side(side)) for side in SIDES}
    return [found for metric in asked for found in _CHECKS[metric.type](metric, answers, context)]


def _f1(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del context
    labels, total = _labels(answers), sum(map(len, answers.values()))
    everywhere = sum(labels.values(), Counter[str]())
    if total and len(everywhere) == 1:
        yield _error(
            f"taskMetrics {metric.name}: all {total} rows have the same label, {_names(everywhere)}, but F1 "
            "needs at least two labels",
            total,
            [],
            "add rows with other labels, or use another task metric",
        )
    elif len(everywhere) > min(MAX_LABELS, total // 2):
        many = f"more than {MAX_LABELS}" if len(everywhere) > MAX_LABELS else f"{len(everywhere)}"
        yield _error(
            f"taskMetrics {metric.name}: the {total} rows have {many} different answers, so the answers are "
            f"not labels: at most {MAX_LABELS} labels, and at most half as many labels as rows, are possible",
            total,
            [],
            "use ExactMatch, or RougeL for longer texts, or make the whole answer the label",
        )
    else:
        yield from _missing_labels(metric, labels)


def _labels(answers: Answers) -> dict[str, Counter[str]]:
    """Return the number of rows of each label of each side. The rest of the answers is not read once there
    are more than ``MAX_LABELS`` labels."""
    labels = {side: Counter[str]() for side in SIDES}
    known: set[str] = set()
    for side in SIDES:
        for answer in answers[side]:
            label = f1_label(answer.text)
            labels[side][label] += 1
            known.add(label)
            if len(known) > MAX_LABELS:
                return labels
    return labels


def _missing_labels(metric: TaskMetric, labels: Mapping[str, Counter[str]]) -> Iterator[Finding]:
    """Report labels that are only in some splits. With the average Macro, each such label has the same weight
    as a frequent one, so it is refused."""
    severity = Severity.ERROR if metric.average == "Macro" else Severity.WARNING
    held_out = labels["dev"] + labels["test"]
    for side in HELD_OUT:
        missing = sorted((labels["train"] + held_out).keys() - labels[side].keys())
        if missing and labels[side]:
            yield _labels_finding(
                metric,
                severity,
                f"the {side} split has no row with the label",
                missing,
                "so F1 does not measure them on this split",
            )
    unseen = sorted(held_out.keys() - labels["train"].keys())
    if unseen and labels["train"]:
        yield _labels_finding(
            metric, severity, "no training row has the label", unseen, "so the model cannot learn them"
        )


def _labels_finding(
    metric: TaskMetric, severity: Severity, what: str, labels: Sequence[str], so: str
) -> Finding:
    names = [_names([label]) for label in labels]
    return Finding(
        severity=severity,
        message=f"taskMetrics {metric.name}: {what} {listed(names)}, {so}",
        count=len(labels),
        examples=names[:SHOWN_EXAMPLES],
        remedy="add rows with these labels, raise heldOut.fraction, merge rare labels, or use average: Micro",
    )


def _json_schema(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    checked = chain(islice(answers["train"], MAX_SCHEMA_ROWS), answers["dev"], answers["test"])
    try:
        validator = schema_validator(context.schemas[metric.name])
        problems = ((answer.place, _schema_problem(validator, answer.text)) for answer in checked)
        yield from _bad_answers(
            f"{metric.name}: the labelled answers of {{}} rows do not follow the schema",
            (f"{place}: {problem}" for place, problem in problems if problem),
            "correct these rows or the schema: a model that answers as labelled would fail",
        )
    except (SchemaError, Unresolvable):
        return  # the check `schemas` reports it


def _schema_problem(validator: Validator, text: str) -> str | None:
    try:
        return schema_problem(validator, text)
    except RecursionError:
        return "is nested too deeply"


def _numeric(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del context
    found = ((answer.place, len(numbers_of(answer.text))) for side in SIDES for answer in answers[side])
    yield from _bad_answers(
        f"{metric.name}: the labelled answers of {{}} rows are not one number",
        (f"{place} has {count or 'no'} numbers" for place, count in found if count != 1),
        "make each answer one number, such as -3, 1,234.5 or 1e-3, or use ExactMatch",
    )


def _tool_calls(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    failing: list[str] = []
    for side in HELD_OUT:
        rows = answers[side].rows[:MAX_CASES]
        if any(row.tool_calls for row in rows):
            failing += _failing_calls(answers[side], rows, context)
        elif rows:
            yield _error(
                f"taskMetrics {metric.name}: no row of the {side} split has tool calls",
                len(answers[side]),
                [],
                "add rows whose answer has tool_calls, or use ExactMatch",
            )
    yield from _bad_answers(
        f"{metric.name}: the labelled answers of {{}} held-out rows would fail as outputs of a model",
        failing,
        "if the found tool call is other text, change this text; if a labelled tool call is not found, the "
        "chat template has too little text around it, so use ExactMatch",
    )


def _failing_calls(answers: _SideAnswers, rows: Sequence[Row], context: CheckContext) -> Iterator[str]:
    """Score the labelled answers of ``rows``, the first rows of ``answers``. Yield those that fail, with the
    reason."""
    references = expected_calls(context.tokenizer, rows)
    for answer, row, reference in zip(answers, rows, references, strict=False):
        if problem := tool_calls(Sample("", answer.text, reference, row)):
            yield f"{answer.place}: {problem}"


def _rouge_l(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del context
    held_out = [
        (answer.place, len(rouge_tokens(answer.text))) for side in HELD_OUT for answer in answers[side]
    ]
    yield from _bad_answers(
        f"{metric.name}: the labelled answers of {{}} held-out rows have no letters and digits, so their "
        "score is always 0",
        (str(place) for place, tokens in held_out if not tokens),
        "remove or correct these rows, or use ExactMatch",
    )
    short = sum(tokens == 1 for _, tokens in held_out)
    if short > len(held_out) / 2:
        yield Finding(
            severity=Severity.WARNING,
            message=f"taskMetrics {metric.name}: {short} of {len(held_out)} held-out answers have one word, "
            "on which ROUGE-L is not more than an exact match; ExactMatch or F1 may fit better",
            count=short,
        )


def _exact_match(metric: TaskMetric, answers: Answers, context: CheckContext) -> Iterator[Finding]:
    del context
    forms = tuple(metric.normalize or ())
    held_out = (answer for side in HELD_OUT if forms for answer in answers[side])
    yield from _bad_answers(
        f"{metric.name}: normalize {', '.join(forms)} leaves no text of the labelled answers of {{}} "
        "held-out rows",
        (str(answer.place) for answer in held_out if not normalized(answer.text, forms)),
        "leave out some of the normalizations, or correct these rows",
    )


def _bad_answers(message: str, examples: Iterable[str], remedy: str) -> Iterator[Finding]:
    """Report the rows with unusable answers, if there are any. ``message`` has ``{}`` for their number."""
    first: list[str] = []
    count = 0
    for example in examples:
        count += 1
        if count <= SHOWN_EXAMPLES:
            first.append(example)
    if count:
        text = f"taskMetrics {message.format(count)}: {listed(first, count)}"
        yield _error(text, count, first, remedy)


def _error(message: str, count: int, examples: Sequence[str], remedy: str) -> Finding:
    return Finding(
        message=message,
        count=count,
        examples=examples[:SHOWN_EXAMPLES],
        remedy=remedy,
    )


def _names(labels: Iterable[str]) -> str:
    return ", ".join(f'"{start_of(label, SHOWN_LABEL)}"' for label in labels)


_CHECKS: Mapping[str, Callable[[TaskMetric, Answers, CheckContext], Iterator[Finding]]] = {
    "F1": _f1,
    "JSONSchema": _json_schema,
    "Numeric": _numeric,
    "ToolCalls": _tool_calls,
    "RougeL": _rouge_l,
    "ExactMatch": _exact_match,
}
"""The checks of each type of task metric. The other types have none."""
