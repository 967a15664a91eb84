"""Duplicates, rows that only look like duplicates, contradictory labels, and unbalanced labels."""

import random
import re
from collections.abc import Callable, Sequence

from support.data_faults.clean import DataSet
from support.data_faults.corpus import corpus, sentences
from support.data_faults.injected import Injected, Row, inserted
from support.data_faults.similarity import PASSAGE_WORDS, jaccard, similar_pairs, word_shingles


def _case(text: str, order: random.Random) -> str:
    return order.choice([str.upper, str.lower, str.title])(text)


def _punctuation(text: str, order: random.Random) -> str:
    return order.choice([re.sub(r"[.,;:]+(?=\s|$)", "", text), re.sub(r"[.]+(?=\s|$)", " !", text)])


def _spaces(text: str, order: random.Random) -> str:
    return "".join(
        order.choice([part, f" {part}", "\n"]) if part.isspace() else part for part in _parts(text)
    )


def _sentences(text: str, _order: random.Random) -> str:
    split = sentences(text)
    return " ".join([*split[1:], split[0]]) if len(split) > 1 else text


def _parts(text: str) -> list[str]:
    """Split a text into words and the white space between them."""
    return re.split(r"(\s+)", text)


FORMAT_EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "case": _case,
    "punctuation": _punctuation,
    "spaces": _spaces,
    "sentences": _sentences,
}
"""Edits of a text that keep its words. ``sentences`` moves the first sentence to the end."""

MOST_COMPARED = 6000
"""Number of passages among which similar ones are searched."""


def exact_duplicates(data: DataSet, *, count: int, seed: int = 0) -> Injected:
    """Repeat ``count`` rows."""
    order = random.Random(seed)
    chosen = order.sample(range(len(data.rows)), count)
    return inserted(data.rows, [(dict(data.rows[i]), i) for i in chosen], order)


def near_duplicates(
    data: DataSet, *, edit: str, count: int, similarity: float = 1, seed: int = 0
) -> Injected:
    """Add edited copies of ``count`` rows.

    The edit is the name of one of FORMAT_EDITS, or ``words``: as many words are replaced as leave a Jaccard
    similarity of at least ``similarity`` in three-word shingles of :meth:`DataSet.text`. Only rows that are
    long enough are used. Raises ValueError if there are fewer than ``count``."""
    order = random.Random(f"{edit} {similarity} {seed}")
    vocabulary = sorted({word for row in data.spare for word in data.content(row).split() if word.isalpha()})
    if not vocabulary and edit == "words":
        raise ValueError("the spare rows have no words with which words can be replaced")
    added: list[tuple[Row, int]] = []
    for i in order.sample(range(len(data.rows)), len(data.rows)):
        row = data.rows[i]
        copy = (
            _reworded(data, row, similarity, vocabulary, order)
            if edit == "words"
            else _reformatted(data, row, FORMAT_EDITS[edit], order)
        )
        if copy != row and len(added) < count:
            added.append((copy, i))
    if len(added) < count:
        raise ValueError(f"only {len(added)} rows are long enough for {count} edits ({edit}, {similarity})")
    return inserted(data.rows, added, order)


def similar_but_different(data: DataSet, *, count: int, low: float = 0.25, high: float = 0.5) -> Injected:
    """Add ``count`` rows about similar passages of the documentation, which are no duplicates of each other.

    Their Jaccard similarity in three-word shingles is between ``low`` and ``high``, as in the documentation
    of two related functions, and they have no run of 13 words in common. ``faulty`` is empty; ``originals``
    links the similar rows. ``count`` may be half the number of spare rows."""
    texts = [
        p.text for p in corpus().passages if not p.licence and not p.heading and len(p.text.split()) > 15
    ]
    answers = iter(data.spare)
    added: list[tuple[Row, int]] = []
    rows, used = list(data.rows), set[int]()
    for (first, second), value in similar_pairs(texts[:MOST_COMPARED], low).items():
        one, other = texts[first], texts[second]
        same_passage = word_shingles(one, PASSAGE_WORDS) & word_shingles(other, PASSAGE_WORDS)
        if value < high and not same_passage and not {first, second} & used and len(added) < count:
            used |= {first, second}
            rows.append({"prompt": data.prompt(one), "completion": next(answers)["completion"]})
            row = {"prompt": data.prompt(other), "completion": next(answers)["completion"]}
            added.append((row, len(rows) - 1))
    if len(added) < count:
        raise ValueError(f"only {len(added)} pairs of passages have a similarity from {low} to {high}")
    found = inserted(rows, added, random.Random(count))
    return Injected(found.rows, frozenset(), found.originals)


def contradictory_labels(data: DataSet, *, count: int, edit: str | None = None, seed: int = 0) -> Injected:
    """Add ``count`` rows with the prompt of another row and a different label.

    ``edit`` is one of FORMAT_EDITS, and changes the prompt of the added row. ``faulty`` has both rows of each
    contradiction, because the data do not show which of them is wrong."""
    order = random.Random(f"{edit} {seed}")
    labels = sorted({row["completion"] for row in data.rows})
    added: list[tuple[Row, int]] = []
    for i in order.sample(range(len(data.rows)), count):
        row = data.rows[i]
        content = data.content(row) if edit is None else FORMAT_EDITS[edit](data.content(row), order)
        other = order.choice([label for label in labels if label != row["completion"]])
        added.append(({"prompt": data.prompt(content), "completion": other}, i))
    found = inserted(data.rows, added, order)
    return Injected(found.rows, found.faulty | frozenset(found.originals.values()), found.originals)


def unbalanced_labels(data: DataSet, *, share: float = 0.99, seed: int = 0) -> Injected:
    """Keep rows so that one label has at least ``share`` of them. ``faulty`` has the rows of that label.

    The set must have enough rows of each label, so it gets smaller."""
    order = random.Random(seed)
    label = order.choice(sorted({row["completion"] for row in data.rows}))
    of_label = [i for i, row in enumerate(data.rows) if row["completion"] == label]
    others = [i for i, row in enumerate(data.rows) if row["completion"] != label]
    kept = sorted(of_label + order.sample(others, int(len(of_label) * (1 - share) / share)))
    rows = tuple(data.rows[i] for i in kept)
    return Injected(rows, frozenset(n for n, row in enumerate(rows, start=1) if row["completion"] == label))


def _reformatted(
    data: DataSet, row: Row, edit: Callable[[str, random.Random], str], order: random.Random
) -> Row:
    """Return a row whose content is edited, and its answer too if that is a text."""
    completion = edit(row["completion"], order) if is_text(row["completion"]) else row["completion"]
    return {"prompt": data.prompt(edit(data.content(row), order)), "completion": completion}


def _reworded(
    data: DataSet, row: Row, similarity: float, vocabulary: Sequence[str], order: random.Random
) -> Row:
    """Return a row with as many words replaced as ``similarity`` allows."""
    content, completion = _parts(data.content(row)), _parts(row["completion"])
    places = [(content, i) for i, word in enumerate(content) if word.isalpha()]
    if is_text(row["completion"]):
        places += [(completion, i) for i, word in enumerate(completion) if word.isalpha()]
    order.shuffle(places)
    changed = row
    for parts, i in places:
        before, parts[i] = parts[i], order.choice(vocabulary)
        attempt = {"prompt": data.prompt("".join(content)), "completion": "".join(completion)}
        if jaccard(data.text(row), data.text(attempt)) >= similarity:
            changed = attempt
        else:
            parts[i] = before
            return changed
    return changed


def is_text(answer: str) -> bool:
    """Whether an answer is prose, not a label or JSON."""
    return len(answer.split()) > 3 and not answer.startswith("{")
