"""Tokenize all rows of a source once, in several processes if there are many rows."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerBase

from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.example_file import SCHEMA, to_batch
from tunegate_trainer.tokens.examples import Example, answer_tokens, completion_tokens, examples_of
from tunegate_trainer.tokens.rows import Pair, Row

CHUNK = 500
"""Number of rows that a process tokenizes at a time."""
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
            yield _tokenize(tokenizer, part, longest)
        return
    # Not forked, because a fork of a process with threads, such as the sender of reports, may deadlock.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(tokenizer, longest)) as pool:
        waiting: deque[Future[Any]] = deque()
        for part in _chunks(rows):
            waiting.append(pool.submit(_tokenize_in_process, part))
            if len(waiting) > 2 * processes:
                yield _received(waiting.popleft())
        while waiting:
            yield _received(waiting.popleft())


def processes_for(rows: int) -> int:
    """Return how many processes should tokenize this number of rows: one for each CPU, or only one if there
    are fewer than ``PARALLEL_FROM`` rows. In a pod, the number of CPUs is the limit of the container."""
    if rows < PARALLEL_FROM:
        return 1
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def _chunks(rows: Iterable[Row | Pair]) -> Iterator[list[Row | Pair]]:
    iterator = iter(rows)
    while part := list(islice(iterator, CHUNK)):
        yield part


def _tokenize(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row | Pair], longest: int) -> Chunk:
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


_process: dict[str, Any] = {}
"""In a process of the pool: its tokenizer and the maximum length."""


def _start(tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process for each CPU is enough
    _process.update(tokenizer=tokenizer, longest=longest)


def _tokenize_in_process(rows: list[Row | Pair]) -> tuple[list[Lengths | Refused], bytes]:
    chunk = _tokenize(_process["tokenizer"], rows, _process["longest"])
    return chunk.results, chunk.examples.serialize().to_pybytes()


def _received(future: "Future[tuple[list[Lengths | Refused], bytes]]") -> Chunk:
    results, examples = future.result()
    return Chunk(results, pa.ipc.read_record_batch(pa.py_buffer(examples), SCHEMA))
