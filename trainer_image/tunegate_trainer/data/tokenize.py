"""Tokenize all rows of a source once, in several processes if there are many rows."""

import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from loky import ProcessPoolExecutor  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerBase

from tunegate_trainer.data import tokenize_process
from tunegate_trainer.process.batching import batched
from tunegate_trainer.process.cpus import cpu_count
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.example_file import SCHEMA, to_batch
from tunegate_trainer.tokens.examples import Example, answer_tokens, completion_tokens, examples_of
from tunegate_trainer.tokens.rows import Pair, Row

CHUNK = 500
"""Maximum number of rows that a process tokenizes at a time. There are fewer if the rows are long."""
PARALLEL_FROM = 20_000
"""Number of rows from which several processes tokenize. For fewer rows, starting processes takes longer than
tokenizing, because each process imports transformers."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of a tokenized row or pair."""

    tokens: int
    """Number of tokens in prompt and completion. For a pair, the sum of its two examples."""
    longest: int
    """Number of tokens in the longest example."""
    learned: int
    """How many of the ``tokens`` carry loss."""
    answer: int
    """Number of tokens in the last answer, including the end of its turn. For a pair, in the longer
    answer."""
    examples: int
    """The number of its examples: one of a row, two of a pair."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that the chat template refuses."""

    reason: str
    hint: str
    """What the user can do about the row."""


@dataclass(frozen=True)
class Chunk:
    """The result for up to ``CHUNK`` rows."""

    results: list[Lengths | Refused]
    """The result of each row."""
    examples: pa.RecordBatch
    """The examples of all rows that are not refused and not too long: one of a row, two of a pair."""


def tokenize(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[Row | Pair], longest: int, processes: int = 1
) -> Iterator[Chunk]:
    """Tokenize rows or pairs. Examples of more than ``longest`` tokens are measured, but not returned."""
    if processes == 1:
        for part in _chunks(rows):
            yield tokenize_chunk(tokenizer, part, longest)
        return
    # New processes, because a fork of a process with threads, such as the sender of reports, may deadlock.
    arguments = (pickle.dumps(tokenizer), longest)
    with ProcessPoolExecutor(
        processes, initializer=tokenize_process.start, initargs=arguments, env=tokenize_process.ENVIRONMENT
    ) as pool:
        waiting: deque[Future[Any]] = deque()
        for part in _chunks(rows):
            waiting.append(pool.submit(tokenize_process.tokenize, part))
            if len(waiting) > 2 * processes:
                yield _received(waiting.popleft())
        while waiting:
            yield _received(waiting.popleft())


def processes_for(rows: int) -> int:
    """Return how many processes should tokenize this number of rows: one for each CPU, or only one if there
    are fewer than ``PARALLEL_FROM`` rows. In a pod, the number of CPUs is the limit of the container."""
    if rows < PARALLEL_FROM:
        return 1
    return cpu_count()


def _chunks(rows: Iterable[Row | Pair]) -> Iterator[list[Row | Pair]]:
    return batched(rows, CHUNK, lambda row: len(row.model_dump_json()))


def tokenize_chunk(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row | Pair], longest: int) -> Chunk:
    """Tokenize rows or pairs in this process."""
    results: list[Lengths | Refused] = []
    kept: list[Example] = []
    for row in rows:
        try:
            examples = examples_of(tokenizer, row)
        except UserError as error:
            results.append(Refused(str(error), error.hint or "correct or remove these rows"))
            continue
        found = _measure(examples)
        results.append(found)
        if found.longest <= longest:
            kept += examples
    return Chunk(results, to_batch(kept))


def _measure(examples: Sequence[Example]) -> Lengths:
    lengths = [len(one["input_ids"]) for one in examples]
    return Lengths(
        tokens=sum(lengths),
        longest=max(lengths),
        learned=sum(map(completion_tokens, examples)),
        answer=max(map(answer_tokens, examples)),
        examples=len(examples),
    )


def _received(future: "Future[tuple[list[Lengths | Refused], bytes]]") -> Chunk:
    results, examples = future.result()
    return Chunk(results, pa.ipc.read_record_batch(pa.py_buffer(examples), SCHEMA))
