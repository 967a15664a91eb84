"""What a base model scored is used again only where it would score the same."""

from dataclasses import replace

import pytest
import torch

from support.trainer_root import gate_spec, golden_cases
from tunegate_trainer.chat import load_tokenizer
from tunegate_trainer.evaluate import evaluate as evaluate_module
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.scorers import Output
from tunegate_trainer.evaluate.sets import GOLDEN, golden_sets
from tunegate_trainer.files import write_model
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


def test_what_could_not_be_scored_is_measured_again(make_root, tiny_model, monkeypatch):
    context = make_root(gates={"orders": gate_spec(golden_cases(2))}).context()
    tokenizer, model = load_tokenizer(tiny_model), load_base(tiny_model, "float32", CPU)
    (sound,) = golden_sets(context, tokenizer, context.request.final_gates)

    def stuck(_: str) -> None:
        raise TimeoutError

    broken = replace(sound, cases=[replace(case, scorers={GOLDEN: [stuck]}) for case in sound.cases])
    monkeypatch.setattr(evaluate_module, "generate", lambda *_: [Output("yes", truncated=False)] * 2)
    cache = BaselineCache(context, "float32", CPU)

    def outcomes(evaluation_set) -> str:
        return cache.evaluate(model, tokenizer, [evaluation_set])[0].outcomes(GOLDEN)

    folder = context.workspace / context.paths.base_model(context.plan.model.digest) / "evals"
    (errors,) = cache.evaluate(model, tokenizer, [broken])
    assert errors.outcomes(GOLDEN) == "ee"
    assert not folder.exists()
    assert outcomes(sound) == "pp"
    (file,) = folder.iterdir()
    write_model(file, errors)  # as an older version did
    assert outcomes(sound) == "pp"
    assert outcomes(broken) == "pp", "it was kept, and found"


def test_a_cpu_is_called_cpu():
    assert device_name(CPU) == "cpu"
