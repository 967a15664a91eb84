"""A stage from start to end: it learns and reports."""

import json
from typing import Any

import pytest
import torch

from support.trainer_root import STAGE, dpo_plan, gate_spec, golden_cases, stage_plan
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.results import Results, Subject
from tunegate_api.contract.workspace import PAIRS_PREFIX, TRAIN_EXAMPLES
from tunegate_api.verdict.outcomes import PASS
from tunegate_trainer.evaluate.evaluate import CaseResult
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import sha256_file
from tunegate_trainer.process.interruption import Superseded
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.example_file import example_writer, to_batch
from tunegate_trainer.train.checkpoints import CheckpointFolder
from tunegate_trainer.train.progress import ProgressReporter
from tunegate_trainer.train.start import trainable


def test_training_lowers_the_loss_and_evaluates_every_checkpoint(make_root):
    root = make_root(checkpoint_steps=(10, 20))
    assert train_role.run(root.context()) is Outcome.COMPLETED
    assert root.evaluated_steps() == [0, 10, 20]
    assert root.evaluation(0).outcomes["golden/orders"].count(PASS) == 0
    assert root.evaluation(20).outcomes == {"golden/orders": PASS * 20, "dev/exact_match": PASS * 6}
    assert root.losses()[-1] < root.losses()[0]


@pytest.mark.parametrize("method", ["SFT", "DPO"])
def test_stage_reads_the_data_roles_examples_if_intact(make_root, tiny_model, method):
    stage = stage_plan(STAGE) if method == "SFT" else dpo_plan()
    root, prefix = make_root(later=[dpo_plan()]), "" if method == "SFT" else PAIRS_PREFIX
    context, tokenizer = root.context(), load_tokenizer(tiny_model)
    tokenized = train_role.read_examples(context, stage, tokenizer)
    path = root.data / f"{prefix}{TRAIN_EXAMPLES}"
    with example_writer(path) as writer:
        examples = tokenized if method == "SFT" else [one for pair in tokenized for one in pair]
        writer.write_batch(to_batch(reversed(list(examples))))
    data = context.plan.data if method == "SFT" else context.plan.data.preference
    data.train.__dict__["examples_sha256"] = sha256_file(path)
    stored = train_role.read_examples(context, stage, tokenizer)
    flat = list(stored) if method == "SFT" else [one for pair in stored for one in pair]
    assert flat == list(reversed(list(examples)))
    path.write_bytes(path.read_bytes() + b" ")
    assert train_role.read_examples(context, stage, tokenizer) == tokenized


@pytest.mark.parametrize(
    "changes", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"quantization": "NF4"}], ids=str
)
def test_frozen_weights_stay_bitwise_the_same(make_root, monkeypatch, changes):
    """The weights in memory are compared after steps and evaluations. In float32, an evaluation merges the
    adapter temporarily."""
    found: dict[str, Any] = {}

    def watched(*arguments: Any) -> Any:
        model = found["model"] = trainable(*arguments)
        found["before"] = {n: p.data.clone() for n, p in model.named_parameters() if not p.requires_grad}
        return model

    monkeypatch.setattr(train_role, "trainable", watched)
    root = make_root(checkpoint_steps=(3, 6), parameters=changes)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    after = dict(found["model"].named_parameters())
    assert len(found["before"]) > 10
    for name, before in found["before"].items():
        assert torch.equal(after[name].data, before), name
    assert any(after[name].data.any() for name in after if "lora_B" in name), "and something was trained"


def test_last_report_has_all_evaluations(make_trained_root):
    root = make_trained_root()
    report = root.report()
    assert [(e.subject, e.step) for e in report.results.evaluations] == [
        (Subject.START, 0),
        (Subject.CHECKPOINT, 3),
        (Subject.CHECKPOINT, 6),
    ]
    assert report.results.sets.keys() == {"golden/orders", "dev/exact_match"}
    assert report.results.evaluations[2].loss == root.losses()[5]
    assert report.progress is not None
    assert (report.progress.stage, report.progress.step, report.progress.percent) == (STAGE, 6, 100)


def test_every_case_is_stored_with_output_and_explanation(make_root):
    root = make_root(checkpoint_steps=(20,), gates={"orders": gate_spec(golden_cases(3, expect="no"))})
    train_role.run(root.context())
    folder = root.workspace / root.paths.evaluation(STAGE, 20)
    lines = (folder / "golden-orders.jsonl").read_text().splitlines()
    case = CaseResult.model_validate_json(lines[0])
    assert (case.id, case.tags, case.prompt) == ("case-0", ["even"], "golden order 0 mug")
    assert (case.output, case.passed, case.truncated) == ("yes", False, False)
    assert case.explanation == "is not 'no'"
    assert len((folder / "dev.jsonl").read_text().splitlines()) == 6


def test_losses_are_written_for_every_step_in_full_precision(make_trained_root):
    root = make_trained_root()
    lines = [json.loads(line) for line in (root.stage_folder / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[0].keys() == {"step", "loss", "learning_rate", "grad_norm", "seconds", "tokens", "time"}
    assert lines[1]["learning_rate"] == 1e-2, "the peak, after one step of warm-up"


def test_only_primary_rank_writes_the_resource_usage(make_root):
    root = make_root(checkpoint_steps=(3, 6))
    context = root.context()
    for writes in (False, True):
        writer = Writer(root.stage_folder, Writer.claim(root.stage_folder).epoch, writes=writes)
        ProgressReporter(context, writer, context.plan.stages[0]).report()
        assert (root.stage_folder / "usage.json").exists() == writes


def test_superseded_process_does_not_remove_newer_files(make_root):
    folder = make_root().stage_folder
    earlier, later = (CheckpointFolder(folder, Writer.claim(folder)) for _ in range(2))
    later.scratch.mkdir()
    with pytest.raises(Superseded):
        earlier.clean()
    assert later.scratch.is_dir()


def test_estimated_end_includes_remaining_steps_and_evaluations(make_root):
    root = make_root(checkpoint_steps=(3, 6))
    context = root.context()
    progress = ProgressReporter(context, Writer.claim(root.stage_folder), context.plan.stages[0])
    progress.evaluated(0, 30.0, Results())
    progress.trained(1, loss=2.5, tokens=500, seconds=10.0)
    progress.report()
    reported = root.report().progress
    assert (reported.loss, reported.tokens_per_second, reported.percent) == ("2.5000", "50", 16)
    left = reported.estimated_end - reported.updated
    assert left.total_seconds() == 5 * 10 + 2 * 30

    progress.evaluated(1, 0.0, Results())
    progress.report()
    reported = root.report().progress
    left = reported.estimated_end - reported.updated
    assert left.total_seconds() == 5 * 10 + 2 * 30, "what was found in a cache takes its time all the same"

    progress.step = 6
    progress.evaluated(6, 30.0, Results())
    reported = root.report().progress
    assert reported.estimated_end == reported.updated


def test_resumed_attempt_estimates_its_end_from_earlier_evaluations(make_trained_root):
    root = make_trained_root()
    first, second = (root.evaluation(step) for step in (0, 3))
    evaluations = [first, second.model_copy(update={"seconds": 30.0})]
    context = root.context(attempt=2)
    progress = ProgressReporter(context, Writer.claim(root.stage_folder), context.plan.stages[0])
    progress.resumed(3, 2.5, evaluations)
    progress.trained(4, loss=2.5, tokens=500, seconds=10.0)
    progress.report()
    reported = root.report().progress
    left = reported.estimated_end - reported.updated
    assert left.total_seconds() == 2 * 10 + 30


def test_training_never_needs_the_test_split(make_root):
    root = make_root()
    (root.data / "test.jsonl").unlink()
    assert train_role.run(root.context()) is Outcome.COMPLETED


def test_resource_usage_is_summed_over_all_attempts(make_trained_root):
    root = make_trained_root()
    first = root.report().usage
    assert first.steps == 6
    assert first.tokens == sum(json.loads(line)["tokens"] for line in loss_lines(root))
    assert first.training_seconds > 0
    assert first.evaluation_seconds == pytest.approx(sum(root.evaluation(step).seconds for step in (0, 3, 6)))
    assert first.peak_process_bytes > 100 * 2**20
    (root.stage_folder / "step-000006" / "DONE").unlink()
    assert train_role.run(root.context(attempt=2)) is Outcome.COMPLETED
    again = root.report().usage
    assert again.steps == 6 + 3, "the last three steps were computed twice"
    assert again.training_seconds > first.training_seconds


def loss_lines(root):
    return (root.stage_folder / "losses.jsonl").read_text().splitlines()
