"""Sealed folders are complete on disk or do not exist, and every damage to a sealed folder is reported."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from tunegate_api.contract.digests import files_digest
from tunegate_trainer.process.files import create_once, is_complete, remove, seal, verify, weights_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    (made / "adapter_config.json").write_text("{}")
    (made / "sub" / "manifest.json").write_text("no manifest of ours")
    return made


def test_files_and_folders_are_flushed_before_the_done_marker(folder, monkeypatch):
    synced: list[int] = []
    before_marker: set[int] = set()
    fsync = os.fsync

    def note(file: int) -> None:
        fsync(file)
        synced.append(os.fstat(file).st_ino)
        if not is_complete(folder):
            before_marker.add(synced[-1])

    monkeypatch.setattr(os, "fsync", note)
    seal(folder)
    everything = {path.stat().st_ino for path in [folder, *folder.rglob("*")] if path.name != "DONE"}
    assert everything <= before_marker
    assert synced[-1] == folder.stat().st_ino, "and the marker's name after it"


def test_removal_deletes_the_done_marker_first(folder, monkeypatch):
    import shutil

    seal(folder)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before anything else is removed
    remove(folder)
    assert folder.is_dir()
    assert not is_complete(folder)


def test_removing_a_missing_folder_is_no_error(tmp_path):
    remove(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_folder_digest_covers_all_files_and_weights_digest_only_weights(folder):
    first = seal(folder)
    assert verify(folder) == []
    (folder / "adapter_config.json").write_text('{"r": 1}')
    second = seal(folder)
    assert second.digest != first.digest
    assert weights_digest(second.files) == weights_digest(first.files)
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    assert weights_digest(seal(folder).files) != weights_digest(first.files)


def test_files_digest_depends_on_names_but_not_on_order():
    assert files_digest({"a": "1" * 64, "b": "2" * 64}) == files_digest({"b": "2" * 64, "a": "1" * 64})
    assert files_digest({"a": "1" * 64, "b": "2" * 64}) != files_digest({"a": "2" * 64, "b": "1" * 64})


def test_verify_reports_every_difference_from_the_manifest(folder):
    seal(folder)
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_model.safetensors").write_bytes(b"changed")
    (folder / "modeling.py").write_text("")
    (folder / "sub" / "manifest.json").write_text("changed")
    assert verify(folder) == [
        "adapter_config.json is missing",
        "modeling.py is not in the manifest",
        "adapter_model.safetensors does not match its digest",
        "sub/manifest.json does not match its digest",
    ]


def test_verify_returns_a_missing_or_damaged_manifest_as_a_fault(folder):
    seal(folder)
    (folder / "manifest.json").write_text('{"files": ')
    assert verify(folder)[0].startswith("manifest.json is damaged: ")
    (folder / "manifest.json").unlink()
    assert verify(folder) == ["manifest.json is missing"]


def test_verify_returns_an_unreadable_file_as_a_fault(folder, monkeypatch):
    seal(folder)

    def broken_disk(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", broken_disk)
    assert "adapter_config.json cannot be read: Input/output error" in verify(folder)


def test_create_once_succeeds_only_the_first_time(tmp_path: Path) -> None:
    path = tmp_path / "history" / "000001" / "entry.json"
    assert create_once(path, "first")
    assert not create_once(path, "second")
    assert path.read_text() == "first"
    assert [one.name for one in path.parents[1].iterdir()] == ["000001"]


def test_create_once_succeeds_if_nfs_repeats_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def rename_twice(path: Path, to: Path) -> None:
        rename(path, to)
        rename(path, to)  # NFS repeats a request if its answer was lost

    monkeypatch.setattr(Path, "rename", rename_twice)
    assert create_once(tmp_path / "000001" / "entry.json", "first")


def test_create_once_leaves_nothing_if_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        create_once(tmp_path / "000001" / "entry.json", "first")
    assert list(tmp_path.iterdir()) == []
