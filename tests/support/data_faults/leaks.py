"""Rows of golden or held-out sets that are also in the training data."""

import random
from typing import Any

from support.data_faults.clean import DataSet
from support.data_faults.copies import FORMAT_EDITS
from support.data_faults.injected import Injected, Row, inserted
from support.data_faults.similarity import PASSAGE_WORDS, words_of

KINDS = ("row", "prompt", "edited", "passage", "answer")


def leaks(data: DataSet, *, kind: str, count: int, seed: int = 0) -> Injected:
    """Add ``count`` rows of the spare rows to the training rows. All spare rows are the held-out rows.

    Kinds: ``row`` repeats the row; ``prompt`` repeats the prompt with another answer; ``edited`` changes its
    case, punctuation or white space; ``passage`` puts a run of 13 to 25 words of its content into the content
    of another row; ``answer`` puts the whole content into another row's answer. ``faulty`` has the training
    rows and ``leaked`` the held-out ones."""
    order = random.Random(f"{kind} {seed}")
    usable = [i for i, row in enumerate(data.spare) if len(words_of(data.content(row))) >= PASSAGE_WORDS]
    if kind not in ("passage", "answer"):
        usable = list(range(len(data.spare)))
    if len(usable) < count:
        raise ValueError(f"only {len(usable)} spare rows have {PASSAGE_WORDS} words in their content")
    chosen = order.sample(usable, count)
    hosts = order.sample(range(len(data.rows)), count)
    rows = list(data.rows)
    leaked = frozenset(i + 1 for i in chosen)
    if kind in ("passage", "answer"):
        for i, host in zip(chosen, hosts, strict=True):
            rows[host] = _with_passage(data, rows[host], data.content(data.spare[i]), kind, order)
        return Injected(tuple(rows), frozenset(host + 1 for host in hosts), {}, data.spare, leaked)
    added = [
        (_copy(data, data.spare[i], data.rows[host], kind, order), host)
        for i, host in zip(chosen, hosts, strict=True)
    ]
    found = inserted(rows, added, order)
    return Injected(found.rows, found.faulty, {}, data.spare, leaked)


def golden_cases(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Return rows as the cases of a golden set, in their order."""
    return [
        {
            "id": f"case-{number}",
            "prompt": row["prompt"],
            "expect": [{"type": "contains", "value": row["completion"]}],
        }
        for number, row in enumerate(rows, start=1)
    ]


def _copy(data: DataSet, row: Row, other: Row, kind: str, order: random.Random) -> Row:
    if kind == "row":
        return dict(row)
    if kind == "prompt":
        return {"prompt": row["prompt"], "completion": other["completion"]}
    if kind != "edited":
        raise ValueError(f"unknown kind of leak: {kind}")
    edit = FORMAT_EDITS[order.choice(["case", "punctuation", "spaces"])]
    return {"prompt": data.prompt(edit(data.content(row), order)), "completion": row["completion"]}


def _with_passage(data: DataSet, host: Row, content: str, kind: str, order: random.Random) -> Row:
    """Return the row ``host`` with a passage of ``content`` in its prompt, or all of it in its answer."""
    if kind == "answer":
        return host | {"completion": f"{host['completion']} {content}"}
    words = content.split()
    # Punctuation alone is no word, so the run is extended until it has enough words.
    length = order.randint(PASSAGE_WORDS, 25)
    start = order.randint(0, max(0, len(words) - length))
    while start > 0 and len(words_of(" ".join(words[start : start + length]))) < PASSAGE_WORDS:
        start -= 1
    passage = " ".join(words[start : start + length])
    return host | {"prompt": data.prompt(f"{data.content(host)} {passage}")}
