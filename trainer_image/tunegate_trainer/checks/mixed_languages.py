"""Check for rows in another language than most rows."""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any, TypeVar

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.row_texts import last_answer
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.excerpts import end_of, start_of
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.lazy_sequence import LazySequence
from tunegate_trainer.tokens.rows import Pair, Row

NAME = "mixed_languages"
MAX_ROWS = 20_000
"""Maximum number of rows and pairs that are read. Of more, a random sample is read."""
MIN_LETTERS = 40
"""Minimum length of a text in letters. The language of shorter texts is uncertain. An ideograph counts as
three letters."""
MAX_CHARACTERS = 250
"""How many characters of a text are read."""
KNOWN = Fraction(1, 5)
"""Minimum share of prompts or answers with a known language. If fewer answers have one, because most are
labels for example, answers are compared with the language of most prompts, and the same for prompts."""
MIN_PROBABILITY = 0.7
"""Minimum probability of a language, as py3langid estimates it."""
MAX_MAIN_PROBABILITY = 0.1
"""Maximum probability of the main language for a row in another language. It may be higher for languages that
resemble the main language, such as Galician and Spanish."""
SAME = Fraction(4, 5)
"""Minimum share of rows whose answer has the language of the prompt, in a data set of many languages."""

_NO_LANGUAGE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|\S*(?:://|[@\\/_=<>{}])\S*|\d+", re.DOTALL)
"""Code, addresses, paths, names of variables, and numbers."""
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")

MeasuredT = TypeVar("MeasuredT")


Languages = tuple[str | None, str | None]
"""The languages of a prompt and of its answer, as ISO 639-1 codes. None if a language is uncertain."""


class _Chosen(LazySequence[MeasuredT]):
    """Some of ``rows``, in their order."""

    def __init__(self, rows: Sequence[MeasuredT], chosen: Sequence[int]) -> None:
        self._rows = rows
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def item(self, index: int) -> MeasuredT:
        return self._rows[self._chosen[index]]


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find rows whose prompt or answer is not in the language of most prompts or answers.

    Prompts and answers are compared separately, so that translations are no fault. If neither most prompts
    nor most answers have one language, but most answers have the language of their prompt, the other rows are
    found. Short texts and code have no language.
    """
    sample = _sample(rows)
    languages: list[Languages] = [
        (language_of(_prompt(measured)), language_of(_answer(measured)))
        for measured_rows in (sample.rows, sample.pairs)
        for measured in measured_rows
    ]
    main = _main_languages(languages)
    same = [prompt == answer for prompt, answer in languages if prompt and answer]
    multilingual = main == (None, None) and same and Fraction(sum(same), len(same)) >= SAME
    each = iter(languages)  # share_finding examines rows and pairs in the same order

    def examine(measured: UsableRow[Any]) -> str | None:
        prompt, answer = next(each)
        if multilingual:
            differ = prompt and answer and prompt != answer and _is_other(_answer(measured), prompt)
            return f"the prompt is in {prompt}, but the answer in {answer}" if differ else None
        if _differs(answer, main[1], _answer(measured)):
            return (
                f"the answer is in {answer}, not in {main[1]}: {start_of(last_answer(measured.labelled.row))}"
            )
        if _differs(prompt, main[0], _prompt(measured)):
            last = measured.labelled.row.prompt[-1].content
            return f"the prompt is in {prompt}, not in {main[0]}: {start_of(end_of(last, MAX_CHARACTERS))}"
        return None

    total = len(rows.rows) + len(rows.pairs)
    examined = len(languages)
    return share_finding(
        NAME,
        sample,
        examine,
        "a text in another language than most"
        + (f" (of {total} rows, a sample was examined)" if examined < total else ""),
        "remove or translate these rows, because the model may answer in the wrong language; if the data "
        "should have several languages, raise max of MixedLanguages in data.checks, or set the policy to Off",
    )


def _sample(rows: UsableRows) -> UsableRows:
    """Return at most MAX_ROWS random rows and pairs, each with the same probability. The same ones are chosen
    every time."""
    of_rows = len(rows.rows)
    total = of_rows + len(rows.pairs)
    chosen = sorted(random.Random(0).sample(range(total), min(total, MAX_ROWS)))
    return replace(
        rows,
        rows=_Chosen(rows.rows, [i for i in chosen if i < of_rows]),
        pairs=_Chosen(rows.pairs, [i - of_rows for i in chosen if i >= of_rows]),
    )


def language_of(text: str) -> str | None:
    """Return the language of a text as an ISO 639-1 code, or None if the text is too short, or its language
    is uncertain."""
    words = _without_code(text)
    if sum(map(str.isalpha, words)) + 2 * len(_IDEOGRAPH.findall(words)) < MIN_LETTERS:
        return None
    language, probability = _identifier().classify(words)
    return str(language) if probability >= MIN_PROBABILITY else None


def _differs(language: str | None, main: str | None, text: str) -> bool:
    return bool(language and main and language != main and _is_other(text, main))


def _is_other(text: str, main: str) -> bool:
    """Whether a text is certainly not in the language ``main``."""
    probabilities: Mapping[str, float] = dict(_identifier().rank(_without_code(text)))
    return probabilities.get(main, 0) <= MAX_MAIN_PROBABILITY


def _main_languages(languages: Sequence[Languages]) -> Languages:
    """Return the language of more than half of the prompts, and of more than half of the answers."""
    prompts, answers = (Counter(pair[i] for pair in languages if pair[i]) for i in (0, 1))
    least = KNOWN * len(languages)
    return (
        _majority(prompts if prompts.total() >= least else answers),
        _majority(answers if answers.total() >= least else prompts),
    )


def _majority(counts: Counter[str | None]) -> str | None:
    return next((language for language, count in counts.items() if 2 * count > counts.total()), None)


def _prompt(measured: UsableRow[Any]) -> str:
    """Return the end of the last turn of a prompt: a template that all prompts have mostly comes first."""
    row: Row | Pair = measured.labelled.row
    return row.prompt[-1].content[-MAX_CHARACTERS:]


def _answer(measured: UsableRow[Any]) -> str:
    return last_answer(measured.labelled.row)[:MAX_CHARACTERS]


def _without_code(text: str) -> str:
    return " ".join(_NO_LANGUAGE.sub(" ", text).split())


@cache
def _identifier() -> LanguageIdentifier:
    """Return the classifier of py3langid, with normalized probabilities. Its model is in the package."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
