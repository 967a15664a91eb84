"""The page on which one person scores items. What is scored, such as the rows of a review, is a
:class:`Questionnaire`; the page knows nothing about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from tunegate_client.places.scoring import Answer, Session
from tunegate_client.ui.templating import environment

SKIP, BACK, COMMENT, FINISH, SUBMIT, QUIT = "skip", "back", "comment", "finish", "submit", "quit"
MAX_NOTE_INPUT = 1000
"""Maximum length of a comment on the page, in characters."""


@dataclass(frozen=True)
class AnswerChoice(Generic[Answer]):
    """One of the answers to an item."""

    key: str
    """The key on the keyboard. The page itself uses b, c, q, space and enter."""
    answer: Answer
    word: str
    tone: str = ""
    """``good`` or ``bad``, which have a colour and a mark; ``main`` for one that is active; empty for any
    other answer."""


@dataclass(frozen=True)
class Questionnaire(Generic[Answer]):
    """What is scored. The functions get the id of an item."""

    title: str
    question: str
    noun: str
    """The word for an item, such as ``row``."""
    choices: Callable[[str], Sequence[AnswerChoice[Answer]]]
    template: str
    """The template of an item."""
    content: Callable[[str], Mapping[str, Any]]
    """What the template shows of an item, as its variable ``content``."""
    preview: Callable[[str], str]
    """One line about an item, for the list of all items."""
    counts: Callable[[Session[Answer]], str]
    """How many items have which answer."""
    resume: str
    """The command that continues after a break."""
    scored_by: Callable[[str], str] = lambda _: ""
    """Who gave an item an answer already, such as ``scored by the judge``; empty if nobody did."""
    already: str = ""
    """How many answers others gave already, such as ``the judge scored 8``."""
    done: str = "scored"
    """What an item with an answer is."""
    word: Callable[[Answer], str] | None = None
    """The word for an answer that is more than one of the choices."""
    is_final: bool = True
    """Whether the answers count once every item has one."""


@dataclass(frozen=True)
class ListedItem:
    """An item in the list of all items."""

    id: str
    number: int
    preview: str
    word: str
    """The word of its answer; empty without an answer."""
    tone: str
    note: str
    scored_by: str
    """Who else gave it an answer; empty if nobody did."""


def do(session: Session[Answer], questionnaire: Questionnaire[Answer], form: Mapping[str, str]) -> None:
    """Carry out what a person did on the page. ``form`` has the item that the page showed, the comment in its
    field, and the name of the action or the key of an answer in ``do``, or the item to go to in ``go``.

    Raises ValueError if the form is not one of the page's.
    """
    if "item" in form:
        session.go_to(form["item"])  # which can differ from the current item if two tabs are open
        session.comment(form.get("note", "").strip()[:MAX_NOTE_INPUT])
    action = form.get("do", "")
    of_item: dict[str, Callable[[], None]] = {
        FINISH: session.finish,
        COMMENT: lambda: None,
    }
    of_session: dict[str, Callable[[], None]] = {
        BACK: session.back,
        SKIP: session.skip,
        SUBMIT: session.submit,
        QUIT: lambda: None,
    }
    if "go" in form:
        session.go_to(form["go"])
    elif action in of_session:
        of_session[action]()
    elif "item" not in form:
        raise ValueError(f"there is no item for the action {action!r}")
    elif action in of_item:
        of_item[action]()
    else:
        session.answer(_answer_for(questionnaire.choices(session.current), action))


def render(session: Session[Answer], questionnaire: Questionnaire[Answer], problem: str) -> str:
    """Render the page. ``problem`` is why the answers are not saved; empty if they are."""
    id = session.current
    return (
        environment()
        .get_template("scoring.html.j2")
        .render(
            session=session,
            questions=questionnaire,
            counts=questionnaire.counts(session),
            choices=questionnaire.choices(id),
            content=questionnaire.content(id),
            current=_listed(session, questionnaire, session.position),
            items=[_listed(session, questionnaire, n) for n in range(len(session.ids))],
            held_back=session.ids.index(session.held_back) + 1 if session.held_back else 0,
            problem=problem,
            max_note=MAX_NOTE_INPUT,
        )
    )


def render_end(session: Session[Answer], questionnaire: Questionnaire[Answer]) -> str:
    """Render the last page, which is shown once the person has submitted the answers or quits."""
    return (
        environment()
        .get_template("scoring_end.html.j2")
        .render(
            session=session,
            questions=questionnaire,
            kept=sum(id in session.needed for id in session.kept_answers),
        )
    )


def _answer_for(choices: Sequence[AnswerChoice[Answer]], key: str) -> Answer:
    for choice in choices:
        if choice.key == key:
            return choice.answer
    raise ValueError(f"no answer has the key {key!r}")


def _listed(session: Session[Answer], questionnaire: Questionnaire[Answer], position: int) -> ListedItem:
    id = session.ids[position]
    word, tone = "", ""
    if id in session.answers:
        answer = session.answers[id]
        if questionnaire.word:
            word = questionnaire.word(answer)
        else:
            chosen = (choice for choice in questionnaire.choices(id) if choice.answer == answer)
            word, tone = next(((choice.word, choice.tone) for choice in chosen), ("", ""))
    return ListedItem(
        id=id,
        number=position + 1,
        preview=questionnaire.preview(id),
        word=word,
        tone=tone,
        note=session.notes.get(id, ""),
        scored_by=questionnaire.scored_by(id),
    )
