"""Providing data sources as local files, and the errors if they cannot be read."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from support.unprivileged import unprivileged
from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.data import DataSource
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, StorageError, UserError


def opened(path: Path, sha256: str | None = None):
    return open_source(
        Context(Role.DATA),
        DataSource(name="train", uri=f"file://{path}", sha256=sha256),
        "data.sources[train]",
    )


def read(path: Path) -> bytes:
    with opened(path) as source:
        return source.path.read_bytes()


def digest(path: Path) -> str:
    with opened(path) as source:
        return source.sha256


@pytest.fixture
def open_folder():
    """A folder that every user may enter, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_rows_are_read_from_a_file_address(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert read(tmp_path / "rows.jsonl") == b'{"prompt": "a", "completion": "b"}\n'


def test_file_with_another_digest_than_the_pinned_one_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"{}")
    pinned = hashlib.sha256(b"{}").hexdigest()
    with opened(tmp_path / "rows.jsonl", pinned) as source:
        assert source.sha256 == pinned
    (tmp_path / "rows.jsonl").write_bytes(b"[]")
    with pytest.raises(BadDataError, match=f"but the spec pins {pinned}"), opened(source.path, pinned):
        pass


def test_folder_digest_covers_names_and_contents_without_hidden_files(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_bytes(b"{}")
    (tmp_path / "b.jsonl").write_bytes(b"[]")
    found = digest(tmp_path)
    listed = (
        f'{{"b.jsonl":"{digest(tmp_path / "b.jsonl")}","data/a.jsonl":"{digest(tmp_path / "data/a.jsonl")}"}}'
    )
    assert found == hashlib.sha256(listed.encode()).hexdigest()
    for hidden in (".cache/lock", ".gitattributes"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"x")
    assert digest(tmp_path) == found
    (tmp_path / "b.jsonl").rename(tmp_path / "c.jsonl")
    assert digest(tmp_path) != found


def test_source_that_changes_while_it_is_read_is_an_error(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"{}")
    for path in (rows, tmp_path):
        with pytest.raises(StorageError, match=rf"{path} changed while it was read"), opened(path):
            rows.write_bytes(rows.read_bytes() + b"\n")


@pytest.mark.parametrize("is_folder", [False, True])
def test_source_removed_while_it_is_read_is_an_error(tmp_path, is_folder):
    path = tmp_path / "data" if is_folder else tmp_path / "data" / "rows.jsonl"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_bytes(b"{}")
    with pytest.raises(StorageError, match=rf"{path} changed while it was read"), opened(path):
        shutil.rmtree(tmp_path / "data")


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


def test_file_name_not_in_utf8_is_escaped_in_hint(tmp_path):
    (tmp_path / os.fsdecode(b"donn\xe9es.jsonl")).write_text("{}")
    with pytest.raises(SourceNotFoundError, match=r"file://.* does not exist") as raised:
        read(tmp_path / "donnees.jsonl")
    assert r"donn\udce9es.jsonl" in raised.value.failure.hint
    assert raised.value.failure.model_dump_json()


def test_error_for_an_unreadable_subfolder_names_the_source(open_folder):
    (open_folder / "data").mkdir(mode=0)
    with unprivileged(), pytest.raises(UserError, match=rf"file://{open_folder} cannot be read: permission"):
        digest(open_folder)
