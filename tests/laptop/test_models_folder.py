"""Several commands share the folder for downloaded models in one runs folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunegate_api.contract.workspace import Workspace
from tunegate_client.laptop.models_folder import models_folder
from tunegate_client.laptop.run import Laptop


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def models(runs: Path) -> Path:
    return runs / "volumes" / "tuning" / Workspace.models


def test_empty_models_folder_is_removed_with_its_last_user(runs: Path) -> None:
    with models_folder(models(runs), runs):
        with models_folder(models(runs), runs):
            assert models(runs).is_dir()
        assert models(runs).is_dir()
    assert not runs.exists()


def test_downloaded_models_are_kept(runs: Path) -> None:
    with models_folder(models(runs), runs):
        (models(runs) / "digest").mkdir()
    assert (models(runs) / "digest").is_dir()


def test_models_folder_outside_the_runs_folder_is_kept(tmp_path: Path, runs: Path) -> None:
    with models_folder(tmp_path / "tuning" / Workspace.models, runs):
        pass
    assert (tmp_path / "tuning" / Workspace.models).is_dir()


def test_linked_runs_folder_is_one_folder_with_its_target(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "disk").mkdir()
    runs.symlink_to(tmp_path / "disk")
    with models_folder(models(runs), runs):
        with models_folder(models(tmp_path / "disk"), runs):
            pass
        assert models(runs).is_dir()
    assert list((tmp_path / "disk").iterdir()) == []


def test_models_folder_is_kept_while_a_job_runs(runs: Path) -> None:
    with Laptop(runs, []), models_folder(models(runs), runs):
        pass
    assert models(runs).is_dir()


def test_removed_models_folder_does_not_replace_the_result(runs: Path) -> None:
    with models_folder(models(runs), runs):
        models(runs).rmdir()
    assert models(runs).parent.is_dir()


def test_models_folder_is_never_removed_while_another_command_uses_it(runs: Path) -> None:
    def use(_: int) -> bool:
        with models_folder(models(runs), runs):
            return models(runs).is_dir()

    with ThreadPoolExecutor(8) as commands:
        assert all(commands.map(use, range(500)))
    assert not runs.exists()
