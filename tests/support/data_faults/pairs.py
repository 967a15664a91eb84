"""Preference pairs, clean and with faults of each kind."""

import random
from collections.abc import Callable, Sequence

from support.data_faults.clean import clean_set
from support.data_faults.corpus import corpus
from support.data_faults.injected import Injected, Row, changed, inserted
from support.data_faults.phrases import STOCK_ANSWERS
from support.data_faults.similarity import words_of

LONGER = 2.5
"""With a length bias, chosen answers have at least this many times the words of the rejected ones."""


def clean_pairs(*, size: int = 300, seed: int = 0) -> tuple[Row, ...]:
    """Return pairs of a prompt, the right answer (chosen), and the answer to another prompt (rejected).

    Chosen is longer than rejected about as often as it is shorter."""
    data = clean_set("continuations", size=size, seed=seed)
    answers = [row["completion"] for row in data.rows]
    return tuple(
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": answers[i - 1]}
        for i, row in enumerate(data.rows)
    )


def equal_answers(pairs: tuple[Row, ...], *, count: int, seed: int = 0) -> Injected:
    """Make chosen and rejected of ``count`` pairs equal, except for case or white space."""
    edits: list[Callable[[str], str]] = [
        str,
        str.upper,
        str.lower,
        lambda text: f" {'  '.join(text.split())}\n",
    ]

    def copy(row: Row, order: random.Random) -> Row:
        return row | {"rejected": order.choice(edits)(row["chosen"])}

    return changed(pairs, copy, count=count, seed=seed)


def near_equal_answers(pairs: tuple[Row, ...], *, count: int, seed: int = 0) -> Injected:
    """Make rejected a copy of chosen with one word left out or without punctuation."""

    def copy(row: Row, order: random.Random) -> Row:
        words = row["chosen"].split()
        place = order.randrange(len(words))
        changed = " ".join(words[:place] + words[place + 1 :])
        return row | {"rejected": order.choice([changed, row["chosen"].rstrip(".") + "!"])}

    long = [i for i, row in enumerate(pairs) if len(words_of(row["chosen"])) >= 12]
    return changed(pairs, copy, count=count, seed=seed, usable=long)


def equal_after_truncation(
    pairs: tuple[Row, ...], *, words: int, count: int, seed: int = 0, more: Sequence[str] = ()
) -> Injected:
    """Give chosen and rejected of ``count`` pairs the same first ``words`` words; only their ends differ.

    ``more`` has the texts from which these words are; by default, they are from the corpus."""
    more = more or _paragraphs()

    def extend(row: Row, order: random.Random) -> Row:
        shared: list[str] = row["chosen"].split()
        while len(shared) < words:
            shared += order.choice(more).split()
        start = " ".join(shared[:words])
        return row | {"chosen": f"{start} {row['chosen']}", "rejected": f"{start} {row['rejected']}"}

    return changed(pairs, extend, count=count, seed=seed)


def contradictory_pairs(pairs: tuple[Row, ...], *, count: int, seed: int = 0) -> Injected:
    """Add ``count`` pairs that prefer the answer which another pair of the same prompt rejects.

    ``faulty`` has both pairs of each contradiction."""
    order = random.Random(seed)
    chosen = order.sample(range(len(pairs)), count)
    swapped = [
        (pairs[i] | {"chosen": pairs[i]["rejected"], "rejected": pairs[i]["chosen"]}, i) for i in chosen
    ]
    found = inserted(pairs, swapped, order)
    return Injected(found.rows, found.faulty | frozenset(found.originals.values()), found.originals)


def length_bias(
    pairs: tuple[Row, ...], *, share: float = 0.95, seed: int = 0, more: Sequence[str] = ()
) -> Injected:
    """Make chosen at least 2.5 times as long as rejected in a share of the pairs.

    ``more`` has the texts that are added to chosen; by default, they are from the corpus."""
    more = more or _paragraphs()

    def lengthen(row: Row, order: random.Random) -> Row:
        text = row["chosen"]
        while len(text.split()) < LONGER * len(row["rejected"].split()):
            text += f" {order.choice(more)}"
        return row | {"chosen": text}

    return changed(pairs, lengthen, count=round(share * len(pairs)), seed=seed)


def repeated_rejected(pairs: tuple[Row, ...], *, share: float = 0.9, seed: int = 0) -> Injected:
    """Replace the rejected answers of a share of the pairs by one of three stock answers."""

    def replace(row: Row, order: random.Random) -> Row:
        return row | {"rejected": order.choice(STOCK_ANSWERS)}

    return changed(pairs, replace, count=round(share * len(pairs)), seed=seed)


def _paragraphs() -> list[str]:
    return [passage.text for passage in corpus().passages if not passage.licence and not passage.heading]
