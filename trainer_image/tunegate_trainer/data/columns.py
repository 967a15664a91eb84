"""Guess which fields of a row hold the prompt and the completion, by their usual names."""

from collections.abc import Mapping
from typing import Any

from tunegate_api.v1alpha2.data import Columns

_PROMPTS = (
    *("prompt", "question", "instruction", "input", "query", "text", "utterance", "sentence", "message"),
    *("user", "request", "source", "document", "article", "review", "comment", "content", "body"),
)
"""Usual names of the field with the prompt, from the least to the most ambiguous one."""
_COMPLETIONS = (
    *("completion", "answer", "output", "response", "label", "target", "category", "class", "intent"),
    *("sentiment", "topic", "summary", "reply", "assistant", "translation", "sql", "json", "result"),
)
"""Usual names of the field with the completion, from the least to the most ambiguous one."""
_OTHERS = {"", "id", "index", "key", "number", "uuid", "date", "time", "timestamp", "created", "split"}
"""Usual names of fields that hold neither."""


def guess_columns(fields: Mapping[str, Any]) -> Columns | None:
    """Return the fields that hold the prompt and the completion. Return None if there is no good guess.

    Upper and lower case are not distinguished. If only one of the two has a usual name, and the row has only
    one other field, this field is the other one.
    """
    usual = {name.strip().casefold(): name for name in fields}
    prompt = next((usual[name] for name in _PROMPTS if name in usual), None)
    completion = next((usual[name] for name in _COMPLETIONS if name in usual), None)
    others = [
        name for name in fields if name not in (prompt, completion) and name.strip().casefold() not in _OTHERS
    ]
    if len(others) == 1 and (prompt is None) != (completion is None):
        prompt, completion = prompt or others[0], completion or others[0]
    if prompt is None or completion is None:
        return None
    return Columns(prompt=prompt, completion=completion)
