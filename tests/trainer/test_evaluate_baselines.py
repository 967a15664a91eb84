"""What a base model scored is used again only where it would score the same."""

import pytest
import torch

from support.trainer_root import gate_spec, golden_cases
from tunegate_trainer.chat import load_tokenizer
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.sets import golden_sets
from tunegate_trainer.model import load_base

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def measurements(make_root, tiny_model):
    """Evaluates the base model where a device is found, and returns how often it was measured so far."""
    context = make_root(gates={"orders": gate_spec(golden_cases(2))}).context()
    tokenizer, model = load_tokenizer(tiny_model), load_base(tiny_model, "float32", CPU)
    sets = golden_sets(context, tokenizer, context.request.final_gates)
    folder = context.workspace / context.paths.base_model(context.plan.model.digest) / "evals"

    def evaluate(device: torch.device) -> int:
        BaselineCache(context, "float32", device).evaluate(model, tokenizer, sets)
        return len(list(folder.iterdir()))

    return evaluate


def test_a_result_of_one_gpu_is_no_baseline_on_another(measurements, monkeypatch):
    def measured_on(name: str) -> int:
        # Two kinds of GPU in one machine are rare. The model is on the CPU: which device is there decides.
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
        return measurements(GPU)

    assert measured_on("NVIDIA L4") == 1
    assert measured_on("NVIDIA L4") == 1
    assert measured_on("NVIDIA H100 80GB HBM3") == 2
    assert measurements(CPU) == 3


def test_what_is_known_takes_no_time(make_root, tiny_model):
    context = make_root(gates={"orders": gate_spec(golden_cases(2))}).context()
    tokenizer, model = load_tokenizer(tiny_model), load_base(tiny_model, "float32", CPU)
    sets = golden_sets(context, tokenizer, context.request.final_gates)
    cache = BaselineCache(context, "float32", CPU)
    (measured,), (known,) = (cache.evaluate(model, tokenizer, sets) for _ in range(2))
    assert measured.seconds > 0
    assert known == measured.model_copy(update={"seconds": 0.0})


def test_a_cpu_is_called_cpu():
    assert device_name(CPU) == "cpu"
