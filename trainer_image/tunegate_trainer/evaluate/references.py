"""The references of golden cases and held-out rows, which outputs are compared with."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.expectations import CallsExpectation, Leaf
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.messages import ToolCall
from tunegate_api.meta import exact
from tunegate_api.v1alpha2.finetunejob import TaskMetric, Tolerance
from tunegate_api.v1alpha2.shares import share
from tunegate_trainer.evaluate.golden_references import plain_reference
from tunegate_trainer.graders.exact.expected_calls import expected_calls
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.labels import ExpectedLabel, f1_label, label_indices
from tunegate_trainer.graders.exact.numeric import ExpectedNumber
from tunegate_trainer.graders.exact.rouge import ExpectedOverlap
from tunegate_trainer.tokens.answers import calls_text, labelled_answer
from tunegate_trainer.tokens.rows import Row


def golden_reference(
    tokenizer: PreTrainedTokenizerBase, case: GoldenCase, expectation: Leaf, labels: Mapping[str, int]
) -> Any:
    """Return what the scorer of an expectation compares an output with, see :func:`plain_reference`.

    Expected tool calls are returned as the text that the chat template renders for them. Raises
    :class:`UserError` if the template refuses the chat.
    """
    if isinstance(expectation, CallsExpectation):
        calls = [ToolCall(function=one) for one in expectation.value]
        return calls_text(tokenizer, case.turns, calls, case.tools)
    return plain_reference(expectation, labels)


def task_references(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    metric: TaskMetric,
    schema: dict[str, Any] | None,
) -> list[Any]:
    """Return for each row what the scorer of ``metric`` compares an output with.

    ``schema`` is the JSON schema of a JSONSchema metric. Raises :class:`UserError` if the template refuses a
    chat.
    """
    if metric.type == "JSONSchema":
        return [schema] * len(rows)
    if metric.type == "ToolCalls":
        return expected_calls(tokenizer, rows)
    answers = [labelled_answer(tokenizer, row) for row in rows]
    if metric.type == "F1":
        indices = label_indices(answers)
        return [ExpectedLabel(f1_label(answer), indices) for answer in answers]
    if metric.type == "ExactMatch":
        return [ExpectedText(answer, tuple(metric.normalize or ())) for answer in answers]
    if metric.type == "Numeric":
        tolerance = metric.tolerance or Tolerance()
        absolute, relative = exact(tolerance.absolute or "0"), share(tolerance.relative or "0%")
        return [ExpectedNumber(answer, absolute, relative) for answer in answers]
    if metric.type == "RougeL":
        return [ExpectedOverlap(answer) for answer in answers]
    return list(answers)
