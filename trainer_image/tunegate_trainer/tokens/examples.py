"""Tokenize rows and pairs as training examples."""

from collections.abc import Sequence
from itertools import takewhile
from typing import TypedDict

from transformers import PreTrainedTokenizerBase

from tunegate_api.meta import summarize
from tunegate_trainer.process.errors import BadDataError
from tunegate_trainer.tokens.answers import answered_tokens, example_tokens
from tunegate_trainer.tokens.rows import Pair, Row, text_answer

IGNORED = -100
"""The label of a token that carries no loss."""
TOKENS_PER_PASS = {"CPU": 1024, "GPU": 8192}
"""The target number of tokens in a forward pass, for training and evaluation. On a CPU, larger passes are not
faster. On a GPU, the memory may allow fewer."""

_SHOWN = 5
"""Maximum number of row ids in an error."""


class Example(TypedDict):
    """The tokens of a prompt and its completion."""

    input_ids: list[int]
    labels: list[int]
    """The token id at positions that carry loss, and ``IGNORED`` at other positions, such as the prompt."""


ExamplePair = tuple[Example, Example]
"""The examples of the chosen and of the rejected answer of a pair."""


def example(prompt: list[int], completion: list[int]) -> Example:
    """Return the example of a tokenized prompt and completion. Only the completion carries loss."""
    return {"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion}


def completion_tokens(one: Example) -> int:
    """Return how many tokens of an example carry loss."""
    return sum(label != IGNORED for label in one["labels"])


def answer_tokens(one: Example) -> int:
    """Return how many tokens the last answer of an example has, including the end of its turn."""
    return sum(1 for _ in takewhile(lambda label: label != IGNORED, reversed(one["labels"])))


def tokenize_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int) -> list[Example]:
    """Return the example of each row. Every answer in a chat that can be trained on carries loss.

    Raises :class:`BadDataError` with the ids of rows longer than ``max_length`` tokens. No row is truncated.
    """
    examples = [_of_row(tokenizer, row) for row in rows]
    _refuse_longer([(row.id, one) for row, one in zip(rows, examples, strict=True)], max_length)
    return examples


def examples_of(tokenizer: PreTrainedTokenizerBase, row: Row | Pair) -> list[Example]:
    """Return the example of a row, or the two examples of a pair: of the chosen and the rejected answer."""
    return [_of_row(tokenizer, row)] if isinstance(row, Row) else [*_of_pair(tokenizer, row)]


def _of_row(tokenizer: PreTrainedTokenizerBase, row: Row) -> Example:
    one = example(*example_tokens(tokenizer, row.prompt, row.answer, row.tools))
    for i in answered_tokens(tokenizer, row.prompt, row.unlearned, row.tools):
        one["labels"][i] = one["input_ids"][i]
    return one


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int
) -> list[ExamplePair]:
    """Return the examples of the chosen and the rejected answer of each pair.

    Raises :class:`BadDataError` with the ids of pairs that have an example longer than ``max_length`` tokens.
    """
    examples = [_of_pair(tokenizer, pair) for pair in pairs]
    _refuse_longer(
        [(pair.id, one) for pair, both in zip(pairs, examples, strict=True) for one in both], max_length
    )
    return examples


def _of_pair(tokenizer: PreTrainedTokenizerBase, pair: Pair) -> ExamplePair:
    return (
        example(*example_tokens(tokenizer, pair.prompt, text_answer(pair.chosen))),
        example(*example_tokens(tokenizer, pair.prompt, text_answer(pair.rejected))),
    )


def _refuse_longer(examples: Sequence[tuple[str, Example]], max_length: int) -> None:
    too_long = list(dict.fromkeys(id for id, one in examples if len(one["input_ids"]) > max_length))
    if too_long:
        rows = "1 row or pair is" if len(too_long) == 1 else f"{len(too_long)} rows or pairs are"
        raise BadDataError(
            f"{rows} longer than {max_length} tokens (training.maxLength): {summarize(too_long, _SHOWN)}",
            "raise training.maxLength, or shorten them",
        )
