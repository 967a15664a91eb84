"""Invalid reports of any length are refused as fast as valid reports are read."""

import pytest
from pydantic import ValidationError

from tunegate_api.contract.results import Results
from tunegate_api.meta import MAX_ENTRIES

EVALUATION = {"subject": "Checkpoint", "stage": "sft", "step": 1}


@pytest.mark.parametrize(
    "results",
    [
        {"evaluations": [{}] * 100_000},
        {"sets": {str(n): {} for n in range(100_000)}},
        {"sets": {"golden/g": {"sha256": "0", "ids": [1] * 100_000}}},
        {"sets": {"golden/g": {"sha256": "0", "ids": ["a"], "tags": [[1] * 100_000]}}},
        {"evaluations": [EVALUATION | {"outcomes": {str(n): 1 for n in range(100_000)}}]},
        {"evaluations": [EVALUATION | {"outcomes": {}, "counts": {str(n): 1 for n in range(100_000)}}]},
    ],
    ids=["evaluations", "sets", "ids", "tags", "outcomes", "counts"],
)
def test_long_list_of_invalid_items_reports_few_errors(results):
    with pytest.raises(ValidationError) as caught:
        Results.model_validate(results)
    assert caught.value.error_count() <= 4


def test_mapping_with_too_many_entries_is_refused():
    outcomes = {f"golden/{n}": "p" for n in range(MAX_ENTRIES)}
    Results.model_validate({"evaluations": [EVALUATION | {"outcomes": outcomes}]})
    with pytest.raises(ValidationError, match="outcomes\n  must have at most 512 entries, not 513"):
        Results.model_validate({"evaluations": [EVALUATION | {"outcomes": outcomes | {"one more": "p"}}]})
