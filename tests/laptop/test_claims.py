"""Tests of the folder to which a claim refers: a job must not train on another project's data by mistake."""

import shutil
from pathlib import Path

import pytest

from support.command import Command

TRAIN = {
    "goal": "StyleOrFormat",
    "sizePolicy": "Warn",
    "sources": [{"name": "train", "uri": "pvc://datasets/rows.jsonl"}],
}


def project(quick: Command, name: str, rows: str | None) -> Path:
    """Create a folder with manifests and, if ``rows`` is given, with a claim's folder that contains these
    rows."""
    folder = quick.folder / name
    folder.mkdir()
    quick.write(folder, folder=name, data=TRAIN)
    quick.edit(lambda objects: objects["orders"]["metadata"].update(name=name), folder=name)
    if rows is not None:
        write_rows(folder, rows)
    return folder


def write_rows(folder: Path, rows: str) -> None:
    (folder / "datasets").mkdir()
    (folder / "datasets" / "rows.jsonl").write_text(rows)


def test_second_manifest_folder_with_the_same_claim_name_is_refused(quick):
    first, second = project(quick, "one", "FIRST"), project(quick, "two", "SECOND")
    assert quick("run", "one").returncode == 0
    assert "rows: FIRST" in quick.logs()
    result = quick("run", "two")
    assert result.returncode == 1
    assert str(first / "datasets") in result.stdout
    assert str(second / "datasets") in result.stdout
    assert not (quick.runs / "two").exists()
    assert not (quick.runs / ".cluster" / "objects" / "FineTuneJob" / "default" / "two.yaml").exists()


def test_command_with_two_folders_for_one_claim_is_refused(quick):
    first, second = project(quick, "one", "FIRST"), project(quick, "two", "SECOND")
    quick.edit(lambda objects: [objects.pop(name) for name in ("rows", "cases", "golden")], folder="two")
    result = quick("run", "one", "two")
    assert result.returncode == 1
    assert str(first / "datasets") in result.stdout
    assert str(second / "datasets") in result.stdout
    assert not (quick.runs / "one").exists()


def test_folders_with_equal_unused_names_do_not_conflict(quick):
    for name in ("one", "two"):
        quick.write(project(quick, name, None), folder=name)
        quick.edit(lambda objects, name=name: objects["orders"]["metadata"].update(name=name), folder=name)
        (quick.folder / name / "src").mkdir()
    for name in ("one", "two"):
        result = quick("run", name)
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("left", ["an empty folder", "a dangling link"])
def test_empty_folder_or_broken_claim_link_is_replaced(quick, left):
    folder = project(quick, "one", "HERE NOW")
    claim = quick.runs / "volumes" / "datasets"
    claim.parent.mkdir(parents=True)
    if left == "an empty folder":
        claim.mkdir()
    else:
        claim.symlink_to(quick.folder / "gone")
    result = quick("run", "one")
    assert result.returncode == 0, result.stdout
    assert "rows: HERE NOW" in quick.logs()
    assert claim.resolve() == folder / "datasets"


def test_claim_that_links_to_a_deleted_folder_is_refused(quick):
    folder = project(quick, "one", "FIRST")
    assert quick("run", "one").returncode == 0
    shutil.rmtree(folder / "datasets")
    result = quick("run", "one", "--again")
    assert result.returncode == 1
    assert f"links to {folder / 'datasets'}, which does not exist" in result.stdout
    assert quick.status("one")["phase"] == "Succeeded"
