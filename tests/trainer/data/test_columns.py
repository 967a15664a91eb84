"""Guessing which fields of a row hold the prompt and the completion."""

import pytest

from tunegate_api.v1alpha2.data import Columns
from tunegate_trainer.data.columns import guess_columns


@pytest.mark.parametrize(
    ("fields", "prompt", "completion"),
    [
        (["text", "label"], "text", "label"),
        (["id", "Question", "Answer"], "Question", "Answer"),
        (["input", "output"], "input", "output"),
        (["instruction", "response", "context"], "instruction", "response"),
        (["prompt", "label"], "prompt", "label"),
        (["ticket", "category", "id"], "ticket", "category"),
        (["document", "summary"], "document", "summary"),
        (["text", "mood", "uuid"], "text", "mood"),
    ],
)
def test_columns_are_guessed_by_usual_names(fields, prompt, completion):
    assert guess_columns(dict.fromkeys(fields, "x")) == Columns(prompt=prompt, completion=completion)


@pytest.mark.parametrize(
    "fields", [["a", "b"], ["text", "mood", "colour"], ["label"], ["id", "label"], []], ids=str
)
def test_no_columns_are_guessed_if_a_field_is_ambiguous(fields):
    assert guess_columns(dict.fromkeys(fields, "x")) is None
