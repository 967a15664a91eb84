"""Convert samples of inspect_ai to golden cases, with the semantics of the scorers of inspect_ai 0.3.285."""

import csv
import io
import json
import math
import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunegate_client.imports.imported import Ids, Imported, NotCarriedError, tags_of
from tunegate_client.imports.javascript import read_text

Fields = Mapping[str, Any]
Expectation = dict[str, Any]

_AT_ENDS = string.whitespace + string.punctuation
"""What the scorer match ignores at both ends."""
_IGNORED = "".join(sorted(set(string.punctuation) - {"-"}))
"""What the scorer exact removes from words."""
_ARTICLES = ("a", "an", "the")
_ROLES = {"system", "user", "assistant"}
_FIELDS = ("choices", "files", "sandbox", "setup")
"""Fields of samples that change what the model is asked."""


def import_inspect(path: Path, scorer: str) -> Imported:
    """Convert the samples at ``path``, JSON, JSON Lines or CSV. ``scorer`` is the name of a scorer, which is
    used with its default arguments. Samples are carried over as a whole or not at all.

    Raises :class:`NotCarriedError`, OSError, and UnicodeDecodeError if the file cannot be read.
    """
    found, ids = Imported(), Ids()
    for number, sample in enumerate(_samples(path), 1):
        case_id = ids.new(str(sample.get("id") or ""), f"sample-{number}")
        try:
            found.add({"id": case_id, **_case(sample, scorer)}, [], incomplete=False)
        except NotCarriedError as error:
            found.add({"id": case_id}, [error], incomplete=False)
    return found


def _samples(path: Path) -> list[Fields]:
    text = read_text(path).removeprefix("\ufeff")
    try:
        if path.suffix.lower() == ".csv":
            return _csv_samples(text)
        if path.suffix.lower() == ".jsonl":
            samples = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            loaded = json.loads(text)
            samples = loaded if isinstance(loaded, list) else [loaded]
    except (ValueError, RecursionError) as error:
        raise NotCarriedError("file", f"is not valid: {error}") from error
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise NotCarriedError("file", "must have samples, which are objects with input and target")
    return samples


def _csv_samples(text: str) -> list[Fields]:
    rows = list(csv.DictReader(io.StringIO(text, newline=""), dialect="unix"))
    if any(None in row or None in row.values() for row in rows):
        raise NotCarriedError("file", "has rows with too few or too many columns")
    rows = [row for row in rows if any(value.strip() for value in row.values())]
    return [{**row, "metadata": _json_object(row.get("metadata"))} for row in rows]


def _json_object(text: str | None) -> Any:
    return json.loads(text) if text else None


def _case(sample: Fields, scorer: str) -> dict[str, Any]:
    for name in _FIELDS:
        if sample.get(name):
            raise NotCarriedError(name, "changes what the model is asked, or where it runs")
    expectation = _expectation(_targets(sample.get("target")), scorer)
    return {"tags": tags_of(sample.get("metadata")), **_turns(sample.get("input")), "expect": [expectation]}


def _turns(given: Any) -> dict[str, Any]:
    if isinstance(given, str) and given:
        return {"prompt": given}
    if not isinstance(given, list) or not given:
        raise NotCarriedError("input", "must be a text or a list of messages")
    for message in given:
        is_text = isinstance(message, Mapping) and isinstance(message.get("content"), str)
        if not is_text or message.get("role") not in _ROLES or message.get("tool_calls"):
            raise NotCarriedError("input", "must have messages with a role and a text, without tool calls")
    return {"messages": [{"role": each["role"], "content": each["content"]} for each in given]}


def _targets(given: Any) -> list[str]:
    if given is None or (isinstance(given, float) and math.isnan(given)):
        return [""]
    return [str(each) for each in given] if isinstance(given, list) else [str(given)]


def _expectation(targets: list[str], scorer: str) -> Expectation:
    found = [each for each in (_SCORERS[scorer](target) for target in targets) if each]
    if not found:
        raise NotCarriedError("target", f"no target has anything that {scorer} compares")
    return found[0] if len(found) == 1 else {"type": "any", "of": found}


def _includes(target: str) -> Expectation:
    if not target.strip():
        raise NotCarriedError("target", "has only white space, so almost every output passes")
    return {"type": "contains", "value": target, "normalize": ["Case"]}


def _match(target: str) -> Expectation:
    """The output must end with the target, apart from case, and white space and punctuation at both ends."""
    text = target.strip().casefold().strip(_AT_ENDS)
    if not text:
        raise NotCarriedError("target", "has only punctuation, so every output passes")
    return _pattern(f"{re.escape(text)}[{re.escape(_AT_ENDS)}]*\\Z")


def _exact(target: str) -> Expectation | None:
    """The words of the output must be those of the target, apart from case, punctuation, and articles.

    Punctuation in words is removed, and hyphens separate words.
    """
    words = re.split(r"[\s-]+", "".join(each for each in target.casefold() if each not in _IGNORED))
    words = [word for word in words if word and word not in _ARTICLES]
    if any(not character.isalpha() for word in words for character in word):
        reason = "has a number or a special character; exact compares numbers as floats"
        raise NotCarriedError("target", reason)
    if not words:
        return None
    between, ignored = r"[\s-]", f"[{re.escape(_IGNORED)}]*"
    some = f"{ignored}(?:{between}{ignored})+"
    article = f"(?:(?:{'|'.join(_spread(word, ignored) for word in _ARTICLES)}){some})*"
    start = f"{ignored}(?:{between}{ignored})*"
    body = f"{some}{article}".join(_spread(word, ignored) for word in words)
    end = f"(?:{some}(?:{'|'.join(_spread(word, ignored) for word in _ARTICLES)}))*{start}"
    return _pattern(f"\\A{start}{article}{body}{end}\\Z")


def _spread(word: str, ignored: str) -> str:
    return ignored.join(map(re.escape, word))


def _pattern(value: str) -> Expectation:
    return {"type": "regex", "value": value, "normalize": ["Case"]}


_SCORERS: Mapping[str, Callable[[str], Expectation | None]] = {
    "exact": _exact,
    "includes": _includes,
    "match": _match,
}
SCORERS = tuple(_SCORERS)
"""The scorers that can be carried over."""
