"""Finding the data files in the folder of a data set."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tunegate_trainer.data.records import read_records
from tunegate_trainer.process.errors import BadDataError


def write(folder: Path, *names: str) -> None:
    """Write JSON Lines files, each with one row that has the file's name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"name": name}) + "\n")


def read(folder: Path) -> list[dict[str, Any] | None]:
    return [record.fields for record in read_records(folder, "data.sources[train]")]


def names(folder: Path) -> list[str]:
    return [str((fields or {})["name"]) for fields in read(folder)]


def test_saved_data_set_is_read_in_file_order(tmp_path):
    rows = [{"prompt": f"{i}", "turns": [{"role": "user"}]} for i in range(30)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved", num_shards=3)
    assert read(tmp_path / "saved") == rows
    places = [str(record.place) for record in read_records(tmp_path / "saved", "data.sources[train]")]
    assert places[10] == "data-00001-of-00003.arrow row 1"


def test_train_split_of_a_saved_data_set_is_read(tmp_path):
    splits = {name: Dataset.from_list([{"a": name}]) for name in ("test", "train")}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == [{"a": "train"}]
    (record,) = read_records(tmp_path / "saved", "data.sources[train]")
    assert str(record.place) == "row 1"


def test_saved_data_set_without_a_train_split_is_refused(tmp_path):
    splits = {name: Dataset.from_list([{"a": name}]) for name in ("test", "en")}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    with pytest.raises(BadDataError, match="has the splits en, test, but none is called train"):
        read(tmp_path / "saved")


def test_saved_data_set_with_a_missing_file_is_refused(tmp_path):
    Dataset.from_list([{"a": 1}]).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(BadDataError, match=r"state\.json lists data-00000-of-00001\.arrow, which is not in"):
        read(tmp_path / "saved")


def test_files_of_a_folder_are_read_in_name_order(tmp_path):
    write(tmp_path, "b.jsonl", "a.jsonl", "c.jsonl", "README.md", "dataset_info.json", ".hidden.jsonl")
    assert names(tmp_path) == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert [str(record.place) for record in read_records(tmp_path, "")][1] == "b.jsonl line 1"


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (
            [
                "data/train-00000-of-00002.jsonl",
                "data/train-00001-of-00002.jsonl",
                "data/test-00000-of-00001.jsonl",
            ],
            2,
        ),
        (["train/a.jsonl", "validation/a.jsonl"], 1),
        (["train.jsonl", "dev.jsonl", "notes.jsonl"], 1),
        (["my-test.jsonl"], 1),
        (["data/en-00000-of-00001.jsonl"], 1),
        (["train-2024/train.jsonl", "train-2024/test.jsonl"], 1),
        (["test-suite/train.jsonl", "test-suite/dev.jsonl", "test-suite/notes.jsonl"], 1),
        (["eval/train/a.jsonl", "eval/test/a.jsonl"], 1),
    ],
)
def test_train_split_or_only_split_of_a_folder_is_read(tmp_path, files, chosen):
    folder = tmp_path / "test"
    write(folder, *files)
    assert names(folder) == files[:chosen]


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (["test.jsonl", "dev.jsonl"], "has the splits test, validation, but none is called train"),
        (
            ["dev.jsonl", "orders.jsonl"],
            "has the splits \\(files without a split\\), validation, but none",
        ),
        (
            ["data/en-00000-of-00001.jsonl", "data/de-00000-of-00001.jsonl"],
            "has the splits de, en, but none",
        ),
        (
            ["main/train.jsonl", "socratic/train.jsonl"],
            "the data files are in several folders: main, socratic",
        ),
        (["a.jsonl", "b.csv"], "has files of several formats: CSV, JSON Lines"),
        (["README.md"], "has no data files"),
    ],
)
def test_folder_with_ambiguous_data_files_is_refused(tmp_path, files, error):
    write(tmp_path, *files)
    with pytest.raises(BadDataError, match=error):
        read(tmp_path)
