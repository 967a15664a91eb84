"""The stored corpus: recorded judgements with their results, and short forms of random ones."""

import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from support.judgements.judged import judged
from support.judgements.random_jobs import COUNT, random_record

FOLDER = Path(__file__).parents[2] / "judgements"
RECORDED = FOLDER / "recorded.jsonl.xz"
RANDOM = FOLDER / "random.txt.xz"
INTENDED = FOLDER / "differences.json"

BLOCK = 100
"""Number of random judgements whose messages have one digest."""

_LETTERS = {
    "Passed": "P",
    "Inconclusive": "I",
    "Error": "E",
    "Failed": "F",
    "Continue": "c",
    "CheckEarly": "k",
    "Stop": "s",
}


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    return sha256(canonical(value).encode()).hexdigest()


def short_digest(value: Any) -> str:
    return digest(value)[:8]


def record_id(record: Mapping[str, Any]) -> str:
    """Return the name of a recorded judgement in the list of intended differences."""
    return f"{record['kind']}-{digest(record)[:10]}"


@dataclass(frozen=True)
class Recorded:
    """A judgement of the tests, and what it was when it was recorded."""

    record: Mapping[str, Any]
    result: Any
    words: Mapping[str, str]
    """The messages, by their place in the result."""

    @property
    def id(self) -> str:
        return record_id(self.record)


def read_recorded() -> Iterator[Recorded]:
    with lzma.open(RECORDED, "rt") as lines:
        for line in lines:
            yield Recorded(**json.loads(line))


def write_recorded(records: Sequence[Mapping[str, Any]]) -> None:
    """Judge the records, and store them with the results of today."""
    lines = []
    for record in sorted(records, key=lambda each: (each["kind"], canonical(each))):
        result, words = judged(record)
        lines.append(canonical({"record": record, "result": result, "words": words}) + "\n")
    _write(RECORDED, "".join(lines))


@dataclass(frozen=True)
class Block:
    """Random judgements in a short form."""

    first: int
    """The number of the first one."""
    judgements: Sequence[str]
    """The states of each one as letters, and the start of the digest of everything that was decided."""
    inputs: str
    """The start of the digest of all records."""
    words: str
    """The start of the digest of all messages."""


def random_block(first: int) -> Block:
    """Judge the random records of a block with the code of today."""
    records = [random_record(number) for number in range(first, first + BLOCK)]
    found = [judged(record) for record in records]
    short = [f"{letters(result)} {short_digest(result)}" for result, _ in found]
    return Block(first, short, short_digest(records), short_digest([words for _, words in found]))


def read_random() -> list[Block]:
    with lzma.open(RANDOM, "rt") as file:
        lines = file.read().splitlines()
    size = BLOCK + 1
    parts = [lines[start : start + size] for start in range(0, len(lines), size)]
    return [
        Block(number * BLOCK, judgements, *title.split()) for number, (title, *judgements) in enumerate(parts)
    ]


def write_random() -> None:
    blocks = [random_block(first) for first in range(0, COUNT, BLOCK)]
    lines = [line for block in blocks for line in (f"{block.inputs} {block.words}", *block.judgements)]
    _write(RANDOM, "".join(f"{line}\n" for line in lines))


def _write(path: Path, text: str) -> None:
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def letters(result: Any) -> str:
    """Return the states and the stop actions in a result as letters, in their order."""
    return "".join(_letters(result)) or "-"


def _letters(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        for key, each in found.items():
            if key == "state":
                yield _LETTERS[each]
            elif key not in ("findings", "mayDecide"):
                yield from _letters(each)
    elif isinstance(found, list):
        for each in found:
            yield from _letters(each)
    elif isinstance(found, str):
        yield _LETTERS.get(found, "")


def intended() -> Mapping[str, str]:
    """Return the start of the digest of the new result of each judgement that is meant to differ, by the
    id of a recorded judgement or the number of a random one."""
    return {name: new for each in _listed() for name, new in each["judgements"].items()}


def intend(reason: str, judgements: Mapping[str, str]) -> None:
    """Add differences to the list of intended ones. One that is in the list already gets the new reason."""
    listed = _listed()
    for each in listed:
        for name in judgements:
            each["judgements"].pop(name, None)
    listed = [each for each in listed if each["judgements"]]
    listed.append({"reason": reason, "judgements": dict(judgements)})
    INTENDED.write_text(json.dumps(listed, indent=1) + "\n")


def _listed() -> list[dict[str, Any]]:
    return json.loads(INTENDED.read_text())


def changed_recorded() -> Iterator[tuple[Recorded, Any]]:
    """Yield each recorded judgement whose result differs today, with the result of today."""
    for each in read_recorded():
        result, _ = judged(each.record)
        if result != each.result:
            yield each, result


def changed_random(block: Block, found: Block) -> dict[str, tuple[str, str]]:
    """Return the short forms of the judgements that differ between two blocks, by their numbers."""
    pairs = zip(block.judgements, found.judgements, strict=True)
    return {str(number): pair for number, pair in enumerate(pairs, block.first) if len({*pair}) > 1}


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield where two results differ, as ``place: before, now after``."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from differences(before.get(key), now.get(key), f"{place}/{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (was, is_now) in enumerate(zip(before, now, strict=True)):
            yield from differences(was, is_now, f"{place}/{number}")
    elif before != now:
        yield f"{place}: {canonical(before)}, now {canonical(now)}"
