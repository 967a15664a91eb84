"""``model.startFrom``: a whole model of another job is copied, an adapter is merged into its base."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from support.trainer_root import ALL_WEIGHTS, UID, TrainerRoot
from tunegate_api.contract.plan import ModelPlan
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.request import StartRequest
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.artifacts.build import build_artifact, write_artifact
from tunegate_trainer.artifacts.start_from import resolve_start
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, StorageError
from tunegate_trainer.process.files import read_manifest, seal, verify
from tunegate_trainer.roles import train as train_role


@pytest.fixture
def earlier(make_root):
    """Make a job that trained and was judged. Return its root and the start request for a later job."""

    def make(*, whole: bool = False, arguments=None, **parameters) -> tuple[TrainerRoot, StartRequest]:
        root = make_root(checkpoint_steps=(2,), parameters=parameters)
        assert train_role.run(root.context()) is Outcome.COMPLETED
        plan = root.context().plan
        base = root.workspace / Workspace.base_model(plan.model.digest)
        manifest = build_artifact(
            root.checkpoint(2),
            base,
            root.workspace / root.paths.model,
            Writer.claim(root.workspace / root.paths.gate),
            whole=whole,
            trained=plan.stages[0].parameters,
            arguments=arguments,
        )
        start = StartRequest(
            job="orders",
            uid=UID,
            claim="tuning",
            digest=manifest.digest,
            base_digest=plan.model.digest,
            trained=plan.stages[0].parameters,
        )
        return root, start

    return make


@pytest.fixture
def resolve(tmp_path):
    """Resolve the start in another root, with the earlier job's workspace as the claim."""

    def run(root: TrainerRoot, start: StartRequest) -> tuple[ModelPlan, dict[str, torch.Tensor]]:
        later = tmp_path / "later"
        claim = later / "volumes" / start.claim
        if not claim.exists():
            claim.parent.mkdir(parents=True, exist_ok=True)
            claim.symlink_to(root.workspace)
        plan = resolve_start(later, later / "workspace", start)
        folder = later / "workspace" / Workspace.base_model(plan.digest)
        assert verify(folder) == []
        return plan, load_file(folder / "model.safetensors")

    return run


def test_whole_model_of_an_earlier_job_is_copied_unchanged(earlier, resolve):
    root, start = earlier(**ALL_WEIGHTS)
    plan, found = resolve(root, start)
    artifact = load_file(root.workspace / root.paths.model / "model.safetensors")
    assert found.keys() == artifact.keys()
    assert all(torch.equal(found[name], artifact[name]) for name in found)
    assert plan.start_from is not None
    assert (plan.uri, plan.start_from.job, plan.start_from.digest) == (start.uri, "orders", start.digest)
    assert not plan.is_merged


@pytest.mark.parametrize("quantization", [None, "NF4"])
def test_adapter_to_start_from_is_merged_into_its_base(earlier, resolve, tmp_path, quantization):
    root, start = earlier(quantization=quantization)
    plan, found = resolve(root, start)
    base = root.workspace / Workspace.base_model(start.base_digest)
    merged = tmp_path / "merged"
    write_artifact(root.checkpoint(2), base, merged, whole=True, trained=start.trained)
    expected = load_file(merged / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(
        found["model.layers.0.self_attn.q_proj.weight"],
        load_file(base / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"],
    )
    assert plan.is_merged, (
        "an adapter of this model could not be published, because nobody else has the model"
    )
    assert plan.parameters == sum(
        p.numel() for p in load_base(merged, "float32", torch.device("cpu")).parameters()
    )


@pytest.mark.parametrize("whole", [True, False])
def test_later_job_keeps_chat_template_arguments_of_the_earlier_job(earlier, resolve, tmp_path, whole):
    root, start = earlier(whole=whole, arguments={"enable_thinking": False})
    plan, _ = resolve(root, start)
    template = tmp_path / "later" / "workspace" / Workspace.base_model(plan.digest) / "chat_template.jinja"
    assert "{%- set enable_thinking = false %}" in template.read_text()


def test_start_adapter_is_merged_into_its_base_only_once(earlier, resolve, tmp_path):
    root, start = earlier()
    first, _ = resolve(root, start)
    done = tmp_path / "later" / "workspace" / Workspace.base_model(first.digest) / "DONE"
    inode = done.stat().st_ino
    again, _ = resolve(root, start)
    assert (again, done.stat().st_ino) == (first, inode)


def test_missing_model_to_start_from_is_reported_with_its_uri(earlier, resolve):
    root, start = earlier()
    shutil.rmtree(root.workspace / root.paths.model)
    with pytest.raises(SourceNotFoundError, match=r"FineTuneJob orders is not at pvc://tuning/\S+/model"):
        resolve(root, start)


def test_damaged_model_to_start_from_is_refused(earlier, resolve):
    root, start = earlier()
    (root.workspace / root.paths.model / "adapter_config.json").write_text("{}")
    with pytest.raises(StorageError, match=r"damaged: adapter_config\.json does not match its digest"):
        resolve(root, start)


def test_start_model_with_another_digest_than_judged_is_refused(earlier, resolve):
    root, start = earlier()
    artifact = root.workspace / root.paths.model
    (artifact / "adapter_config.json").write_text("{}")
    seal(artifact, read_manifest(artifact).digest)  # an attacker can forge the manifest too
    with pytest.raises(BadDataError, match=f"the model that passed the gates has digest {start.digest}"):
        resolve(root, start)


def test_missing_base_of_an_adapter_is_reported_with_a_remedy(earlier, resolve):
    root, start = earlier()
    shutil.rmtree(root.workspace / Workspace.base_model(start.base_digest))
    with pytest.raises(StorageError, match="cannot be used: the folder does not exist") as failed:
        resolve(root, start)
    assert failed.value.hint == (
        f"create a job with the model.uri of {start.job} and this claim: its data Job stores the base model "
        "there again"
    )
