"""The training inputs and production inputs that the check ``distribution_shift`` compares."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from tunegate_api.messages import Message
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.parse import has_system
from tunegate_trainer.data.production import MOST_INPUTS, prompt_length
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.tokens.chat import Tools
from tunegate_trainer.tokens.rows import Row

_READ = 1_000
"""Number of characters that are read at the start and at the end of an input."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:'[^\W_]+)?|[^\w\s]|_")
"""Matches a word, a punctuation mark, or a character of Chinese or Japanese, which put no spaces between
words."""


@dataclass(frozen=True)
class Inputs:
    """A sample of training inputs or of production inputs."""

    places: list[RecordPlace]
    """The place of each input in its source."""
    texts: list[str]
    """The system prompt and the last user turn of each input. Long texts lack their middle."""
    lengths: list[int]
    """The number of tokens of each prompt, with all its turns."""
    systems: int
    """The number of inputs with a system prompt."""

    @property
    def system_share(self) -> float:
        """The share of inputs with a system prompt."""
        return self.systems / max(1, len(self.texts))


def production_inputs(rows: UsableRows) -> Inputs:
    """Return the production inputs. There are none without a source of use Production."""
    found = rows.production.inputs if rows.production else []
    return Inputs(
        places=[one.place for one in found],
        texts=[_text(one.prompt) for one in found],
        lengths=[one.tokens for one in found],
        systems=sum(has_system(one.prompt) for one in found),
    )


def training_inputs(rows: UsableRows, tokenizer: PreTrainedTokenizerBase, *, learns_rows: bool) -> Inputs:
    """Return a random sample of at most ``MOST_INPUTS`` distinct inputs of the pairs and, with
    ``learns_rows``, of the rows."""
    found = list(islice(_distinct(rows, learns_rows=learns_rows), MOST_INPUTS))
    return Inputs(
        places=[place for place, _, _ in found],
        texts=[_text(prompt) for _, prompt, _ in found],
        lengths=[prompt_length(tokenizer, prompt, tools) for _, prompt, tools in found],
        systems=sum(has_system(prompt) for _, prompt, _ in found),
    )


def words_of(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, in lower case."""
    return _WORD.findall(text.lower())


def _distinct(rows: UsableRows, *, learns_rows: bool) -> Iterator[tuple[RecordPlace, list[Message], Tools]]:
    """Yield the place, the prompt and the tools of rows and pairs in a random order, which is
    always the same, each prompt once."""
    of_rows = len(rows.rows) if learns_rows else 0
    seen: set[str] = set()
    total = of_rows + len(rows.pairs)
    for i in random.Random(0).sample(range(total), total):
        labelled = rows.rows[i].labelled if i < of_rows else rows.pairs[i - of_rows].labelled
        if labelled.prompt not in seen:
            seen.add(labelled.prompt)
            row = labelled.row
            yield labelled.place, row.prompt, row.tools if isinstance(row, Row) else None


def _text(prompt: Sequence[Message]) -> str:
    users = [message.content for message in prompt if message.role == "user"]
    parts = [message.content for message in prompt if message.role == "system"] + users[-1:]
    text = "\n".join(parts)
    return text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"
