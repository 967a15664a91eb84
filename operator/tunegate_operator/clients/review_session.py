"""The session in which one person scores the rows of a review sample, and the texts of a row on a screen or
in a file."""

import json
from collections.abc import Mapping, Sequence

from tunegate_api.judging.golden import Message, ToolCall
from tunegate_api.judging.review import Score
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_operator.clients.scoring import Session


def start_session(rows: Sequence[ReviewRow], scores: Mapping[str, Score]) -> Session[bool]:
    """Return the session of a person who gave ``scores`` earlier. An answer is whether the row is good."""
    return Session(
        [row.id for row in rows],
        {id: score.good for id, score in scores.items()},
        {id: score.note for id, score in scores.items() if score.note},
    )


def scores_of(session: Session[bool]) -> dict[str, Score]:
    """Return the scores to save."""
    return {id: Score(good=good, note=session.notes.get(id, "")) for id, good in session.kept_answers.items()}


def counts_text(session: Session[bool]) -> str:
    """Return how many rows are scored as good and as bad."""
    scored, good = len(session.answers), sum(session.answers.values())
    return f"{scored} of {len(session.ids)} scored: {good} good, {scored - good} bad"


def answer_of(row: ReviewRow) -> Message:
    """Return the answer of a row as the assistant's message."""
    return Message(role="assistant", content=row.completion, tool_calls=row.tool_calls)


def message_text(message: Message) -> str:
    """Return the content of a message, and its tool calls, one a line."""
    calls = [_call_text(call) for call in message.tool_calls or []]
    return "\n".join([*([message.content] if message.content else []), *calls])


def prompt_text(row: ReviewRow) -> str:
    """Return the text of the prompt of a row, with its tools."""
    return chat_text(row.prompt, row.tools)


def chat_text(prompt: Sequence[Message], tools: Sequence[object] | None = None) -> str:
    """Return the text of a prompt. If it has several turns, each starts with its role."""
    first = [("tools", json.dumps(tools, ensure_ascii=False))] if tools else []
    turns = [*first, *((turn.role, message_text(turn)) for turn in prompt)]
    return turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)


def answer_text(row: ReviewRow) -> str:
    """Return the text of an answer, with its reasoning and its tool calls."""
    text = message_text(answer_of(row))
    return f"reasoning: {row.reasoning}\n\nanswer: {text}" if row.reasoning else text


def _call_text(call: ToolCall) -> str:
    return f"{call.function.name}({json.dumps(call.function.arguments, ensure_ascii=False)})"
