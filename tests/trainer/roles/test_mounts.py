"""Pods run with the mounts that the operator gives them, and cannot change the files of other jobs."""

import shutil
import sys
from pathlib import Path

import pytest

from support.full_volume import has_mounts
from support.pod_mounts import PodMounts
from support.trainer_root import STAGE, UID, TrainerRoot
from tunegate_api.contract.process import Role
from tunegate_api.contract.results import Subject
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import ObjectMeta
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_operator.names import Step
from tunegate_trainer.process.files import seal, verify

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not has_mounts(), reason="no user namespaces on this machine: unshare --user fails"),
]
STEP = 20
SPEC = {"publish": [{"uri": "pvc://tuning/published"}], "storage": {"persistentVolumeClaim": "tuning"}}
VICTIM = Workspace("victim")
TRY_TO_WRITE = """
import pathlib, sys
for name in sys.argv[1:]:
    path = pathlib.Path(name, "written")
    try:
        path.mkdir(parents=True)
    except OSError:
        continue
    print(name)
"""


@pytest.fixture
def root(make_root) -> TrainerRoot:
    """A job that publishes to its storage claim, on which the files of another job are."""
    root: TrainerRoot = make_root(checkpoint_steps=(10, STEP), spec=SPEC)
    (root.workspace / VICTIM.stage(STAGE)).mkdir(parents=True)
    for folder in (root.paths.job, Workspace.baselines):  # as the data role does
        (root.workspace / folder).mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture
def pods(root: TrainerRoot) -> PodMounts:
    request = root.context().request
    metadata = ObjectMeta(name=request.name, namespace=request.namespace, uid=request.uid)
    job = FineTuneJob(metadata=metadata, spec=request.spec)
    return PodMounts(job, request, root.path, {"tuning": root.workspace})


def trainer(*args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tunegate_trainer", *args)


@pytest.mark.usefixtures("warm_roles")
def test_job_passes_and_publishes_with_only_its_roles_mounts(root: TrainerRoot, pods: PodMounts) -> None:
    trained = pods.run(Step(Role.TRAIN, STAGE), *trainer("train", "--stage", STAGE))
    assert trained.returncode == 0, trained.stderr
    judged = pods.run(Step(Role.GATE), *trainer("gate", "--stage", STAGE, "--step", str(STEP)))
    assert judged.returncode == 0, judged.stderr
    (final,) = root.report(Role.GATE).results.find(Subject.FINAL)
    published = pods.run(Step(Role.PUBLISH), *trainer("publish", "--digest", str(final.digest)))
    assert published.returncode == 0, published.stderr
    assert verify(root.workspace / "published" / f"orders-{UID[:5]}") == []
    cleaned = pods.run(Step(Role.CLEANUP), *trainer("cleanup", "--digest", str(final.digest)))
    assert cleaned.returncode == 0, cleaned.stderr
    assert not (root.workspace / root.paths.stage(STAGE)).exists()
    assert (root.workspace / root.paths.report).exists()


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.DATA])
def test_pod_cannot_write_to_other_jobs_and_shared_models(
    root: TrainerRoot, pods: PodMounts, role: Role
) -> None:
    """Neither by its path, nor through a link that somebody left beside the published versions."""
    (root.workspace / "link").symlink_to(Path("tunegate", "jobs"))
    (root.workspace / "models").symlink_to(Path("tunegate", "models"))
    claim, volume = pods.pod / "workspace", pods.pod / "volumes" / "tuning"
    digest = root.context().plan.model.digest
    foreign = [VICTIM.stage(STAGE), Workspace.base_model(digest), Workspace.models, Workspace.jobs]
    paths = [*(folder / each for folder in (claim, volume) for each in foreign)]
    paths += [volume / "link" / "victim", volume / "models" / digest, volume / root.paths.job]
    own = [claim / root.paths.job, *([volume / "published"] if role is Role.PUBLISH else [])]
    step = Step(role, STAGE if role is Role.TRAIN else None)
    tried = pods.run(step, sys.executable, "-c", TRY_TO_WRITE, *map(str, (*paths, *own)))
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.splitlines() == [str(path) for path in own]


def test_shared_model_stays_intact_when_a_pod_changes_it(root: TrainerRoot, pods: PodMounts) -> None:
    digest = root.context().plan.model.digest
    model = root.workspace / Workspace.base_model(digest)
    shutil.rmtree(model / "DONE", ignore_errors=True)
    seal(model)
    weights = pods.pod / "workspace" / Workspace.base_model(digest) / "model.safetensors"
    for role, stage in ((Role.TRAIN, STAGE), (Role.GATE, None)):
        removed = pods.run(Step(role, stage), "rm", str(weights))
        assert "Read-only file system" in removed.stderr
    assert verify(model) == []
