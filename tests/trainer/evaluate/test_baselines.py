"""Cached results of a base model: used only for equal settings, and never from a forged file."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch

from support.trainer_root import gate_spec, golden_cases
from tunegate_api.contract.baselines import MeasuredBaseline, read_baselines, write_baselines
from tunegate_api.contract.workspace import Workspace
from tunegate_trainer.evaluate import evaluate as evaluate_module
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import SetResult
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GOLDEN, Expected
from tunegate_trainer.graders import Output
from tunegate_trainer.graders.grader import Reads, always_open
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.files import sha256_file, write_model
from tunegate_trainer.tokens.chat import load_tokenizer

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Volume:
    """A volume with a base model, which several pods evaluate one after another."""

    def __init__(self, root, tiny_model):
        self._root, self._recorded = root, ""
        self.context: Context = root.context()
        self._tokenizer, self._model = load_tokenizer(tiny_model), load_base(tiny_model, "float32", CPU)
        self.sets = golden_sets(self.context, self._tokenizer, self.context.request.final_gates)
        self.folder = self.context.workspace / Workspace.baselines

    def evaluate(self, sets=None, device: torch.device = CPU) -> list[SetResult]:
        """Evaluate the base model in a new pod, which gets the digests that the operator recorded."""
        self.context = replace(self._root.context(), baselines=read_baselines(self._recorded))
        cache = BaselineCache(self.context, self.context.plan.model.digest, "float32", device)
        return cache.evaluate(self._model, self._tokenizer, sets or self.sets)

    @property
    def reported(self) -> list[MeasuredBaseline]:
        """The baselines that the last pod reports to the operator."""
        return [*self.context.measured_baselines.values()]

    def record(self) -> None:
        """Record the digests that the last pod reports, as the operator does."""
        self._recorded = write_baselines(self.reported)

    def files(self):
        return sorted(self.folder.iterdir())


@pytest.fixture
def volume(make_root, tiny_model) -> Volume:
    return Volume(make_root(gates={"orders": gate_spec(golden_cases(2))}), tiny_model)


def easy_to_beat(result: SetResult) -> SetResult:
    """Return a copy of the result in which all cases failed."""
    cases = [
        case.model_copy(update={"passed": False, "outcomes": dict.fromkeys(case.outcomes, "f")})
        for case in result.cases
    ]
    return result.model_copy(update={"cases": cases})


@pytest.fixture
def answers(monkeypatch) -> list[str]:
    """The answers of the model to the two prompts, which a test may change. By default all cases pass."""
    texts = ["yes"] * 2

    def generate(*_: Any, **__: Any) -> list[Output]:
        return [Output(answer, truncated=False) for answer in texts]

    monkeypatch.setattr(evaluate_module, "generate", generate)
    return texts


def test_recorded_baseline_is_reused_without_generating_again(volume, monkeypatch):
    (measured,) = volume.evaluate()
    volume.record()
    monkeypatch.setattr(volume._model, "generate", None)
    (known,) = volume.evaluate()
    assert measured.seconds > 0
    assert known == measured.model_copy(update={"seconds": 0.0})
    (file,) = volume.files()
    (reported,) = volume.reported
    assert (reported.key, reported.sha256) == (file.stem, sha256_file(file))
    assert reported.refused is None


def test_results_on_open_cases_are_not_reused_for_all_cases(volume, answers):
    whole = volume.sets
    cases = [whole[0].cases[0], replace(whole[0].cases[1], prompt="", shown="", is_sealed=True)]
    opened = [replace(whole[0], cases=cases)]
    answers[:] = ["yes"]
    assert volume.evaluate(opened)[0].outcomes(GOLDEN) == "ps"
    volume.record()
    answers[:] = ["no"] * 2
    assert volume.evaluate(whole)[0].outcomes(GOLDEN) == "ff"
    assert len(volume.files()) == 2
    answers[:] = ["no"]
    assert volume.evaluate(opened)[0].outcomes(GOLDEN) == "ps", "the first result is cached"


@pytest.mark.usefixtures("answers")
def test_forged_baseline_is_evaluated_again_and_reported(volume, caplog):
    (measured,) = volume.evaluate()
    volume.record()
    (file,) = volume.files()
    write_model(file, easy_to_beat(measured))
    forged = sha256_file(file)
    assert volume.evaluate()[0].outcomes(GOLDEN) == "pp"
    (reported,) = volume.reported
    assert reported.refused == forged
    assert reported.sha256 == sha256_file(file) != forged, "the forged file was replaced"
    assert "does not have its recorded digest" in caplog.text


@pytest.mark.usefixtures("answers")
def test_baseline_without_recorded_digest_is_evaluated_again(volume, caplog):
    caplog.set_level(logging.INFO)
    (measured,) = volume.evaluate()
    (file,) = volume.files()
    write_model(file, easy_to_beat(measured))
    assert volume.evaluate()[0].outcomes(GOLDEN) == "pp"
    (reported,) = volume.reported
    assert reported.refused is None
    assert "no digest is recorded for" in caplog.text


def test_baseline_file_copied_from_another_key_is_evaluated_again(volume, answers):
    """The digest of a file for other settings is recorded too, but under another key."""
    other = [replace(volume.sets[0], identity="0" * 64)]
    answers[:] = ["no"] * 2
    volume.evaluate(other)
    (weak,) = volume.files()
    answers[:] = ["yes"] * 2
    volume.evaluate()
    volume.record()
    recorded = volume.reported
    (file,) = set(volume.files()) - {weak}
    file.write_bytes(weak.read_bytes())
    assert volume.evaluate()[0].outcomes(GOLDEN) == "pp"
    assert recorded == [each.model_copy(update={"refused": None}) for each in volume.reported]


@pytest.mark.usefixtures("answers")
def test_baseline_key_depends_on_the_model(volume):
    """A recorded result of a weaker model must not be accepted for this model."""
    volume.evaluate()
    (file,) = volume.files()
    plan = volume.context.plan
    weaker = plan.model_copy(update={"model": plan.model.model_copy(update={"digest": "a" * 64})})
    volume._root.path.joinpath("plan", "plan.json").write_text(weaker.model_dump_json(by_alias=True))
    volume.evaluate()
    assert len({file, *volume.files()}) == 2


@pytest.mark.usefixtures("answers")
def test_unparsable_baseline_is_evaluated_again(volume):
    volume.evaluate()
    volume.record()
    (file,) = volume.files()
    file.write_bytes(b"\xff")
    assert volume.evaluate()[0].outcomes(GOLDEN) == "pp"


@pytest.mark.usefixtures("answers")
def test_baseline_of_one_gpu_type_is_not_used_on_another(volume, monkeypatch):
    def measured_on(name: str) -> int:
        # The model stays on the CPU. Only the device's name is that of a GPU.
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
        volume.evaluate(device=GPU)
        return len(volume.files())

    assert measured_on("NVIDIA L4") == 1
    assert measured_on("NVIDIA L4") == 1
    assert measured_on("NVIDIA H100 80GB HBM3") == 2
    volume.evaluate()
    assert len(volume.files()) == 3


@pytest.mark.usefixtures("answers")
def test_result_with_scoring_errors_is_not_cached(volume):
    (sound,) = volume.sets

    class Stuck:
        reads = Reads.WHOLE
        outlook = staticmethod(always_open)

        def score(self, samples):
            raise TimeoutError(samples)

    stuck = {GOLDEN: [Expected(Stuck(), None)]}
    broken = replace(sound, cases=[replace(case, measures=stuck) for case in sound.cases])
    (errors,) = volume.evaluate([broken])
    assert errors.outcomes(GOLDEN) == "ee"
    assert not volume.folder.exists()
    assert volume.reported == []
    assert volume.evaluate([sound])[0].outcomes(GOLDEN) == "pp"
    volume.record()
    assert volume.evaluate([broken])[0].outcomes(GOLDEN) == "pp", "the result without errors was cached"


def test_device_name_of_a_cpu_is_cpu():
    assert device_name(CPU) == "cpu"


@pytest.mark.usefixtures("answers")
def test_equal_outputs_give_equal_baseline_files(volume):
    """Otherwise pods that evaluate at the same time would refuse each other's files."""
    volume.evaluate()
    (file,) = volume.files()
    first = file.read_bytes()
    file.unlink()
    volume.evaluate()
    assert file.read_bytes() == first
    assert json.loads(first)["seconds"] == 0
