"""Evaluate a tuned model, and models that are made worse, on many labelled rows that it was not trained on.

``make bench-outcomes RUN=FOLDER`` needs the folder ``runs`` of a finished ``tunegate run
examples/classification``. It writes planted_outcomes.json, from which the part ``planted`` of ``make
bench-gate`` computes detection rates. The stored outcomes are those of a shorter job, see ``MADE``.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
import yaml
from examples.classification.build_data import distinct_errors, prompt, selected_errors
from examples.manifests import to_jsonl
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_trainer.artifacts.build import load_artifact, published_stops
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate.error_rate.answers import shuffled_answers
from tunegate_trainer.evaluate.error_rate.repeats import evaluate_again
from tunegate_trainer.evaluate.error_rate.strength import at_strength
from tunegate_trainer.evaluate.evaluate import SetResult, evaluate
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.sets import GOLDEN, GeneratedSet
from tunegate_trainer.models.loading import load_base, load_weights
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.chat import load_tokenizer

FILE = Path(__file__).parent / "planted_outcomes.json"
MADE = (
    "make bench-outcomes RUN=runs, after tunegate run examples/classification with maxSteps: 48 instead of "
    "epochs: 1"
)
POOL = 600
REPEATS = 4
SEEN = (0.75, 0.5)
UNSEEN = (0.9, 0.6, 0.4)
NOISE = 0.5
"""Standard deviation of the noise, as a share of that of each matrix of the adapter."""


def main() -> int:
    """Evaluate all models, and write their outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder runs")
    folder = parser.parse_args().run / "volumes" / "tuning"
    (judged_file,) = folder.glob("tunegate/jobs/*/gate/result.json")
    models = Models(judged_file.parents[1])
    outcomes: dict[str, str] = {}
    for name, result in models.evaluations():
        outcomes[name] = result.outcomes(GOLDEN)
        passed = sum(case.passed for case in result.cases)
        print(f"{name}: {passed}/{len(result.cases)} in {result.seconds:.0f} s", flush=True)
        content = {
            "made": MADE,
            "artifact": models.judged.artifact,
            "cases": models.cases.identity,
            "outcomes": outcomes,
        }
        FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


class Models:
    """The artifact of a job, and models that are made worse."""

    def __init__(self, job: Path) -> None:
        self._job = job
        self.judged = GateRoleResult.model_validate_json((job / "gate" / "result.json").read_bytes())
        (self._base,) = (one.parent for one in job.parent.glob("models/*/config.json"))
        self._artifact = job / "model"
        self._tokenizer = load_tokenizer(self._artifact, self._base)
        self._stops = published_stops(self._artifact)
        cpu = torch.device("cpu")
        base = load_base(self._base, self.judged.dtype, cpu, self.judged.quantization)
        self._model = load_artifact(base, self._artifact, self.judged.dtype, cpu)
        self.cases = golden_set(self._tokenizer, _pool(job))

    def evaluations(self) -> Iterator[tuple[str, SetResult]]:
        """Yield the results by the names of the models. Those with another part of the change by training,
        and the exchanged answers, are planted regressions of a calibration."""
        reference = self._evaluate()
        yield "reference", reference
        exchanged = shuffled_answers(self.cases, reference)
        assert exchanged
        yield "shuffled answers", exchanged
        for share in (*SEEN, *UNSEEN):
            with at_strength(self._model, share, self._artifact, self._base):
                yield f"strength {share}", self._evaluate()
        with _noise(self._model):
            yield "noise", self._evaluate()
        with _without_attention(self._model):
            yield "without attention", self._evaluate()
        for number in range(1, REPEATS + 1):
            again = evaluate_again(self._model, self._tokenizer, self.cases, number, stops=self._stops)
            yield f"repeat {number}", again
        for checkpoint in sorted(self._job.glob("stages/*/step-*")):
            if int(checkpoint.name.removeprefix("step-")) != self.judged.step:
                load_weights(self._model, checkpoint, lambda: None)
                yield f"checkpoint {checkpoint.name}", self._evaluate()

    def _evaluate(self) -> SetResult:
        (result,) = evaluate(self._model, self._tokenizer, [self.cases], stops=self._stops)
        return result


def golden_set(tokenizer: PreTrainedTokenizerBase, pool: list[dict[str, object]]) -> GeneratedSet:
    """Return rows as the golden set of a gate with the settings of the example."""
    text = to_jsonl(pool)
    spec = {
        "sets": [{"name": "golden", "source": {"configMap": "pool"}, "sha256": sha256_text(text)}],
        "generation": {"maxNewTokens": 16},
    }
    gate = GateRequest(name="pool", spec=EvalGateSpec.model_validate(spec), golden_sha256=sha256_text(text))
    job = yaml.safe_load(
        (ROOT / "examples" / "classification" / "finetunejob.yaml").read_text(encoding="utf-8")
    )
    spec_of_job = FineTuneJobSpec.model_validate(job["spec"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "inputs", "pool", "golden.jsonl")
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
        context = Context(Role.GATE, root=Path(folder))
        context.request = Request(
            name="pool", namespace="default", uid="pool", spec=spec_of_job, gates=[gate]
        )
        (cases,) = golden_sets(context, tokenizer, [gate])
    return cases


def _pool(job: Path) -> list[dict[str, object]]:
    """Return labelled errors that the model was not trained on: those of the example, and then those that the
    example leaves out because their labels are frequent."""
    trained = (job / "data" / "train.jsonl").read_text(encoding="utf-8")
    prompts = {json.loads(line)["prompt"][0]["content"] for line in trained.splitlines()}
    errors = dict.fromkeys([*selected_errors(), *distinct_errors()])
    unseen = [error for error in errors if prompt(error.text) not in prompts]
    return [
        {
            "id": f"error-{number}",
            "prompt": prompt(error.text),
            "expect": [{"type": "equals", "value": error.kind}],
        }
        for number, error in enumerate(unseen[:POOL])
    ]


@contextmanager
def _noise(model: Any) -> Iterator[None]:
    """Add noise to the adapter in this block."""
    weights = [weight for name, weight in model.named_parameters() if "lora_" in name]
    before = [weight.detach().clone() for weight in weights]
    random = torch.Generator().manual_seed(1)
    for weight in weights:
        noise = torch.randn(weight.shape, generator=random).to(weight.dtype)
        weight.data += NOISE * weight.data.std() * noise
    yield
    for weight, old in zip(weights, before, strict=True):
        weight.data.copy_(old)


@contextmanager
def _without_attention(model: Any) -> Iterator[None]:
    """Switch off the part of the adapter that is in the attention layers, in this block."""
    layers = [m for name, m in model.named_modules() if isinstance(m, LoraLayer) and "self_attn" in name]
    before = [dict(layer.scaling) for layer in layers]
    for layer in layers:
        layer.scaling.update(dict.fromkeys(layer.scaling, 0.0))
    yield
    for layer, scaling in zip(layers, before, strict=True):
        layer.scaling.update(scaling)


if __name__ == "__main__":
    sys.exit(main())
