"""A full or read-only volume is a storage failure, and partial files are ignored.

With free space again, the next attempt resumes the same run.
"""

from pathlib import Path

import pytest

from support.full_volume import all_files, has_mounts, run_full, run_read_only
from support.trainer_root import STAGE, UID, TrainerRoot, dpo_plan, stage_plan
from tunegate_api.contract.process import ExitCode, Outcome, Termination
from tunegate_api.contract.request import StartRequest
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.artifacts.build import build_artifact
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import is_complete, write_model
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.preference import REFERENCE

PAGE = 4096
NO_MOUNTS = "no user namespaces on this machine: unshare --user fails"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_mounts(), reason=NO_MOUNTS),
    pytest.mark.usefixtures("warm_roles"),
]


def train(root: TrainerRoot, stage: str = STAGE, start_step: int | None = None) -> None:
    outcome = train_role.run(root.context(stage=stage, start_step=start_step))
    assert outcome is Outcome.COMPLETED


def assert_full(ended: Termination) -> None:
    assert ended.exit_code == ExitCode.STORAGE
    assert ended.failure is not None
    assert ended.failure.reason == Reason.STORAGE
    assert "No space left on device" in ended.failure.message
    assert ended.failure.hint == "grow the volume, or free space on it"


def stage_folder(root: TrainerRoot, stage: str) -> Path:
    return root.workspace / root.paths.stage(stage)


@pytest.mark.parametrize("room", [pytest.param(0, id="losses"), pytest.param(8 * PAGE, id="checkpoint")])
def test_full_volume_is_storage_error_for_losses_or_checkpoint(make_root, make_trained_root, room):
    whole, root = make_trained_root(checkpoint_steps=(2,)), make_root(checkpoint_steps=(2,))
    assert_full(run_full(root.path, root.stage_folder, room, "train", "--stage", STAGE))
    assert not [p for p in root.stage_folder.glob("st*") if is_complete(p)]
    train(root)
    assert root.losses() == whole.losses()
    assert root.evaluation(2).digest == whole.evaluation(2).digest


def test_full_volume_is_a_storage_error_while_writing_dpo_reference(make_trained_root):
    later = [dpo_plan(checkpoint_steps=(2,))]
    whole, root = (make_trained_root(checkpoint_steps=(2,), later=later) for _ in range(2))
    train(whole, "dpo", start_step=2)
    folder = stage_folder(root, "dpo")
    assert_full(run_full(root.path, folder, 0, "train", "--stage", "dpo", "--start-step", "2"))
    assert not list(folder.glob(f"*{REFERENCE}*")), "nor half of one under another name"
    train(root, "dpo", start_step=2)
    assert root.losses("dpo") == whole.losses("dpo")
    assert (folder / REFERENCE).read_bytes() == (stage_folder(whole, "dpo") / REFERENCE).read_bytes()


def test_full_volume_is_storage_error_when_merging_previous_stage(make_trained_root):
    later = [stage_plan("more", (2,), starts_from="Merged")]
    whole, root = (make_trained_root(checkpoint_steps=(2,), later=later) for _ in range(2))
    train(whole, "more", start_step=2)
    folder = stage_folder(root, "more")
    assert_full(run_full(root.path, folder, 16 * PAGE, "train", "--stage", "more", "--start-step", "2"))
    assert not is_complete(root.workspace / root.paths.merged("more"))
    train(root, "more", start_step=2)
    assert root.losses("more") == whole.losses("more")
    assert not list(folder.glob("scratch*")), "what did not fit is gone"


def test_full_volume_is_storage_error_when_copying_start_model(make_root, make_trained_root, tmp_path):
    earlier = make_trained_root(checkpoint_steps=(2,))
    plan = earlier.context().plan
    manifest = build_artifact(
        earlier.checkpoint(2),
        earlier.workspace / Workspace.base_model(plan.model.digest),
        earlier.workspace / earlier.paths.model,
        Writer.claim(earlier.workspace / earlier.paths.gate),
        whole=False,
        trained=plan.stages[0].parameters,
    )
    root = make_root()
    start = StartRequest(
        job="orders",
        uid=UID,
        claim="tuning",
        digest=manifest.digest,
        base_digest=plan.model.digest,
        trained=plan.stages[0].parameters,
    )
    request = root.context().request.model_copy(update={"start_from": start})
    write_model(root.path / "request" / "request.json", request)
    (root.path / "volumes").mkdir()
    (root.path / "volumes" / "tuning").symlink_to(earlier.workspace)
    models = root.workspace / Workspace.models
    for path in models.iterdir():
        path.rename(tmp_path / path.name)  # too large for the small volume, so it is moved away
    assert_full(run_full(root.path, models, 16 * PAGE, "data"))
    assert list(models.iterdir()) == []


def test_read_only_volume_is_a_storage_failure(make_trained_root):
    root = make_trained_root(checkpoint_steps=(2,), later=[dpo_plan(checkpoint_steps=(2,))])
    before = all_files(root.workspace)
    ended = run_read_only(root.path, root.workspace, "train", "--stage", "dpo", "--start-step", "2")
    assert ended.exit_code == ExitCode.STORAGE
    assert ended.failure is not None
    assert (ended.failure.reason, "Read-only file system" in ended.failure.message) == (Reason.STORAGE, True)
    assert all_files(root.workspace) == before
    train(root, "dpo", start_step=2)


def test_full_volume_is_a_storage_error_while_saving_training_state(make_root):
    """PyTorch writes the state, and raises its own type of error if writing fails."""
    root = make_root(checkpoint_steps=(2,))
    ended = run_full(root.path, root.stage_folder, 24 * PAGE, "train", "--stage", STAGE)
    assert ended.failure is not None
    assert list(root.stage_folder.rglob("adapter_model.safetensors")), "the adapter had room"
    assert (ended.exit_code, ended.failure.reason) == (ExitCode.STORAGE, Reason.STORAGE)
    assert not is_complete(root.checkpoint(2))
