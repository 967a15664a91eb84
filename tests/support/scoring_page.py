"""The page of ``tunegate review --web``, served in a thread of the test."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.site import Site, serve_app
from tunegate_api.judging.review import RowScore
from tunegate_api.judging.review_sample import ReviewRow, sample_digest, with_id
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_session import scores_of, start_session
from tunegate_client.places.scoring import Session
from tunegate_client.ui.review_page import review_questionnaire
from tunegate_client.ui.scoring_server import make_scoring_app

TOKEN = "secret"
LONG = "x" * 400
SCRIPT = "<script>document.title = 'ran'</script><img src=x onerror=\"document.title = 'ran'\">"
_CALL = ToolCall(function=FunctionCall(name="find_order", arguments={"id": 7, "note": SCRIPT}))


def plain_rows(count: int) -> list[ReviewRow]:
    """Return rows with short prompts and answers."""
    return [
        with_id(
            ReviewRow(
                row=str(n), prompt=[Message(role="user", content=f"order {n}")], completion=f"answer {n}"
            )
        )
        for n in range(count)
    ]


def hostile_row() -> ReviewRow:
    """Return a chat with tools whose texts are long, have scripts, or are written from right to left."""
    turns = [
        Message(role="system", content="You are a support agent. " * 60),
        Message(role="user", content=f"Where is order 7?\n\n    indented {LONG}{SCRIPT}"),
        Message(role="assistant", reasoning_content=SCRIPT, tool_calls=[_CALL]),
        Message(role="tool", name="find_order", content=LONG + SCRIPT),
        Message(role="assistant", content="On its way."),
        Message(role="user", content="\u0645\u0631\u062d\u0628\u0627 " + SCRIPT),
    ]
    tools = [{"type": "function", "function": {"name": "find_order", "description": LONG + SCRIPT}}]
    return with_id(
        ReviewRow(
            row=SCRIPT,
            prompt=turns,
            completion=f"It arrives on Friday. {LONG}{SCRIPT}",
            reasoning=f"The customer asks for the date. {SCRIPT}",
            tools=tools,
        )
    )


@dataclass
class ScoringPage:
    """A served session, and what it saved."""

    site: Site
    session: Session[bool]
    saved: list[dict[str, RowScore]] = field(default_factory=list)
    """The scores after each write."""
    problem: str = ""
    """Why writes fail; empty if they succeed."""
    has_stopped: bool = False

    @property
    def path(self) -> str:
        return f"/{TOKEN}/"

    @property
    def address(self) -> str:
        return f"{self.site.address}{self.path}"

    @property
    def letters(self) -> str:
        """The saved score of each row: y good, n bad, - none."""
        scores = self.saved[-1] if self.saved else {}
        return "".join("-" if id not in scores else "yn"[not scores[id].good] for id in self.session.ids)

    def save(self) -> None:
        if self.problem:
            raise ClientError(self.problem)
        self.saved.append(scores_of(self.session))

    def stop(self) -> None:
        self.has_stopped = True


def review_of(rows: list[ReviewRow], judged: Iterable[str] = (), by_others: Iterable[str] = ()) -> OpenReview:
    """Return a review of the job orders by ana, who has not scored a row yet."""
    return OpenReview(
        "orders",
        sample_digest(rows),
        rows,
        "ana",
        {},
        judged=frozenset(judged),
        by_others=frozenset(by_others),
    )


@contextmanager
def serve_review(
    rows: list[ReviewRow], judged: Iterable[str] = (), by_others: Iterable[str] = ()
) -> Iterator[ScoringPage]:
    """Serve the page of such a review."""
    review = review_of(rows, judged, by_others)
    session = start_session(review)
    page = ScoringPage(Site(0), session)
    questionnaire = review_questionnaire(review, "tunegate review orders --web")
    app = make_scoring_app(session, questionnaire, page.save, TOKEN, page.stop)
    with serve_app(app) as site:
        page.site = site
        yield page
