"""Score the rows of a review sample in the terminal, one key a row."""

import json
from collections.abc import Callable

import click
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from tunegate_api.judging.review import RowScore
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.messages import Message
from tunegate_api.meta import printable
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_session import (
    already_scored_text,
    answer_of,
    counts_text,
    message_text,
    scores_of,
    start_session,
)
from tunegate_client.places.scoring import Session

KEYS = "y good · n bad · space skip · b back · c comment · q save and quit"
ENTER = ("\r", "\n")
LAST_KEYS = "enter submit · b back · q quit without the last score"
MORE_KEYS = " · space score the other rows"
_ROLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
GetKey = Callable[[], str]
Ask = Callable[[str], str]


def score_rows(review: OpenReview, console: Console, get_key: GetKey, ask: Ask) -> dict[str, RowScore]:
    """Show the rows without a score one after the other, and return all scores once the reviewer submits them
    or quits. Ctrl-C quits, too.

    ``get_key`` reads a key, and ``ask`` a line of text after a question. Both raise EOFError if the terminal
    is closed."""
    session = start_session(review)
    try:
        while not session.is_submitted:
            _show(session, review, console)
            key = get_key().lower()
            if key == "q":
                break
            _handle(session, key, ask)
    except (KeyboardInterrupt, EOFError, click.Abort):
        pass
    return scores_of(session)


def _handle(session: Session[bool], key: str, ask: Ask) -> None:
    """Carry out a key."""
    if key == "b":
        session.back()
    elif session.is_done:
        if key in ENTER:
            session.submit()
        elif key == " ":
            session.skip()
    elif key in ("y", "n"):
        session.answer(key == "y")
    elif key == " ":
        session.skip()
    elif key == "c":
        session.comment(ask("comment").strip().encode(errors="replace").decode())  # bytes that are no text
    elif key in ENTER:
        session.finish()


def _show(session: Session[bool], review: OpenReview, console: Console) -> None:
    if console.is_terminal:
        console.clear()
    row, counts = review.rows[session.position], counts_text(session, review)
    if session.is_done:
        keys = LAST_KEYS if session.has_all else LAST_KEYS + MORE_KEYS
        console.print(Group(Text(counts, style="bold"), Text(keys, style="dim")))
        return
    keys = f"{KEYS} · enter finish" if session.is_complete else KEYS
    already = already_scored_text(row.id, review)
    title = Text(f"row {session.position + 1} of {len(session.ids)}  ·  id {printable(row.row)}  ·  {counts}")
    console.print(
        Group(
            Rule(title, align="left"),
            *([Text(already, style="yellow")] if already else []),
            *_row_view(row),
            _score_line(session),
            Text(keys, style="dim"),
        )
    )


def _row_view(row: ReviewRow) -> list[RenderableType]:
    shown: list[RenderableType] = []
    if row.tools:
        shown += [Text("tools", style="bold"), Text(printable(json.dumps(row.tools, ensure_ascii=False)))]
    shown += [turn_view(turn) for turn in row.prompt]
    if row.reasoning:
        shown.append(Text(f"reasoning: {printable(row.reasoning)}", style="dim"))
    shown.append(Panel(_content(answer_of(row)), title="answer", title_align="left", border_style="green"))
    return shown


def turn_view(turn: Message) -> RenderableType:
    """Render a turn of a chat with its role."""
    return Text.assemble((f"{turn.role}  ", f"bold {_ROLES[turn.role]}"), _content(turn))


def _content(turn: Message) -> Text:
    return Text(printable(message_text(turn)))


def _score_line(session: Session[bool]) -> Text:
    good, note = session.answers.get(session.current), session.notes.get(session.current, "")
    word, style = {None: ("not scored", "dim"), True: ("good", "green"), False: ("bad", "red")}[good]
    return Text(printable(f"{word}{': ' + note if note else ''}"), style=style)
