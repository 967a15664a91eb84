"""Check that a model has an embedding for every token of its training data.

A tokenizer may have more tokens than the model has embeddings, as that of Gemma 3 1B: this is an error only
if a row contains such a token.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_trainer.data.usable import SourceRows
from tunegate_trainer.process.errors import BadDataError
from tunegate_trainer.tokens.example_file import ExampleFile


def check_token_ids(sources: Iterable[SourceRows[Any]], embeddings: int) -> None:
    """Raise :class:`BadDataError` for a row with a token id that is not below ``embeddings``, the number of
    rows of the model's embedding matrix. The rows must have been tokenized."""
    for source in sources:
        found = ExampleFile(source.examples).first_from(embeddings)
        if found:
            index, token = found
            kept = source.tokenized.kept
            row = kept[bisect_right([row.position for row in kept], index) - 1]
            raise no_embedding(f"{source.field}, {row.labelled.place}", source.tokenizer, token, embeddings)


def no_embedding(place: str, tokenizer: PreTrainedTokenizerBase, token: int, embeddings: int) -> BadDataError:
    """Return the error for a token id at ``place`` for which a model has no embedding."""
    name = tokenizer.convert_ids_to_tokens(token)
    return BadDataError(
        f"{place}: the tokenizer gives {name} the id {token}, but the model has only {embeddings} embeddings",
        "use the tokenizer that belongs to the model, or resize the model's embeddings to "
        f"{token + 1} or more",
    )
