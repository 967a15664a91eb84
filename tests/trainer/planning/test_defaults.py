"""The defaults are those of the table in docs/parameters.md."""

import re
from pathlib import Path

import pytest

from tunegate_api.v1alpha2.stages import Stage
from tunegate_trainer.planning.defaults import BATCH_SIZE, epochs, learning_rate, lora_rank

PAGE = (Path(__file__).parents[3] / "docs" / "parameters.md").read_text(encoding="utf-8")
TABLE = {
    label.strip(): [cell.strip() for cell in cells]
    for label, *cells in (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("|"))
}
NEW_ADAPTER = {"type": "LoRA"}


def stage(method: str, adapter: dict[str, str] | None) -> Stage:
    return Stage.model_validate({"name": "one", "method": method, "adapter": adapter})


def numbers(cell: str) -> list[float]:
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", cell)]


@pytest.mark.parametrize(
    ("label", "sizes"),
    [
        ("`learningRate`, below 1 billion parameters", (1e8, 999_999_999)),
        ("1 to 4 billion", (1e9, 3_999_999_999)),
        ("4 to 20 billion", (4e9, 19_999_999_999)),
        ("20 billion and more", (2e10, 7e10)),
    ],
)
def test_learning_rates_fall_with_model_size(label, sizes):
    adapter, whole, _ = TABLE[label]
    for size in map(int, sizes):
        assert numbers(adapter) == [learning_rate(stage("SFT", NEW_ADAPTER), size)]
        assert numbers(whole) == [learning_rate(stage("SFT", None), size)]


def test_dpo_learning_rates_do_not_depend_on_model_size():
    *_, cell = TABLE["`learningRate`, below 1 billion parameters"]
    for size in (10**8, 10**11):
        chosen = [learning_rate(stage("DPO", adapter), size) for adapter in (NEW_ADAPTER, None)]
        assert numbers(cell) == chosen


@pytest.mark.parametrize(
    ("label", "rows"),
    [
        ("`epochs`, below 500 rows", (1, 499)),
        ("to 10,000", (500, 10_000)),
        ("to 50,000", (10_001, 50_000)),
    ],
)
def test_epochs_fall_with_number_of_rows(label, rows):
    for count in rows:
        chosen = [epochs(stage("SFT", NEW_ADAPTER), count), epochs(stage("SFT", None), count)]
        assert [*chosen, epochs(stage("DPO", NEW_ADAPTER), count)] == [int(cell) for cell in TABLE[label]]
    assert epochs(stage("SFT", None), 50_001) == epochs(stage("DPO", None), 50_001) == 1


def test_many_rows_get_a_larger_lora_rank():
    few, _, _ = TABLE["`adapter.r`, to 10,000 rows"]
    assert lora_rank(10_000) == int(few)
    assert f"larger sets get rank {lora_rank(10_001)}" in " ".join(PAGE.split())


def test_default_batch_size_matches_the_docs_table():
    (cells,) = (cells for label, cells in TABLE.items() if label.startswith("`batchSize`"))
    assert [numbers(cell) for cell in cells] == [[BATCH_SIZE]] * 3
