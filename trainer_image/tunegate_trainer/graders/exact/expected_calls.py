"""The references of the scorer of tool calls, apart from it because chat templates need transformers."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.graders.exact.tool_calls import ExpectedCalls
from tunegate_trainer.tokens.answers import calls_text
from tunegate_trainer.tokens.call_start import call_start
from tunegate_trainer.tokens.rows import Row


def expected_calls(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> list[ExpectedCalls]:
    """Return the tool calls that each row expects. Raises :class:`UserError` if the template refuses a
    chat."""
    start = call_start(tokenizer, rows)
    return [
        ExpectedCalls(
            calls_text(tokenizer, row.prompt, row.tool_calls, row.tools) if row.tool_calls else "", start
        )
        for row in rows
    ]
