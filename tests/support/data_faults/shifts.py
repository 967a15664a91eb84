"""Training data and production inputs of different, or of the same, distributions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from support.data_faults.clean import clean_set
from support.data_faults.corpus import PACKAGES, Passage, corpus
from support.data_faults.injected import Row
from support.data_faults.similarity import distinct

KINDS = ("packages", "length", "register", "none")


@dataclass(frozen=True)
class Shift:
    """Training rows, and a sample of production inputs."""

    rows: tuple[Row, ...]
    production: tuple[Row, ...]
    shifted: bool
    """Whether the two come from different distributions."""


def shift(kind: str, *, size: int = 300, share: float = 1, seed: int = 0) -> Shift:
    """Return rows whose inputs are distributed differently from production.

    Kinds: ``packages``: other packages, so other topics; ``length``: passages of up to 20 words in training,
    of 35 or more in production; ``register``: function signatures in training, prose in production; ``none``:
    a control, two random parts of one source. ``share`` of the production inputs are of the other
    distribution; the rest are distributed as the training rows are."""
    order = random.Random(f"{kind} {seed}")
    train, other = _sources(kind, size, order, seed)
    if len(train) < 2 * size or len(other) < size:
        raise ValueError(f"shift {kind}: {len(train)} and {len(other)} rows are not enough for size {size}")
    moved = round(share * size)
    production = [*other[:moved], *train[size : 2 * size - moved]]
    order.shuffle(production)
    return Shift(tuple(train[:size]), tuple(production), kind != "none" and moved > 0)


def _sources(kind: str, size: int, order: random.Random, seed: int) -> tuple[list[Row], list[Row]]:
    """Return rows of two sources; the first are at least twice as many."""
    passages = [p for p in corpus().passages if p.package in PACKAGES and not p.licence and not p.heading]
    order.shuffle(passages)
    if kind == "packages":
        names = order.sample(PACKAGES, len(PACKAGES))
        first = set(names[: len(names) // 2])
        one = [passage for passage in passages if passage.package in first]
        other = [passage for passage in passages if passage.package not in first]
        return _rows(one, 2 * size), _rows(other, size)
    if kind == "length":
        lengths = [len(passage.text.split()) for passage in passages]
        short = [passage for passage, length in zip(passages, lengths, strict=True) if length <= 20]
        long = [passage for passage, length in zip(passages, lengths, strict=True) if length >= 35]
        return _rows(short, 2 * size), _rows(long, size)
    if kind == "register":
        functions = clean_set("functions", size=size, seed=seed)
        return [*functions.rows, *functions.production], _rows(passages, size)
    if kind != "none":
        raise ValueError(f"unknown kind of shift: {kind}")
    rows = _rows(passages, 3 * size)
    return rows[: 2 * size], rows[2 * size :]


def _rows(passages: Sequence[Passage], size: int) -> list[Row]:
    """Return up to ``size`` distinct passages as prompts."""
    some = passages[: 2 * size]
    kept = distinct([passage.text for passage in some])
    return [{"prompt": some[i].text, "completion": some[i].package} for i in kept][:size]
