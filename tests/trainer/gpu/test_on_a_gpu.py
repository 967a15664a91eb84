"""Training and evaluation on a real GPU, compared with the same on the CPU: ``make test-gpu``."""

import json
import sys
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from support.random_models import ROWS, save_random_model
from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, dpo_plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_trainer.main import main
from tunegate_trainer.models.loading import load_base, training_precision
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.examples import example
from tunegate_trainer.tokens.likelihood import flatten, fuse_head, token_losses
from tunegate_trainer.train.attention import PACKED
from tunegate_trainer.train.packing import set_attention, try_fused_head

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU on this machine"),
]
GPU = {"resources": {"accelerator": "GPU", "gpu": {"count": 1}}}
EXACT = {"lora_dropout": 0.0}
LORA = EXACT | {"dtype": "bfloat16"}
METHODS = {
    "LoRA": LORA,
    "QLoRA": LORA | {"quantization": "NF4"},
    "all weights": ALL_WEIGHTS,
    "all weights by the fused AdamW": ALL_WEIGHTS | {"optim": "adamw_torch_fused"},
}


def run(root: TrainerRoot, **options: Any) -> TrainerRoot:
    assert train_role.run(root.context(**options)) is Outcome.COMPLETED
    return root


@pytest.mark.parametrize("parameters", METHODS.values(), ids=METHODS)
def test_losses_on_a_gpu_are_those_on_the_cpu(make_root, parameters):
    found = run(make_root(parameters=parameters, spec=GPU))
    expected = run(make_root(parameters=parameters))
    assert found.losses()[0] == pytest.approx(expected.losses()[0], rel=0.01)
    assert found.losses() == pytest.approx(expected.losses(), rel=0.05)


def test_dpo_reward_margins_on_gpu_equal_those_on_cpu(make_root):
    margins = []
    for spec in (GPU, {}):
        root = run(make_root(parameters=LORA, spec=spec, later=[dpo_plan(**LORA)]))
        run(root, stage="dpo", start_step=6)
        margins.append([line["reward_margin"] for line in root.loss_lines("dpo")])
    assert margins[0] == pytest.approx(margins[1], rel=0.1, abs=0.02)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=["multi-head", "grouped queries"])
def test_packed_examples_use_the_kernel_for_different_lengths(tmp_path, heads):
    settings = dict(zip(("num_attention_heads", "num_key_value_heads"), heads, strict=True))
    folder = save_random_model(tmp_path / "model", LlamaConfig, intermediate_size=128, **settings)
    model = load_base(folder, "bfloat16", torch.device("cuda"))
    set_attention(model, ROWS)
    assert model.config._attn_implementation == PACKED


@pytest.mark.parametrize("window", [None, 8])
def test_packed_examples_have_the_losses_of_masked_attention(tmp_path, window):
    settings = {"sliding_window": window, "num_key_value_heads": 2, "intermediate_size": 128}
    folder = save_random_model(tmp_path / "model", MistralConfig, initializer_range=0.1, **settings)
    rows = flatten([example(list(range(5, 5 + n)), [7, 8] * 20) for n in (40, 9)])
    inputs = {k: v.to("cuda") if isinstance(v, torch.Tensor) else v for k, v in rows.items()}
    losses = {}
    for name in ("sdpa", PACKED):
        model = load_base(folder, "bfloat16", torch.device("cuda"))
        model.set_attn_implementation(name)
        with torch.no_grad():
            losses[name] = token_losses(model, dict(inputs)).losses.mean().item()
    assert losses[PACKED] == pytest.approx(losses["sdpa"], rel=0.005)


def test_norms_and_mlps_use_kernels(tmp_path):
    folder = save_random_model(tmp_path / "model", LlamaConfig, intermediate_size=128, initializer_range=0.1)
    model, on_the_cpu = (load_base(folder, "bfloat16", torch.device(name)) for name in ("cuda", "cpu"))
    replaced = {type(layer).__name__ for layer in model.modules() if "forward" in vars(layer)}
    assert replaced == {"LlamaRMSNorm", "LlamaMLP"}
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        found, expected = model(ids.to("cuda")).logits.cpu(), on_the_cpu(ids).logits
    assert (found - expected).float().abs().mean() < 0.02 * expected.float().abs().mean()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_fused_head_has_the_losses_and_gradients_of_kept_logits(tmp_path, dtype):
    folder = save_random_model(tmp_path / "model", LlamaConfig, intermediate_size=128, initializer_range=0.1)
    model = load_base(folder, dtype, torch.device("cuda"))
    rows = flatten([example(list(range(5, 45)), [7, 8] * 20)])
    inputs = {k: v.to("cuda") if isinstance(v, torch.Tensor) else v for k, v in rows.items()}
    assert try_fused_head(model, ROWS)
    found = []
    for above in (sys.maxsize, 0):
        fuse_head(model, above)
        model.zero_grad()
        with training_precision(model):
            losses = token_losses(model, dict(inputs)).losses
        losses.mean().backward()
        found.append((losses.mean().item(), model.lm_head.weight.grad.norm().item()))
    assert found[1] == pytest.approx(found[0], rel=0.01)


@pytest.mark.parametrize("parameters", METHODS.values(), ids=METHODS)
def test_recomputed_activations_do_not_change_losses(make_root, parameters):
    kept, recomputed = (
        run(make_root(parameters=parameters, spec=GPU, activation_checkpointing=recomputes))
        for recomputes in (False, True)
    )
    assert recomputed.losses() == pytest.approx(kept.losses(), rel=1e-3)


def test_passes_are_halved_if_the_gpu_is_full(make_root, monkeypatch):
    root = make_root(parameters=LORA, spec=GPU)
    tokens, whole = [], train_role.CompletionTrainer.token_losses

    def fills_the_gpu(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        examples = int((inputs["position_ids"] == 0).sum())
        tokens.append(examples)
        if examples > 2:
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return whole(self, model, inputs)

    monkeypatch.setattr(train_role.CompletionTrainer, "token_losses", fills_the_gpu)
    run(root)
    assert tokens[:2] == [4, 4], "activations are recomputed first"
    assert set(tokens[2:]) <= {1, 2}
    assert root.report().progress.pass_tokens < 84


@pytest.mark.parametrize("parameters", [LORA, ALL_WEIGHTS], ids=["LoRA", "all weights"])
def test_resumed_run_has_the_losses_of_an_uninterrupted_one(make_root, at_step, parameters):
    whole, root = (make_root(parameters=parameters, spec=GPU) for _ in range(2))
    run(whole)
    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(root.context(interruption=interruption))
    run(root)
    assert root.losses() == pytest.approx(whole.losses(), rel=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has fewer than two GPUs")
@pytest.mark.parametrize(
    ("parameters", "parallelism"), [(LORA, None), (ALL_WEIGHTS, None), (ALL_WEIGHTS, "FSDP")]
)
def test_two_gpus_have_the_losses_of_one(make_root, monkeypatch, parameters, parallelism):
    parameters = parameters | {"batch_size": 8, "pass_tokens": 84}
    two_gpus = {"resources": {"accelerator": "GPU", "gpu": {"count": 2}}}
    root = make_root(parameters=parameters, parallelism=parallelism, spec=two_gpus)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.OK
    one = run(make_root(parameters=parameters, spec=GPU))
    assert root.losses() == pytest.approx(one.losses(), rel=0.02)


@pytest.mark.parametrize("batching", ["Fixed", "Continuous"])
def test_gate_on_a_gpu_decides_as_on_the_cpu(make_root, monkeypatch, batching):
    settings = {"checkpoint_steps": (20,), "parameters": LORA}
    outcomes = []
    for spec in (GPU, {}):
        root = run(make_root(spec=spec | {"evaluation": {"batching": batching}}, **settings))
        monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
        assert main(["gate", "--stage", STAGE, "--step", "20"]) == ExitCode.OK
        lines = (root.workspace / root.paths.gate / "golden-orders.jsonl").read_text().splitlines()
        outcomes.append([json.loads(line)["passed"] for line in lines])
    differing = sum(one != other for one, other in zip(*outcomes, strict=True))
    assert differing <= 1, "a case whose two best tokens are almost equally likely may differ"
