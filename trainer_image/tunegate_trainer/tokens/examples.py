"""Rows and pairs as tokens."""

from collections.abc import Sequence
from itertools import takewhile
from typing import TypedDict

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.process.errors import BadDataError
from tunegate_trainer.tokens.answers import answered_tokens, example_tokens
from tunegate_trainer.tokens.rows import Pair, Row, said

IGNORED = -100
"""The label of a token that carries no loss."""
TOKENS_PER_PASS = 1024
"""Tokens that a forward pass aims at, whether it trains or not: what fits the one fits the other."""


class Example(TypedDict):
    """Tokens of a prompt and its completion."""

    input_ids: list[int]
    labels: list[int]
    """The same, but ``IGNORED`` where a token carries no loss: in the prompt."""


def example(prompt: list[int], completion: list[int]) -> Example:
    """The example of a tokenized prompt and completion."""
    return {"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion}


def completion_tokens(one: Example) -> int:
    """How many tokens of an example carry loss."""
    return sum(label != IGNORED for label in one["labels"])


def answer_tokens(one: Example) -> int:
    """How many tokens of an example are its last answer, the end of the turn included."""
    return sum(1 for _ in takewhile(lambda label: label != IGNORED, reversed(one["labels"])))


def tokenize_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int) -> list[Example]:
    """The example of each row; answers and the ends of their turns carry loss, of a chat all of them.

    Raises :class:`BadDataError` naming the rows longer than ``max_length`` tokens: nothing is cut silently.
    """
    examples = [_of_row(tokenizer, row) for row in rows]
    _refuse_longer([(row.id, one) for row, one in zip(rows, examples, strict=True)], max_length)
    return examples


def examples_of(tokenizer: PreTrainedTokenizerBase, row: Row | Pair) -> list[Example]:
    """The example of a row, or those of the chosen and the rejected answer of a pair."""
    return [_of_row(tokenizer, row)] if isinstance(row, Row) else [*_of_pair(tokenizer, row)]


def _of_row(tokenizer: PreTrainedTokenizerBase, row: Row) -> Example:
    made = example(*example_tokens(tokenizer, row.prompt, row.answer, row.tools))
    for i in answered_tokens(tokenizer, row.prompt, row.unlearned, row.tools):
        made["labels"][i] = made["input_ids"][i]
    return made


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int
) -> list[tuple[Example, Example]]:
    """The examples of the chosen and the rejected answer of each pair.

    Raises :class:`BadDataError` naming the pairs with more than ``max_length`` tokens in one of them.
    """
    examples = [_of_pair(tokenizer, pair) for pair in pairs]
    _refuse_longer(
        [(pair.id, one) for pair, both in zip(pairs, examples, strict=True) for one in both], max_length
    )
    return examples


def _of_pair(tokenizer: PreTrainedTokenizerBase, pair: Pair) -> tuple[Example, Example]:
    return (
        example(*example_tokens(tokenizer, pair.prompt, said(pair.chosen))),
        example(*example_tokens(tokenizer, pair.prompt, said(pair.rejected))),
    )


def _refuse_longer(examples: Sequence[tuple[str, Example]], max_length: int) -> None:
    too_long = list(dict.fromkeys(id for id, one in examples if len(one["input_ids"]) > max_length))
    if too_long:
        raise BadDataError(
            f"{len(too_long)} rows are longer than maxLength {max_length}: {', '.join(too_long[:5])}",
            "raise training.maxLength, or shorten the rows",
        )
