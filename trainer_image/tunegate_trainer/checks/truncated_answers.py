"""Check for answers that end in the middle of a sentence, a code block or a JSON value."""

import json
import re
import unicodedata
from collections import Counter
from enum import StrEnum
from fractions import Fraction
from typing import Any

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.row_texts import last_answer
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.excerpts import end_of
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Row

NAME = "truncated_answers"
COMPLETE = Fraction(4, 5)
"""Unfinished answers of a kind are reported only if at least this share of the kind is finished. Otherwise
the answers follow another style, such as headlines without a full stop."""
LEAST = 10
"""Minimum number of answers of a kind. With fewer, there is no style to compare with."""
MIN_LIMIT = 32
"""Minimum length in tokens that can be the token limit of a generator."""

_MIN_WORDS, _MIN_IDEOGRAPHS = 6, 20
"""Minimum length of the last line of prose. Shorter lines are labels, titles or signatures."""
_SENTENCE_ENDS = ".!?\u2026\u3002\uff01\uff1f\uff0e\u061f\u06d4\u0964"
"""Latin, Chinese, Arabic and Hindi marks at the end of a sentence."""
_BRACKETS = ")]}$\uff09\u300d\u300f\u3011\u300b"
_QUOTES = "\"'`*_\u201c\u201d\u2018\u2019\u00bb\u00ab"
_EMOJI_PARTS = "\ufe0f\u200d"
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
_LIST_ITEM = re.compile(r"(?:[-*+\u2022#|>]|\d{1,3}[.)]|[a-z][.)])\s")
_JSON = re.compile(r"\s*[\[{]\s*(?:[\"{\[\d-]|true\b|false\b|null\b|[\]}]\s*$)")


class Kind(StrEnum):
    """The form of an answer. The value describes an answer of the kind that is not finished."""

    PROSE = "ends in the middle of a sentence"
    JSON = "ends in the middle of a JSON value"
    CODE = "has a code block without an end"


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find rows and pairs whose last or chosen answer is not finished, although most of its kind are.

    A row whose answer does not end like a sentence is also found if unusually many answers have its number
    of tokens, and none has more: the token limit of a generator has cut them.
    """
    kinds = Counter(
        ended
        for measured_rows in (rows.rows, rows.pairs)
        for measured in measured_rows
        if (ended := ending(last_answer(measured.labelled.row)))
    )
    reported = {kind for kind in Kind if _is_style(kinds[kind, True], kinds[kind, False])}
    limit = token_limit(Counter(measured.answer for measured in rows.rows))
    if not reported and limit is None:
        return []

    def examine(measured: UsableRow[Any]) -> str | None:
        answer = last_answer(measured.labelled.row)
        ended = ending(answer)
        if ended and not ended[1] and ended[0] in reported:
            return f"the answer {ended[0]}: {_end_of(answer)}"
        at_limit = measured.answer == limit and isinstance(measured.labelled.row, Row)
        if at_limit and not (ended and ended[1]) and not _ends_sentence(answer):
            return f"the answer has {limit} tokens, like many others but none more: {_end_of(answer)}"
        return None

    return share_finding(
        NAME,
        rows,
        examine,
        "an answer that seems to be cut off",
        "complete or remove these rows, because the model learns to stop like this; if a model wrote the "
        "answers, raise its token limit; if the answers are complete, raise "
        "max of TruncatedAnswers in data.checks, or set the policy to Off",
    )


def ending(answer: str) -> tuple[Kind, bool] | None:
    """Return the kind of an answer and whether it is finished. None for answers without such an end: labels,
    lists, tables, signatures and addresses."""
    if _JSON.match(answer):
        try:
            json.loads(answer)
        except json.JSONDecodeError as error:
            at_end = error.pos >= len(answer.rstrip()) or error.msg.startswith("Unterminated")
            return (Kind.JSON, False) if at_end else None
        except (ValueError, RecursionError):  # valid JSON beyond Python's limits
            return None
        return Kind.JSON, True
    if "```" in answer:
        return Kind.CODE, answer.count("```") % 2 == 0
    text = answer.rstrip()
    last = text[text.rfind("\n") + 1 :].lstrip()
    if _LIST_ITEM.match(last) or "://" in last.rpartition(" ")[2]:
        return None
    if len(last.split(None, _MIN_WORDS)) < _MIN_WORDS and len(_IDEOGRAPH.findall(last)) < _MIN_IDEOGRAPHS:
        return None
    return Kind.PROSE, _ends_sentence(last)


def token_limit(lengths: Counter[int]) -> int | None:
    """Return the maximum of ``lengths``, which counts answers by their number of tokens, if it looks like the
    token limit of a generator. Otherwise, return None.

    Unusually many answers have this length: 1 % and at least ten, and three times as many as any other length
    in the upper half. Most answers are shorter.
    """
    total, longest = lengths.total(), max(lengths, default=0)
    at_limit = lengths[longest]
    if longest < MIN_LIMIT or at_limit < max(LEAST, total / 100) or at_limit > total / 2:
        return None
    others = max((count for n, count in lengths.items() if longest / 2 < n < longest), default=0)
    return longest if at_limit >= 3 * others else None


def _is_style(complete: int, unfinished: int) -> bool:
    """Whether most answers of a kind are finished, so that the others are exceptions."""
    total = complete + unfinished
    return unfinished > 0 and total >= LEAST and Fraction(complete, total) >= COMPLETE


def _ends_sentence(text: str) -> bool:
    text = text.rstrip().rstrip(_QUOTES + _EMOJI_PARTS)
    if text.endswith(("()", "[]", "{}")):  # the name of a function
        return False
    return text[-1:] in _SENTENCE_ENDS + _BRACKETS or unicodedata.category(text[-1:]) in ("So", "Sk")


def _end_of(answer: str) -> str:
    return end_of(answer, 40)
