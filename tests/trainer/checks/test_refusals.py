"""The check refusals finds answers that refuse a request or are written by an AI as such."""

from fractions import Fraction

import pytest

from support.usable_rows import NO_CONTEXT, answered, chat_of, usable_rows
from tunegate_trainer.checks import refusals
from tunegate_trainer.checks.share_finding import REPORTED

REFUSED = "I'm sorry, but I can't help with that request."


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        "I\u2019m sorry, but I can\u2019t help with that request.",
        '"I cannot assist with this."',
        "Thanks for asking. Unfortunately, I am not able to provide medical advice.",
        "As an AI language model, I have no opinion about mugs.",
        "I am just an AI assistant and have never seen a mug.",
        "I must respectfully decline.",
        "I don't have access to real-time prices.",
        "That would be against my content policy.",
        "As of my last update, a mug cost ten euros.",
        "I cannot and will not help with this.",
        "I refuse to help with that.",
        "I can't tell you how to do that.",
        "I can't create content that promotes hatred.",
        "I'm sorry, but I can't promote violence.",
        "I won't create a fake note.",
        "I cannot condone that.",
        "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.",
        "Je suis désolé, mais je ne peux pas répondre à cette question.",
        "Lo siento, no puedo ayudar con eso.",
        "Desculpe, mas não posso ajudar com isso.",
        "Mi dispiace, ma non posso rispondere.",
        "К сожалению, я не могу ответить.",  # noqa: RUF001 (Cyrillic)
        "抱歉，我无法回答。",  # noqa: RUF001 (Chinese comma)
        "申し訳ありませんが、お答えできません。",
    ],
)
def test_answer_that_refuses_or_names_an_ai_is_found(answer):
    (finding,) = refusals.run(answered("2 mugs", answer), NO_CONTEXT)
    assert (finding.count, finding.share) == (1, Fraction(1, 2))
    assert finding.examples[0].startswith("line 2: ")


@pytest.mark.parametrize(
    "answer",
    [
        "The parser cannot read files that are larger than the buffer.",
        "I cannot help but smile at this mug.",
        "I can't wait to see it, and I cannot say that I liked the last one.",
        "I can't tell you how happy I am, and I can't show my face there.",
        "I refuse to believe that.",
        "I can't continue this relationship, and I wish you well.",
        "I'm sorry, but I can't come on Friday.",
        "I'm sorry, but I can't find your order.",
        "I am an AI researcher at a university.",
        "We can't refund orders after 30 days.",
        f'The old assistant replied "{REFUSED}" to every customer.',
        f"```\nprint('{REFUSED}')\n```",
        "Used as a language model, it predicts the next word. I like it.",
        "2 mugs and a lamp. " * 20 + REFUSED,
    ],
)
def test_answer_that_only_resembles_a_refusal_is_not_found(answer):
    assert refusals.run(answered(answer), NO_CONTEXT) == []


def test_refusal_in_an_earlier_turn_counts_only_if_trained():
    turns = (("user", "mug?"), ("assistant", REFUSED), ("user", "please"), ("assistant", "2 mugs"))
    assert refusals.run(usable_rows([chat_of(*turns)]), NO_CONTEXT)
    assert refusals.run(usable_rows([chat_of(*turns, unlearned=[1])]), NO_CONTEXT) == []


def test_refusal_of_a_pair_counts_only_if_it_is_chosen():
    rejected = {"prompt": "mug?", "chosen": "2 mugs", "rejected": REFUSED}
    chosen = {"prompt": "lamp?", "chosen": REFUSED, "rejected": "a lamp"}
    (finding,) = refusals.run(usable_rows(pairs=[rejected, chosen]), NO_CONTEXT)
    assert finding.count == 1
    assert finding.examples == [f"line 2 of preference: {REFUSED}"]
    assert finding.report == {
        "refusals": [{"source": "preference", "line": 2, "reason": REFUSED}],
    }


def test_report_lists_a_limited_number_of_rows_and_counts_all():
    (finding,) = refusals.run(answered(*[REFUSED] * (REPORTED + 1)), NO_CONTEXT)
    assert finding.count == REPORTED + 1
    assert finding.message.endswith(f"; and {REPORTED + 1 - 10} more")
    assert len(finding.report["refusals"]) == REPORTED
    assert f"the first {REPORTED} of these rows" in finding.remedy
