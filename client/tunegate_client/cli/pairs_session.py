"""Rank the completions of prompts in the terminal, one key a completion."""

from collections.abc import Callable

import click
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from tunegate_api.meta import printable
from tunegate_client.cli.review_session import ENTER, Ask, GetKey, turn_view
from tunegate_client.pairs.session import RankingSession, keys_text, state_text

KEYS = (
    "number: next best · = then number: as good as the one before · x then number: unusable\n"
    "b back · space skip · c comment · q save and quit"
)
LAST_KEYS = "enter finish · b back"


def rank_prompts(
    session: RankingSession,
    console: Console,
    get_key: GetKey,
    ask: Ask,
    save: Callable[[], None],
) -> None:
    """Show the prompts without a ranking one after the other, until the person finishes or quits. Ctrl-C
    quits, too.

    ``get_key`` reads a key, and ``ask`` a line of text after a question. Both raise EOFError if the terminal
    is closed. ``save`` is called after each complete ranking."""
    try:
        while not session.is_submitted:
            _show(session, console)
            key = get_key().lower()
            if key == "q":
                break
            before = session.kept_answers
            _handle(session, key, ask)
            if session.kept_answers != before:
                save()
    except (KeyboardInterrupt, EOFError, click.Abort):
        pass


def _handle(session: RankingSession, key: str, ask: Ask) -> None:
    """Carry out a key."""
    if key == "b":
        session.back()
    elif session.is_done:
        if key in ENTER:
            session.submit()
    elif key == " ":
        session.skip()
    elif key == "c":
        session.comment(ask("comment").strip())
    elif key in ENTER:
        session.finish()
    else:
        session.press(key)


def _show(session: RankingSession, console: Console) -> None:
    if console.is_terminal:
        console.clear()
    counts = f"{len(session.answers)} of {len(session.ids)} ranked"
    if session.is_done:
        console.print(Group(Text(counts, style="bold"), Text(LAST_KEYS, style="dim")))
        return
    one, keys = session.known[session.current], session.keys(session.current)
    title = f"prompt {session.position + 1} of {len(session.ids)}  ·  id {printable(one.id)}  ·  {counts}"
    answers: list[RenderableType] = [
        Panel(
            Text(printable(completion.text)),
            title=" · ".join(filter(None, (str(number), state_text(keys, number)))),
            title_align="left",
            border_style="dim" if state_text(keys, number) else "green",
        )
        for number, completion in enumerate(session.shown(one.id), start=1)
    ]
    note = session.notes.get(session.current, "")
    state = f"{keys_text(keys) or 'not ranked'}{session.draft[-1:].strip('123456789')}"
    console.print(
        Group(
            Rule(Text(title), align="left"),
            *map(turn_view, one.prompt),
            *answers,
            Text(f"{state}{': ' + note if note else ''}"),
            Text(KEYS, style="dim"),
        )
    )
