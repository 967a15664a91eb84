"""The texts of rows and pairs that checks of their content read."""

from tunegate_trainer.data.parse import prompt_text
from tunegate_trainer.tokens.rows import Pair, Row


def last_answer(row: Row | Pair) -> str:
    """Return the completion of a row, or the chosen answer of a pair."""
    return row.chosen if isinstance(row, Pair) else row.completion


def learned_answers(row: Row | Pair) -> list[str]:
    """Return the answers that the model learns to give: every assistant turn of a row that is trained on, or
    the chosen answer of a pair."""
    if isinstance(row, Pair):
        return [row.chosen]
    if len(row.prompt) == 1:
        return [row.completion]
    earlier = [
        turn.content
        for i, turn in enumerate(row.prompt)
        if turn.role == "assistant" and i not in row.unlearned
    ]
    return [*earlier, row.completion]


def whole_text(row: Row | Pair, *, system: bool = True) -> str:
    """Return all texts of a row or pair as one: its turns with their reasoning and tool calls, and its
    answers.

    If ``system`` is false, the system turn is left out.
    """
    turns = row.prompt if system else [turn for turn in row.prompt if turn.role != "system"]
    if len(turns) == 1:
        parts = [turns[0].content]
    else:
        parts = [prompt_text(turns), *(turn.reasoning_content for turn in turns if turn.reasoning_content)]
    if isinstance(row, Pair):
        parts += [row.chosen, row.rejected]
    else:
        parts.append(prompt_text([row.answer]) if row.tool_calls else row.completion)
        if row.reasoning:
            parts.append(row.reasoning)
    return "\n".join(parts)
