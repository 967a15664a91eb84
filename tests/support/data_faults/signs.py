"""Rows with signs of bad data: refusals, truncated answers, other languages, secrets, personal data, prompt
injections."""

import random
from collections.abc import Callable

from support.data_faults.clean import DataSet
from support.data_faults.copies import is_text
from support.data_faults.injected import Injected, Row, changed
from support.data_faults.phrases import INJECTIONS, NO_INJECTIONS, NO_REFUSALS, OTHER_LANGUAGES, REFUSALS
from support.data_faults.secret_values import (
    PERSONAL_DATA,
    PERSONAL_SENTENCES,
    SECRETS,
    no_personal_data,
    no_secret,
)


def refusals(data: DataSet, *, count: int, seed: int = 0) -> Injected:
    """Replace the answers of ``count`` rows by refusals; about half of them go on with the answer."""

    def refuse(row: Row, order: random.Random) -> Row:
        rest = order.choice(["", f" {row['completion']}"])
        return row | {"completion": order.choice(REFUSALS) + rest}

    return changed(data.rows, refuse, count=count, seed=seed)


def truncated_answers(data: DataSet, *, count: int, seed: int = 0) -> Injected:
    """Cut the answers of ``count`` rows inside their last sentence. Only answers of 12 or more words are cut.

    Raises ValueError if there are fewer."""
    long = [i for i, row in enumerate(data.rows) if len(row["completion"].split()) >= 12]

    def cut(row: Row, order: random.Random) -> Row:
        words = row["completion"].split()
        kept = words[: order.randint(len(words) - 6, len(words) - 2)]
        return row | {"completion": " ".join(kept).rstrip(".,;:!?)")}

    return changed(data.rows, cut, count=count, seed=seed, usable=long)


def other_languages(
    data: DataSet, *, language: str, count: int, both: bool = True, seed: int = 0
) -> Injected:
    """Replace the answers of ``count`` rows, and their prompts if ``both``, by another language."""
    sentences = OTHER_LANGUAGES[language]

    def translate(row: Row, order: random.Random) -> Row:
        question, *answer = order.sample(sentences, 3)
        prompt = data.prompt(question) if both else row["prompt"]
        return {"prompt": prompt, "completion": " ".join(answer)}

    return changed(data.rows, translate, count=count, seed=seed)


def secrets(data: DataSet, *, kind: str, count: int, seed: int = 0) -> Injected:
    """Put a generated secret into ``count`` rows. ``kind`` is a key of SECRETS."""

    def add(row: Row, order: random.Random) -> Row:
        return _with_text(data, row, SECRETS[kind](order), order)

    return changed(data.rows, add, count=count, seed=seed)


def personal_data(data: DataSet, *, kind: str, count: int, seed: int = 0) -> Injected:
    """Put generated personal data into ``count`` rows. ``kind`` is a key of PERSONAL_DATA."""

    def add(row: Row, order: random.Random) -> Row:
        return _with_text(data, row, PERSONAL_SENTENCES[kind].format(PERSONAL_DATA[kind](order)), order)

    return changed(data.rows, add, count=count, seed=seed)


def prompt_injections(data: DataSet, *, count: int, seed: int = 0) -> Injected:
    """Put a prompt injection into ``count`` rows."""

    def add(row: Row, order: random.Random) -> Row:
        return _with_text(data, row, order.choice(INJECTIONS), order)

    return changed(data.rows, add, count=count, seed=seed)


HARMLESS: dict[str, Callable[[random.Random], str]] = {
    "refusals": lambda order: order.choice(NO_REFUSALS),
    "prompt_injection": lambda order: order.choice(NO_INJECTIONS),
    "secrets": no_secret,
    "personal_data": no_personal_data,
}
"""Sentences that resemble a fault without being one, by the name of the check."""


def harmless(data: DataSet, *, check: str, count: int, seed: int = 0) -> Injected:
    """Put a sentence of HARMLESS into ``count`` rows. ``faulty`` is empty."""

    def add(row: Row, order: random.Random) -> Row:
        return _with_text(data, row, HARMLESS[check](order), order)

    return Injected(changed(data.rows, add, count=count, seed=seed).rows, frozenset())


def _with_text(data: DataSet, row: Row, text: str, order: random.Random) -> Row:
    """Return a row with a text before or after the content of its prompt, or its answer, if that is prose."""
    parts = {"completion": row["completion"]} if is_text(row["completion"]) else {}
    if not parts or data.content(row).endswith("."):
        parts["prompt"] = data.content(row)
    field, before = order.choice(list(parts.items()))
    after = order.choice([f"{before} {text}", f"{text} {before}"])
    if not text.endswith("."):  # an answer that ends with it would look cut
        after = f"{text} {before}"
    return row | {field: data.prompt(after) if field == "prompt" else after}
