"""Sealed golden cases are evaluated by the final gate, and never while a job trains."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.trainer_root import STAGE, TrainerRoot, gate_spec, golden_cases, stage_plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role
from tunegate_api.contract.results import Subject
from tunegate_api.judging.judgement import judge_checkpoint
from tunegate_api.verdict.tiers import counted_cases
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.main import main
from tunegate_trainer.report.collect import collect

pytestmark = pytest.mark.model
STEP = 20
SET = "golden/orders"


@pytest.fixture
def root(make_root, monkeypatch) -> TrainerRoot:
    gate = gate_spec(golden_cases(20))
    gate["sets"][0]["sealed"] = "30%"
    more = stage_plan("more", (3,), starts_from="Adapter", lora_dropout=0.0)
    found: TrainerRoot = make_root(checkpoint_steps=(STEP,), later=[more], gates={"orders": gate})
    monkeypatch.setenv(ROOT_VARIABLE, str(found.path))
    return found


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The prompts for which outputs were generated."""
    prompts: list[str] = []
    generate = evaluate.generate

    def recorded(model: Any, tokenizer: Any, each: Sequence[str], *args: Any, **options: Any) -> Any:
        prompts.extend(each)
        return generate(model, tokenizer, each, *args, **options)

    monkeypatch.setattr(evaluate, "generate", recorded)
    return prompts


def train(stage: str = STAGE, *options: str) -> None:
    assert main(["train", "--stage", stage, *options]) == ExitCode.OK


def sealed_prompts(root: TrainerRoot) -> list[str]:
    """Return the texts of the sealed cases, with the word that follows each number."""
    gate = root.context().request.gate("orders")
    cases = root.report().results.sets[SET]
    sealed = counted_cases(cases, gate.checkpoint_bar).sealed
    assert len(sealed) == 6
    texts = [str(case["prompt"]) for case in gate.spec.golden.source.inline or ()]
    return [texts[i] for i in sorted(sealed)]


def files_with(root: TrainerRoot, texts: Sequence[str]) -> list[Path]:
    """Return the files on the volume that contain one of the texts."""
    files = [path for path in root.workspace.rglob("*") if path.is_file()]
    return [path for path in files if any(text.encode() in path.read_bytes() for text in texts)]


def test_only_the_final_gate_generates_and_writes_sealed_prompts(root, asked, capfd):
    train()
    train("more", "--start-step", str(STEP))
    hidden = sealed_prompts(root)
    assert any("golden order" in prompt for prompt in asked)
    assert not [prompt for prompt in asked if any(text in prompt for text in hidden)]
    assert files_with(root, hidden) == []
    assert not any(text in "".join(capfd.readouterr()) for text in hidden)
    assert main(["gate", "--stage", "more", "--step", "3"]) == ExitCode.OK
    assert all(any(text in prompt for prompt in asked) for text in hidden)
    assert root.workspace / root.paths.gate / "golden-orders.jsonl" in files_with(root, hidden)


def test_open_outcomes_keep_the_places_of_sealed_cases(root):
    train()
    train("more", "--start-step", str(STEP))
    evaluations = [
        root.evaluation(0),
        root.evaluation(STEP),
        root.evaluation(0, "more"),
        root.evaluation(3, "more"),
    ]
    places = {frozenset(i for i, letter in enumerate(e.outcomes[SET]) if letter == "s") for e in evaluations}
    assert [len(positions) for positions in places] == [6]
    assert main(["gate", "--stage", "more", "--step", "3"]) == ExitCode.OK
    report = root.report(Role.GATE)
    for subject in (Subject.BASE, Subject.FINAL):
        (found,) = report.results.find(subject)
        assert "s" not in found.outcomes[SET]
    assert report.outcome is Outcome.COMPLETED


def test_checkpoint_report_lists_all_cases_but_judges_no_sealed_ones(root):
    train()
    job = collect(root.workspace, root.context().request)
    assert job.results.sets[SET].ids == [f"case-{i}" for i in range(20)]
    (checkpoint,) = job.results.find(Subject.CHECKPOINT)
    (gate,) = judge_checkpoint(job.request, job.results, checkpoint).gates
    assert (gate.verdict.passed, gate.verdict.total) == (14, 14)
    lines = (root.workspace / root.paths.evaluation(STAGE, STEP) / "golden-orders.jsonl").read_text()
    sealed = [case for case in map(json.loads, lines.splitlines()) if case["outcomes"] == {"golden": "s"}]
    assert [case["prompt"] + case["output"] for case in sealed] == [""] * 6
    assert {case["explanation"] for case in sealed} == {"sealed until the final gate"}
