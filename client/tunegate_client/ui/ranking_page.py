"""What a person ranks with `tunegate pairs rank --web`: the completions of prompts."""

from typing import Any

from tunegate_api.meta import printable
from tunegate_client.pairs.session import BAD, EQUAL, RankingSession, keys_text, state_text
from tunegate_client.places.review_session import message_text
from tunegate_client.ui.scoring import AnswerChoice, Questionnaire

_PREVIEW = 80
"""Length of the line about a prompt in the list of all prompts, in characters."""


def ranking_questionnaire(session: RankingSession, resume: str) -> Questionnaire[str]:
    """Return what the page shows. An answer is the text of the keys pressed so far."""
    prompts = session.known.values()
    previews = {
        one.id: printable(" ".join(message_text(one.prompt[-1]).split())[:_PREVIEW]) for one in prompts
    }

    def choices(id: str) -> list[AnswerChoice[str]]:
        keys = session.drafts.get(id, "")
        numbers = (str(n) for n in range(1, len(session.known[id].completions) + 1))
        words = {number: f"Answer {number}" for number in numbers if number not in keys}
        return [
            AnswerChoice(key, session.pressed(id, key), word, "main" if keys.endswith(key) else "")
            for key, word in (words | {EQUAL: "As good as the last", BAD: "Unusable"}).items()
        ]

    def content(id: str) -> dict[str, Any]:
        keys = session.keys(id)
        answers = [
            (number, state_text(keys, number), completion.text)
            for number, completion in enumerate(session.shown(id), start=1)
        ]
        return {"prompt": session.known[id], "answers": answers, "state": keys_text(keys)}

    return Questionnaire(
        title="Rank completions",
        question="Choose the best answer, then the next best, until all have a place. Before an answer, = "
        "makes it as good as the last one, and x unusable.",
        noun="prompt",
        choices=choices,
        template="ranking.html.j2",
        content=content,
        preview=previews.__getitem__,
        counts=lambda session: f"{len(session.answers)} of {len(session.ids)} ranked",
        resume=resume,
        done="ranked",
        word=keys_text,
        is_final=False,
    )
