"""No address of a job leads into the reserved folder of a claim, where Tunegate keeps the files of jobs."""

import shutil
from pathlib import Path

import pytest

from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import RESERVED
from tunegate_api.v1alpha2.data import DataSource
from tunegate_trainer.fetch.sources import locate, open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.publish.targets import open_target

DIGEST = "a" * 64
VICTIM = Workspace("0f7c9d1e-0000-4000-8000-000000000000")
PATHS = [
    str(VICTIM.stage("sft")),
    str(Workspace.base_model(DIGEST)),
    RESERVED,
    f"{RESERVED}/",
    f"/{RESERVED}/jobs",
    f"./{RESERVED}/jobs",
    f".//./{RESERVED}/jobs",
    f"{RESERVED.upper()}/jobs",
    f"{RESERVED}//models/{DIGEST}",
]
"""Paths of a claim that lead into its reserved folder."""


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    """The folder of the claim ``tuning``, with the folders of a job and of a shared model."""
    folder = tmp_path / "volumes" / "tuning"
    for path in (VICTIM.stage("sft"), Workspace.base_model(DIGEST)):
        (folder / path).mkdir(parents=True)
    return folder


@pytest.mark.usefixtures("claim")
@pytest.mark.parametrize("path", PATHS)
def test_publish_target_in_the_reserved_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"spec\.publish: pvc://tuning/.*the files of jobs") as refused:
        open_target(tmp_path, f"pvc://tuning/{path}")
    assert refused.value.hint == "use a path outside this folder"


@pytest.mark.parametrize("path", PATHS)
def test_reserved_folder_is_refused_before_a_job_has_created_it(tmp_path: Path, path: str) -> None:
    (tmp_path / "volumes" / "models").mkdir(parents=True)
    with pytest.raises(UserError, match="the files of jobs"):
        open_target(tmp_path, f"pvc://models/{path}")


@pytest.mark.usefixtures("claim")
@pytest.mark.parametrize("path", PATHS)
def test_source_in_the_reserved_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"data\.sources\[train\]: pvc://tuning/.*the files of jobs"):
        locate(tmp_path, f"pvc://tuning/{path}", "data.sources[train]")


@pytest.mark.parametrize("scheme", ["pvc", "file"])
def test_link_into_the_reserved_folder_is_refused(tmp_path: Path, claim: Path, scheme: str) -> None:
    (claim / "published").symlink_to(claim / VICTIM.jobs)
    target = {"pvc": "pvc://tuning/published/new", "file": f"file://{claim}/published/new"}[scheme]
    with pytest.raises(UserError, match="the files of jobs"):
        open_target(tmp_path, target)


def test_link_from_another_claim_into_the_workspace_is_refused(tmp_path: Path, claim: Path) -> None:
    """On a laptop, the workspace of a pod has links to folders of the storage claim."""
    storage = tmp_path / "storage"
    claim.rename(storage)
    own = tmp_path / "workspace" / VICTIM.job
    own.parent.mkdir(parents=True)
    own.symlink_to(storage / VICTIM.job)
    (tmp_path / "volumes" / "models").mkdir()
    (tmp_path / "volumes" / "models" / "orders").symlink_to(storage / Workspace.models)
    with pytest.raises(UserError, match="the files of jobs"):
        open_target(tmp_path, "pvc://models/orders")


def test_loop_of_links_is_refused(tmp_path: Path, claim: Path) -> None:
    (claim / "loop").symlink_to(claim / "loop")
    with pytest.raises(
        UserError, match=r"data\.sources\[train\]: pvc://tuning/loop/x: .* loop of symbolic links"
    ):
        locate(tmp_path, "pvc://tuning/loop/x", "data.sources[train]")


@pytest.mark.parametrize("uri", ["pvc://tuning", "pvc://tuning/", "pvc://tuning/mine"])
def test_folder_with_files_of_jobs_is_refused_as_a_source(tmp_path: Path, claim: Path, uri: str) -> None:
    held_out = claim / VICTIM.data / "test.jsonl"
    held_out.parent.mkdir()
    held_out.write_text('{"prompt": "a", "completion": "b"}\n')
    (claim / "mine").mkdir()
    (claim / "mine" / "train.jsonl").symlink_to(held_out)
    source = open_source(
        Context(Role.DATA, root=tmp_path), DataSource(name="train", uri=uri), "data.sources[train]"
    )
    with pytest.raises(UserError, match=r"data\.sources\[train\].*the files of jobs"), source:
        pass


@pytest.mark.parametrize("path", ["%74unegate/jobs", "orders/tunegate", "tunegate-models", "tunegate.old/x"])
def test_folder_with_a_similar_name_is_not_reserved(tmp_path: Path, claim: Path, path: str) -> None:
    """Nothing decodes percent escapes in a path of a claim."""
    open_target(tmp_path, f"pvc://tuning/{path}")
    assert locate(tmp_path, f"pvc://tuning/{path}") == claim / path


def test_target_whose_volume_has_no_job_is_accepted(tmp_path: Path, claim: Path) -> None:
    shutil.rmtree(claim / RESERVED)
    assert open_target(tmp_path, "pvc://tuning/orders").name == "orders"
