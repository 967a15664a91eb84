"""Reading data sources, and the errors if they cannot be read."""

import os
import tempfile
from pathlib import Path

import pytest

from support.unprivileged import unprivileged
from tunegate_api.contract import Role
from tunegate_api.v1alpha1.data import DataSource
from tunegate_trainer.fetch.sources import read_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, UserError


def read(path: Path) -> str:
    return read_source(Context(Role.DATA), DataSource(uri=f"file://{path}"), "data.train")[0]


@pytest.fixture
def open_folder():
    """A folder that every user may enter, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_rows_are_read_from_a_file_address(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert read(tmp_path / "rows.jsonl") == '{"prompt": "a", "completion": "b"}\n'


def test_line_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes('{"a": 1}\n{"a": "ü"}\n{"a": "'.encode() + b'\xfc"}\n')
    with pytest.raises(BadDataError, match=r"data\.train: line 3 is not UTF-8"):
        read(tmp_path / "rows.jsonl")


def test_error_for_an_unreadable_file_names_the_trainers_user(open_folder):
    path = open_folder / "rows.jsonl"
    path.write_text("{}")
    path.chmod(0)
    with (
        unprivileged(),
        pytest.raises(UserError, match=rf"file://{path} cannot be read: permission") as raised,
    ):
        read(path)
    assert raised.value.hint.startswith("the trainer runs as user ")


def test_missing_file_in_an_unlistable_folder_is_reported(open_folder):
    open_folder.chmod(0o311)
    with unprivileged(), pytest.raises(SourceNotFoundError, match=r"file://.* does not exist") as raised:
        read(open_folder / "rows.jsonl")
    open_folder.chmod(0o755)
    assert "cannot be listed" in raised.value.hint


@pytest.mark.parametrize("name", ["rows.jsonl/more.jsonl", "rows.jsonl/folder/more.jsonl"])
def test_data_file_whose_parent_is_a_file_is_not_found(tmp_path, name):
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(SourceNotFoundError, match=r"file://.*more\.jsonl does not exist"):
        read(tmp_path / name)


def test_file_name_that_is_not_utf8_is_escaped_in_the_hint(tmp_path):
    (tmp_path / os.fsdecode(b"donn\xe9es.jsonl")).write_text("{}")
    with pytest.raises(SourceNotFoundError, match=r"file://.* does not exist") as raised:
        read(tmp_path / "donnees.jsonl")
    assert r"donn\udce9es.jsonl" in raised.value.failure.hint
    assert raised.value.failure.model_dump_json()


def test_folder_as_data_source_is_refused(tmp_path):
    with pytest.raises(SourceNotFoundError, match="is a folder"):
        read(tmp_path)
