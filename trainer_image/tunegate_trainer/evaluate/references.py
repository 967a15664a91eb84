"""What outputs are compared with: the references of golden cases and of held-out rows."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.judging.golden import (
    CallsExpectation,
    Expectation,
    GoldenCase,
    SchemaExpectation,
    ToolCall,
)
from tunegate_trainer.tokens.answers import calls_text
from tunegate_trainer.tokens.chat import render
from tunegate_trainer.tokens.reasoning import split_reasoning
from tunegate_trainer.tokens.rows import Row


def golden_reference(tokenizer: PreTrainedTokenizerBase, case: GoldenCase, expectation: Expectation) -> Any:
    """The text, JSON value or JSON schema of an expectation; calls of tools as the chat template writes them.

    Raises :class:`UserError` if the template refuses the chat.
    """
    if isinstance(expectation, CallsExpectation):
        calls = [ToolCall(function=one) for one in expectation.value]
        return calls_text(tokenizer, case.turns, calls, case.tools)
    return expectation.schema_ if isinstance(expectation, SchemaExpectation) else expectation.value


def labelled_answer(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    """The answer of a row without its reasoning; calls of tools as the chat template writes them.

    Raises :class:`UserError` if the template refuses the chat.
    """
    if row.tool_calls:
        return calls_text(tokenizer, row.prompt, row.tool_calls, row.tools, row.completion)
    asked = render(tokenizer, row.prompt, row.tools)
    return split_reasoning(tokenizer, asked, row.answer).content
