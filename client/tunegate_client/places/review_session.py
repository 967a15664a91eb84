"""The session in which one person scores the rows of a review sample, and the texts of a row on a screen or
in a file."""

import json
from collections.abc import Sequence

from tunegate_api.judging.review import RowScore
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.messages import Message, ToolCall
from tunegate_client.places.review import OpenReview
from tunegate_client.places.scoring import Session


def start_session(review: OpenReview) -> Session[bool]:
    """Return the session in which the reviewer continues. An answer is whether the row is good."""
    return Session(
        [row.id for row in review.rows],
        {id: score.good for id, score in review.scores.items()},
        {id: score.note for id, score in review.scores.items() if score.note},
        needed=review.needed,
    )


def scores_of(session: Session[bool]) -> dict[str, RowScore]:
    """Return the scores to save."""
    return {
        id: RowScore(good=good, note=session.notes.get(id, "")) for id, good in session.kept_answers.items()
    }


def counts_text(session: Session[bool], review: OpenReview) -> str:
    """Return how many rows the reviewer scored as good and as bad, and how many others scored."""
    scored, good = len(session.answers), sum(session.answers.values())
    more = f" and {scored - session.answered} more" if scored > session.answered else ""
    counts = f"{session.answered} of {len(session.needed)}{more} scored: {good} good, {scored - good} bad"
    return "; ".join(filter(None, (counts, review.already_text)))


def scored_by(id: str, review: OpenReview) -> str:
    """Return who scored a row already; empty if nobody did."""
    if id in review.by_others:
        return "scored by others"
    return "scored by the judge" if id in review.judged else ""


def already_scored_text(id: str, review: OpenReview) -> str:
    """Return a sentence about a row that needs no score of the reviewer; empty for other rows."""
    if id in review.by_others:
        return "Other people scored this row. Your score counts beside theirs."
    return "The judge scored this row. Your score overrules it." if id in review.judged else ""


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
