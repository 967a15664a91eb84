"""Models between the base model and the artifact, which keep a share of what training changed."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from tunegate_trainer.evaluate.error_rate.strength import NotComparableError, at_strength
from tunegate_trainer.models.loading import load_base

CPU = torch.device("cpu")


def loaded(folder: Path, dtype: str = "float32"):
    return load_base(folder, dtype, CPU)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(20)[None]).logits


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def adapter(tiny_model: Path, *, rslora: bool = False) -> PeftModel:
    """Return the tiny model with an adapter whose update is not zero."""
    torch.manual_seed(5)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=rslora)
    model = get_peft_model(loaded(tiny_model), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model.eval()


@pytest.fixture
def trained(tiny_model, tmp_path) -> Path:
    """A folder with a whole model whose weights all differ from those of the tiny model."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "trained"))
    torch.manual_seed(6)
    changed = {k: v + 0.1 * torch.randn_like(v) for k, v in load_file(folder / "model.safetensors").items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("share", [0.5, 0.75])
@pytest.mark.parametrize("rslora", [False, True])
def test_adapter_at_a_strength_adds_this_share_of_its_update(tiny_model, share, rslora):
    model = adapter(tiny_model, rslora=rslora)
    start = loaded(tiny_model).state_dict()
    full = adapter(tiny_model, rslora=rslora).merge_and_unload().state_dict()
    expected = loaded(tiny_model)
    expected.load_state_dict({k: start[k] + share * (full[k] - start[k]) for k in start})
    with at_strength(model, share, tiny_model, tiny_model):
        assert torch.allclose(logits(model), logits(expected), atol=1e-5)


def test_adapter_is_restored_bit_for_bit_also_after_an_error(tiny_model):
    model = adapter(tiny_model)
    before, scores = weights(model), logits(model)

    def fail_in_the_middle():
        with at_strength(model, 0.5, tiny_model, tiny_model):
            assert not torch.equal(logits(model), scores)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_in_the_middle()
    assert torch.equal(logits(model), scores)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_whole_model_at_a_strength_is_between_base_and_artifact(tiny_model, trained, share):
    model, start, end = (
        loaded(trained),
        load_file(tiny_model / "model.safetensors"),
        load_file(trained / "model.safetensors"),
    )
    with at_strength(model, share, trained, tiny_model):
        found = weights(model)
    for name, tensor in start.items():
        assert torch.allclose(found[name], tensor + share * (end[name] - tensor), atol=1e-6)
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"]), "they are tied"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_whole_model_is_restored_bit_for_bit(tiny_model, trained, dtype):
    model = loaded(trained, dtype)
    before, file = weights(model), (trained / "model.safetensors").read_bytes()

    def fail_in_the_middle():
        with at_strength(model, 0.5, trained, tiny_model):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_in_the_middle()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {tensor.dtype for tensor in model.state_dict().values()} == {getattr(torch, dtype)}
    assert (trained / "model.safetensors").read_bytes() == file


def test_model_whose_base_has_other_tensors_is_left_unchanged(tiny_model, trained, tmp_path):
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    save_file({f"language.{k}": v for k, v in tensors.items()}, base / "model.safetensors")
    model = loaded(trained)
    before = weights(model)
    with pytest.raises(NotComparableError, match=r"no tensor model.embed_tokens.weight"):
        at_strength(model, 0.5, trained, base).__enter__()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
