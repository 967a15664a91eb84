"""Checkpoints are evaluated on the safety set of a gate where this is asked, and can stop training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from support.refusing_model import ANSWER, REFUSAL, harmful, harmless, save_refusing_model
from support.report_page import text_of
from support.trainer_root import STAGE, TrainerRoot, dpo_plan, gate_spec, golden_cases
from tunegate_api.contract.baselines import read_baselines, write_baselines
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role
from tunegate_api.contract.results import Subject
from tunegate_api.judging.judgement import judge_checkpoint
from tunegate_api.messages import Message
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.graders import Output
from tunegate_trainer.main import main
from tunegate_trainer.process.files import write_model
from tunegate_trainer.report import render
from tunegate_trainer.report.collect import collect
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.rows import Row, write_rows
from tunegate_trainer.tracking.runs import runs_of

UNSAFE, HARMLESS = 5, 20
REQUESTS = "".join(
    json.dumps({"id": f"{kind}-{n}", "kind": kind, "category": "theft", "prompt": prompt(900 + n)}) + "\n"
    for kind, prompt, count in (("Unsafe", harmful, UNSAFE), ("Harmless", harmless, HARMLESS))
    for n in range(count)
)
SET = "safety/orders"


def gate(**safety: Any) -> dict[str, Any]:
    checkpoints = {"onRegression": safety.pop("onRegression", "Confirm")}
    spec = {"source": {"configMap": "rules"}, "sha256": sha256_text(REQUESTS), "checkpoints": checkpoints}
    return gate_spec(golden_cases(), safety=spec | safety, generation={"maxNewTokens": 12})


def with_safety(**changes: Any) -> dict[str, Any]:
    """Return the arguments of a root whose gate evaluates checkpoints on the safety set."""
    return {"gates": {"orders": gate()}, "inputs": {"rules/safety.jsonl": REQUESTS}} | changes


class KilledError(Exception):
    """The process is killed."""


class Script:
    """Scripted numbers of harmful requests that are not refused at each step, in place of a model's
    answers."""

    def __init__(self, root: TrainerRoot, unsafe: Mapping[int, int]) -> None:
        self.root, self.unsafe = root, unsafe
        self.asked: list[int] = []
        """The steps at which the safety set was evaluated."""
        self.killed_at: int | None = None
        """The step at which the process is killed before its safety set is evaluated; None for no step."""

    def __call__(
        self, model: Any, tokenizer: Any, prompts: Sequence[str], *settings: Any, **stops: Any
    ) -> list[Output]:
        del model, tokenizer, settings, stops
        checkpoints = [int(p.name.removeprefix("step-")) for p in self.root.stage_folder.glob("step-*")]
        step = max(checkpoints, default=0)
        is_harmful = [harmful(0).split()[0] in prompt.split() for prompt in prompts]
        if any(is_harmful):
            if step == self.killed_at:
                raise KilledError
            self.asked.append(step)
        return [
            Output(REFUSAL if bad and sum(is_harmful[:i]) >= self.unsafe[step] else ANSWER, truncated=False)
            for i, bad in enumerate(is_harmful)
        ]


@pytest.fixture
def scripted(make_root, monkeypatch):
    """Return a function that makes a root with checkpoints at steps 4, 8 and 12 and scripted answers."""

    def make(unsafe: Mapping[int, int], **safety: Any) -> tuple[TrainerRoot, Script]:
        root = make_root(**with_safety(checkpoint_steps=(4, 8, 12), gates={"orders": gate(**safety)}))
        script = Script(root, unsafe)
        # The outcomes of a real model cannot be chosen.
        monkeypatch.setattr(evaluate, "generate", script)
        return root, script

    return make


def run(root: TrainerRoot, accepted_step: int | None = None) -> Outcome:
    return train_role.run(root.context(accepted_step=accepted_step))


def unsafe_answers(root: TrainerRoot, step: int) -> int:
    return root.evaluation(step).outcomes[SET][:UNSAFE].count("f")


def test_confirmed_safety_regression_stops_training(scripted):
    root, script = scripted({0: 1, 4: 1, 8: 3, 10: 3})
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4, 8, 10], "halfway from 8 to 12"
    assert script.asked == [0, 4, 8, 10]
    assert root.report().results.sets[SET].ids[:2] == ["Unsafe-0", "Unsafe-1"]
    assert root.checkpoint(10).is_dir(), "the state is kept"
    lines = (root.workspace / root.paths.evaluation(STAGE, 8) / "safety-orders.jsonl").read_text()
    assert json.loads(lines.splitlines()[1])["output"] == ANSWER


def test_regression_that_is_not_confirmed_does_not_stop(scripted):
    root, _ = scripted({0: 1, 4: 1, 8: 3, 10: 1, 12: 1})
    assert run(root) is Outcome.COMPLETED
    assert root.evaluated_steps() == [0, 4, 8, 10, 12]


def test_immediate_gate_stops_at_first_unsafe_checkpoint(scripted):
    root, _ = scripted({0: 0, 4: 1}, onRegression="Immediate")
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4]


def test_gate_that_continues_evaluates_all_checkpoints(scripted):
    root, script = scripted({0: 0, 4: 5, 8: 5, 12: 5}, onRegression="Continue")
    assert run(root) is Outcome.COMPLETED
    assert script.asked == [0, 4, 8, 12]


def test_gate_without_evaluated_checkpoints_asks_nothing(scripted):
    root, script = scripted({}, onRegression="Skip")
    assert run(root) is Outcome.COMPLETED
    assert script.asked == []
    assert all(SET not in root.evaluation(step).outcomes for step in root.evaluated_steps())


def test_continued_run_is_compared_with_the_accepted_checkpoint(scripted):
    root, _ = scripted({0: 1, 4: 1, 8: 3, 10: 3, 12: 3})
    run(root)
    assert run(root, accepted_step=10) is Outcome.COMPLETED
    assert root.evaluated_steps() == [0, 4, 8, 10, 12]


def test_restarted_stopped_run_stays_stopped(scripted):
    root, script = scripted({0: 0, 4: 1}, onRegression="Immediate")
    run(root)
    losses = root.losses()
    assert run(root) is Outcome.STOPPED
    assert (root.losses(), script.asked) == (losses, [0, 4])


def test_run_that_is_killed_in_an_evaluation_evaluates_it_again(scripted):
    """The golden set of step 8 was evaluated, but its safety set was not."""

    root, script = scripted({0: 1, 4: 1, 8: 3, 10: 3})
    script.killed_at = 8
    with pytest.raises(KilledError):
        run(root)
    assert root.evaluated_steps() == [0, 4]
    script.killed_at = None
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 4, 8, 10]
    assert [unsafe_answers(root, step) for step in (0, 4, 8, 10)] == [1, 1, 3, 3]


def test_later_stages_set_is_also_evaluated_on_base_model(make_root, monkeypatch):
    other = dpo_plan(checkpoint_steps=(4,)).model_copy(update={"gates": ["late"]})
    root = make_root(
        **with_safety(
            checkpoint_steps=(4,), later=[other], gates={"orders": gate_spec(golden_cases()), "late": gate()}
        )
    )
    root.spec = {
        "gates": [{"name": "orders"}],
        "stages": [
            {"name": STAGE, "method": "SFT", "adapter": {"type": "LoRA"}},
            {"name": "dpo", "method": "DPO", "gates": [{"name": "late"}]},
        ],
    }
    root.write_request()
    script = Script(root, {0: 1, 4: 3})
    monkeypatch.setattr(evaluate, "generate", script)
    assert run(root) is Outcome.COMPLETED
    assert script.asked == [0], "the checkpoints of the first stage have another gate"
    assert train_role.run(root.context(stage="dpo", start_step=4)) is Outcome.COMPLETED
    results = root.report().results.merged(root.context(stage="dpo").report.results)
    last = results.find(Subject.CHECKPOINT, "dpo")[-1]
    (late,) = judge_checkpoint(root.context().request, results, last).gates
    assert late.verdict.state is VerdictState.FAILED
    assert "unsafe 3/5, BaseModel 1/5: +2, at most +0" in late.verdict.message


def test_base_model_results_are_cached_for_the_final_gate(scripted, tiny_model):
    root, _ = scripted({0: 1, 4: 1, 8: 1, 12: 1})
    context = root.context()
    assert train_role.run(context) is Outcome.COMPLETED
    recorded = read_baselines(write_baselines([*context.measured_baselines.values()]))
    later = replace(root.context(Role.GATE), baselines=recorded)
    sets = safety_sets(later, load_tokenizer(tiny_model), later.request.final_gates)
    base, cpu = later.plan.model.digest, torch.device("cpu")
    (found,) = BaselineCache(later, base, "float32", cpu).find(sets) or [None]
    assert found is not None
    assert found.outcomes("safety") == root.evaluation(0).outcomes[SET]
    assert BaselineCache(later, base, "bfloat16", cpu).find(sets) is None


def test_report_shows_safety_set_by_checkpoint_and_the_stop(scripted, monkeypatch):
    root, _ = scripted({0: 1, 4: 1, 8: 3, 10: 3})
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", STAGE]) == ExitCode.OK
    request = root.context().request
    html = render(root.workspace, request).read_text(encoding="utf-8")
    text = text_of(html)
    for part in (
        "Compared with the starting model, more harmful requests were not refused",
        "unsafe 3/5 at step 10, starting model 1/5: +2, at most +0, confirmed; newly unsafe 2: Unsafe-1",
        "orders, unsafe orders, over-refused exact_match, dev",
        "20/20 1/5 0/20 6/6",
        "20/20 3/5 0/20 6/6",
        "Kept step 4 the best that passed",
        "safety set orders, harmful requests with a safe answer",
        "Safety set orders",
    ):
        assert part in text, text
    assert '<a href="#safety-orders.Unsafe-1">' in html
    assert 'id="safety-orders.Unsafe-1"' in html
    assert "step 10" in text


def test_trackers_get_the_numbers_of_each_checkpoint(scripted):
    root, _ = scripted({0: 1, 4: 1, 8: 3, 10: 3})
    run(root)
    _, stage = runs_of(collect(root.workspace, root.context().request))
    unsafe = [point.metrics["safety/orders/unsafe"] for point in stage.evaluations]
    assert unsafe == [1, 1, 3, 3]
    assert [point.metrics["safety/orders/over_refused"] for point in stage.evaluations] == [0] * 4
    assert stage.tags["verdict.step-000008"] == "Failed"


@pytest.mark.slow
@pytest.mark.model
def test_real_model_that_learns_to_comply_is_stopped(tmp_path):
    """The model refuses harmful requests, and is trained to answer them."""
    (tmp_path / "model").mkdir()
    save_refusing_model(tmp_path / "model")
    root = TrainerRoot(
        tmp_path / "root",
        **with_safety(checkpoint_steps=(10, 20), gates={"orders": gate(onRegression="Immediate")}),
    ).write(tmp_path / "model")
    rows = [
        Row(id=f"row-{n}", prompt=[Message(role="user", content=harmful(n))], completion=ANSWER)
        for n in range(24)
    ]
    write_rows(root.data / "train.jsonl", rows)
    digest = root.context().plan.model.digest
    write_model(root.path / "plan" / "plan.json", root._plan(digest))
    assert run(root) is Outcome.STOPPED
    assert root.evaluated_steps() == [0, 10]
    assert root.evaluation(0).outcomes[SET] == "p" * (UNSAFE + HARMLESS)
    assert unsafe_answers(root, 10) > 0
