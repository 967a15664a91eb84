"""``tunegate gate run`` judges adapters and models on other machines."""

from pathlib import Path

import pytest

from support.stores.model_hub import COMMIT, ModelHub, Repository
from tunegate_api.contract.process import Role
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.evaluate.given_artifact import GivenArtifact, link_artifact
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.files import read_manifest, verify

ADAPTER = {
    "adapter_config.json": b'{"peft_type": "LORA"}',
    "adapter_model.safetensors": b"w" * 20_000,
    "tokenizer.json": b"{}",
    "optimizer.pt": b"x",
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    made = Context(role=Role.GATE, root=tmp_path)
    made.paths = Workspace("gate-run")
    return made


def given(context: Context) -> GivenArtifact:
    source = ModelSource(uri="hf://org/tiny", revision=COMMIT)
    return link_artifact(context, source, context.root / "artifact")


def test_adapter_on_a_hub_is_downloaded_without_other_files(model_hub: ModelHub, context: Context) -> None:
    model_hub.repositories["org/tiny"] = Repository(dict(ADAPTER))
    artifact = given(context)
    assert verify(artifact.folder) == []
    assert sorted(read_manifest(artifact.folder).files) == sorted(ADAPTER.keys() - {"optimizer.pt"})
    assert (artifact.folder / "adapter_model.safetensors").read_bytes() == b"w" * 20_000


def test_adapter_whose_weights_could_run_code_is_refused(model_hub: ModelHub, context: Context) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.bin": b"pickle"}
    model_hub.repositories["org/tiny"] = Repository(files)
    with pytest.raises(UserError, match=r"only files such as adapter_model\.bin, which can run code"):
        given(context)


@pytest.mark.usefixtures("model_hub")
def test_whole_model_on_a_hub_is_kept_on_the_volume(context: Context) -> None:
    artifact = given(context)
    (stored,) = (context.workspace / Workspace.models).glob("[0-9a-f]*")
    weights = artifact.folder / "model.safetensors"
    assert weights.resolve() == (stored / "model.safetensors").resolve()
    assert verify(artifact.folder) == []


def test_model_that_changes_after_its_digest_was_taken_is_found(
    context: Context, model_hub: ModelHub
) -> None:
    model_hub.repositories["org/tiny"] = Repository(dict(ADAPTER))
    artifact = given(context)
    (artifact.folder / "tokenizer.json").resolve().write_text("[]")
    assert verify(artifact.folder) == ["tokenizer.json does not match its digest"]
