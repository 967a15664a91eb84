"""Score the rows of a review sample in the terminal, one key a row."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import click
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from tunegate_api.judging.golden import Message, ToolCall
from tunegate_api.judging.review import Score
from tunegate_api.judging.review_sample import ReviewRow
from tunegate_api.meta import printable

KEYS = "y good · n bad · space skip · b back · c comment · q save and quit"
ENTER = ("\r", "\n")
LAST_KEYS = "enter submit · b back · q quit without the score of the last row"
_ROLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow"}
GetKey = Callable[[], str]
Ask = Callable[[str], str]


@dataclass
class Session:
    """The scores of one person, and the row on the screen."""

    rows: Sequence[ReviewRow]
    scores: dict[str, Score]
    notes: dict[str, str] = field(default_factory=dict)
    """Comments on rows that are not scored yet."""
    position: int = 0
    seen: list[int] = field(default_factory=list)
    """The positions of earlier rows, for the key b."""

    @property
    def row(self) -> ReviewRow:
        return self.rows[self.position]

    @property
    def is_complete(self) -> bool:
        return all(row.id in self.scores for row in self.rows)

    def rate(self, *, good: bool) -> None:
        """Score the row on the screen, and go to the next row without a score."""
        earlier = self.scores.get(self.row.id)
        note = self.notes.pop(self.row.id, earlier.note if earlier else "")
        self.scores[self.row.id] = Score(good=good, note=note)
        self.skip()

    def comment(self, note: str) -> None:
        """Set the comment on the row on the screen."""
        earlier = self.scores.get(self.row.id)
        if earlier:
            self.scores[self.row.id] = earlier.model_copy(update={"note": note})
        else:
            self.notes[self.row.id] = note

    def skip(self) -> None:
        """Go to the next row without a score. After the last row, continue with the first one."""
        self.seen.append(self.position)
        self.find_unscored(self.position + 1)

    def find_unscored(self, start: int) -> None:
        """Go to the first row without a score from ``start`` on; stay if all rows have a score."""
        count = len(self.rows)
        order = ((start + n) % count for n in range(count))
        self.position = next((n for n in order if self.rows[n].id not in self.scores), self.position)

    def back(self) -> None:
        """Go back to the row that was on the screen before."""
        if self.seen:
            self.position = self.seen.pop()


def score_rows(
    rows: Sequence[ReviewRow],
    scores: Mapping[str, Score],
    console: Console,
    get_key: GetKey,
    ask: Ask,
) -> dict[str, Score]:
    """Show the rows without a score one after the other, and return all scores once the reviewer submits them
    or quits. Ctrl-C quits, too.

    ``get_key`` reads a key, and ``ask`` a line of text after a question. Both raise EOFError if the terminal
    is closed."""
    session = Session(rows, dict(scores))
    session.find_unscored(0)
    is_done = session.is_complete
    try:
        while True:
            _show(session, console, is_done=is_done)
            key = get_key().lower()
            if key == "q":
                break
            if is_done and key in ENTER:
                return session.scores
            is_done = _handle(session, key, ask, is_done=is_done)
    except (KeyboardInterrupt, EOFError, click.Abort):
        pass
    return _not_submitted(session)


def _handle(session: Session, key: str, ask: Ask, *, is_done: bool) -> bool:
    """Carry out a key. Return whether to show that all rows have a score, instead of a row."""
    if is_done and key != "b":
        return True
    if key in ("y", "n"):
        session.rate(good=key == "y")
    elif key == " ":
        session.skip()
    elif key == "b":
        session.back()
    elif key == "c":
        session.comment(ask("comment").strip())
    return key in ("y", "n", " ", *ENTER) and session.is_complete


def _not_submitted(session: Session) -> dict[str, Score]:
    """Return the scores of a reviewer who has not submitted them. If all rows have a score, the current row
    is left out, because all scores would decide the review."""
    current = session.row.id if session.is_complete else None
    return {id: score for id, score in session.scores.items() if id != current}


def _show(session: Session, console: Console, *, is_done: bool) -> None:
    if console.is_terminal:
        console.clear()
    good = sum(score.good for score in session.scores.values())
    counts = (
        f"{len(session.scores)} of {len(session.rows)} scored: {good} good, {len(session.scores) - good} bad"
    )
    if is_done:
        console.print(Group(Text(counts, style="bold"), Text(LAST_KEYS, style="dim")))
        return
    row = session.row
    title = Text(
        f"row {session.position + 1} of {len(session.rows)}  ·  id {printable(row.row)}  ·  {counts}"
    )
    console.print(
        Group(Rule(title, align="left"), *_row_view(row), _score_line(session), Text(KEYS, style="dim"))
    )


def _row_view(row: ReviewRow) -> list[RenderableType]:
    shown: list[RenderableType] = []
    if row.tools:
        shown += [
            Text("tools", style="bold"),
            Text(printable(json.dumps(row.tools, ensure_ascii=False))),
        ]
    shown += [_turn(turn) for turn in row.prompt]
    answer = Message(role="assistant", content=row.completion, tool_calls=row.tool_calls)
    if row.reasoning:
        shown.append(Text(f"reasoning: {printable(row.reasoning)}", style="dim"))
    shown.append(Panel(_content(answer), title="answer", title_align="left", border_style="green"))
    return shown


def _turn(turn: Message) -> RenderableType:
    return Text.assemble((f"{turn.role}  ", f"bold {_ROLES[turn.role]}"), _content(turn))


def _content(turn: Message) -> Text:
    calls = [_call(call) for call in turn.tool_calls or []]
    return Text(printable("\n".join([*([turn.content] if turn.content else []), *calls])))


def _call(call: ToolCall) -> str:
    return f"{call.function.name}({json.dumps(call.function.arguments, ensure_ascii=False)})"


def _score_line(session: Session) -> Text:
    score, note = session.scores.get(session.row.id), session.notes.get(session.row.id, "")
    if score is None:
        return Text(f"not scored{': ' + note if note else ''}", style="dim")
    text = f"{'good' if score.good else 'bad'}{': ' + score.note if score.note else ''}"
    return Text(printable(text), style="green" if score.good else "red")
