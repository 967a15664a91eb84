"""The references of golden cases and held-out rows, which outputs are compared with."""

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
    """Return what an output is compared with: the text, JSON value or JSON schema of an expectation.

    Expected tool calls are returned as the text that the chat template renders for them. Raises
    :class:`UserError` if the template refuses the chat.
    """
    if isinstance(expectation, CallsExpectation):
        calls = [ToolCall(function=one) for one in expectation.value]
        return calls_text(tokenizer, case.turns, calls, case.tools)
    return expectation.schema_ if isinstance(expectation, SchemaExpectation) else expectation.value


def labelled_answer(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    """Return the answer of a row as text, without its reasoning.

    Tool calls are included as the text that the chat template renders for them. Raises :class:`UserError` if
    the template refuses the chat.
    """
    if row.tool_calls:
        return calls_text(tokenizer, row.prompt, row.tool_calls, row.tools, row.completion)
    prompt_text = render(tokenizer, row.prompt, row.tools)
    return split_reasoning(tokenizer, prompt_text, row.answer).content
