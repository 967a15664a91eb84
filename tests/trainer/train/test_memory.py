"""If a pass does not fit the GPU, passes get fewer tokens, and the results of optimizer steps stay the
same."""

import re
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaMLP

from support.trainer_root import ALL_WEIGHTS, TrainerRoot, dpo_plan, stage_plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.evaluate.sets import PairSet, TokenPair
from tunegate_trainer.main import main
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.process.interruption import Interrupted, Interruption, Superseded
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens import likelihood
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import example
from tunegate_trainer.tokens.rows import PREFERENCE
from tunegate_trainer.train.losses import LossFile
from tunegate_trainer.train.pass_tokens import FILE, PassTooLargeError, halve_pass, with_pass_tokens
from tunegate_trainer.train.trainer import CompletionTrainer


def examples_of(inputs: dict[str, Any]) -> int:
    return int((inputs["position_ids"] == 0).sum())


@pytest.fixture
def limit_examples_per_pass(monkeypatch):
    """Return a function that limits the examples that fit a pass, because there is no GPU to fill."""

    def limit(most: int, from_step: int = 1) -> list[int]:
        tried: list[int] = []
        whole = CompletionTrainer.token_losses

        def fits(self: CompletionTrainer, model: Any, inputs: dict[str, Any]) -> Any:
            tried.append(examples_of(inputs))
            if self.state.global_step + 1 >= from_step and tried[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return whole(self, model, inputs)

        monkeypatch.setattr(CompletionTrainer, "token_losses", fits)
        return tried

    return limit


def run(root: TrainerRoot) -> None:
    assert train_role.run(root.context()) is Outcome.COMPLETED


def test_halving_passes_does_not_change_losses(make_root, make_trained_root, limit_examples_per_pass):
    exact = {"lora_dropout": 0.0}
    whole, root = make_trained_root(parameters=exact), make_root(parameters=exact)
    tried = limit_examples_per_pass(most=1)
    run(root)
    assert tried[:3] == [4, 2, 1]
    assert set(tried[2:]) == {1}
    assert len(tried) == 2 + 6 * 4, "six steps of four examples"
    assert root.losses() == pytest.approx(whole.losses(), rel=1e-4)
    assert root.report().progress.pass_tokens < 42, "tokens in the longest example"
    assert whole.report().progress.pass_tokens is None


def test_out_of_memory_resumes_from_last_checkpoint(
    make_root, make_trained_root, limit_examples_per_pass, monkeypatch
):
    exact = {"lora_dropout": 0.0}
    whole, root = make_trained_root(parameters=exact), make_root(parameters=exact)
    trained, append = [], LossFile.append

    def append_and_note(self: LossFile, line: dict[str, Any]) -> None:
        trained.append(line["step"])
        append(self, line)

    monkeypatch.setattr(LossFile, "append", append_and_note)
    limit_examples_per_pass(most=2, from_step=5)
    run(root)
    assert trained == [1, 2, 3, 4, 4, 5, 6], "checkpoint 3 was there"
    assert root.losses() == pytest.approx(whole.losses(), rel=1e-4)


def test_later_attempt_starts_with_reduced_passes(make_root, limit_examples_per_pass):
    root = make_root()
    tried = limit_examples_per_pass(most=2)
    run(root)
    (root.stage_folder / "step-000006" / "DONE").unlink()
    tried.clear()
    run(root)
    assert max(tried) == 2


def test_out_of_memory_in_a_replaced_process_keeps_the_passes(make_root, monkeypatch):
    root = make_root()

    def replaced(*_: Any) -> None:
        Writer.claim(root.stage_folder)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(CompletionTrainer, "token_losses", replaced)
    with pytest.raises(Superseded):
        train_role.run(root.context())
    assert not (root.stage_folder / FILE).exists()


def test_job_fails_with_hint_if_one_example_does_not_fit(make_root, limit_examples_per_pass, monkeypatch):
    root = make_root()
    limit_examples_per_pass(most=0)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", "sft"]) == ExitCode.CUDA_OUT_OF_MEMORY
    failure = root.report().failure
    assert failure is not None
    assert failure.reason == Reason.CUDA_OUT_OF_MEMORY
    assert re.search(r"with one example of \d+ tokens per pass: CUDA out of memory", failure.message)
    assert "quantization: NF4" in failure.hint


@pytest.mark.parametrize(
    ("parameters", "smaller"),
    [
        ({}, "set quantization: NF4 to load the base in 4 bits, "),
        ({"quantization": "NF4"}, ""),
        (ALL_WEIGHTS, "train an adapter instead of all weights, "),
    ],
)
def test_out_of_memory_at_loading_hints_at_unused_options(make_root, monkeypatch, parameters, smaller):
    def full(*_: Any) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(train_role, "load_start", full)
    with pytest.raises(CudaOutOfMemoryError) as raised:
        train_role.run(make_root(parameters=parameters).context())
    assert raised.value.hint == f"lower training.maxLength, {smaller}or request a GPU with more memory"


def too_large_pass(tokens: int = 40, units: int = 1) -> PassTooLargeError:
    return PassTooLargeError("CUDA out of memory.", tokens=tokens, units=units)


@pytest.mark.parametrize(("processes", "tokens"), [(1, [800, 400, 200]), (2, [800, 200, 50])])
def test_pass_is_halved_on_one_rank_and_quartered_on_several(processes, tokens, tmp_path):
    stage = stage_plan("sft", (6,), pass_tokens=1000)
    found = [800]  # the passes of a step may have fewer tokens than they are allowed to have
    for _ in range(2):
        used = with_pass_tokens(stage, tmp_path)
        halve_pass(used, tmp_path, too_large_pass(found[-1], units=8), processes)
        found.append(with_pass_tokens(stage, tmp_path).parameters.pass_tokens)
    assert found == tokens


@pytest.mark.parametrize(
    ("changes", "advised", "done_already"),
    [
        ({"adapter": "None"}, "train an adapter instead of all weights", "NF4"),
        ({"adapter": "LoRA"}, "set quantization: NF4 to load", "train an adapter"),
        ({"adapter": "LoRA", "quantization": "NF4"}, "lower training.maxLength", "NF4"),
    ],
)
def test_hint_names_only_options_the_stage_does_not_use(changes, advised, done_already, tmp_path):
    stage = stage_plan("sft", (6,))
    stage = stage.model_copy(update={"parameters": stage.parameters.model_copy(update=changes)})
    with pytest.raises(CudaOutOfMemoryError, match="one example of 40 tokens per pass") as raised:
        halve_pass(stage, tmp_path, too_large_pass())
    assert advised in raised.value.hint
    assert done_already not in raised.value.hint


def test_continued_adapters_hint_refers_to_its_creating_stage(tmp_path):
    stage = dpo_plan()
    with pytest.raises(CudaOutOfMemoryError, match="one pair of 40 tokens per pass") as raised:
        halve_pass(stage, tmp_path, too_large_pass())
    assert "set quantization: NF4 in the stage that makes the adapter" in raised.value.hint


def test_log_probabilities_use_more_passes_if_memory_is_short(tiny_model, monkeypatch):
    model = load_base(tiny_model, "float32", torch.device("cpu"))
    examples = [example([5, 6, 7 + i], [8, 9][: 1 + i % 2]) for i in range(7)]
    expected = likelihood.log_probs(model, examples)
    whole, passes = likelihood.token_losses, []

    def fits(model: Any, inputs: dict[str, Any]) -> Any:
        if examples_of(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        passes.append(examples_of(inputs))
        return whole(model, inputs)

    monkeypatch.setattr(likelihood, "token_losses", fits)
    assert likelihood.log_probs(model, examples) == pytest.approx(expected, rel=1e-5)
    assert sum(passes) == len(examples)
    monkeypatch.setattr(likelihood, "token_losses", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        likelihood.log_probs(model, examples)


def too_large(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_out_of_memory_in_evaluation_does_not_halve_passes(make_root, monkeypatch):
    root = make_root()
    monkeypatch.setattr(evaluate, "generate", too_large)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["train", "--stage", "sft"]) == ExitCode.CUDA_OUT_OF_MEMORY
    assert not (root.stage_folder / FILE).exists()
    failure = root.report().failure
    assert failure is not None
    assert "evaluation.batchSize" in failure.hint


def test_out_of_memory_while_scoring_a_pair_gives_a_hint(tiny_model, monkeypatch):
    monkeypatch.setattr(likelihood, "token_losses", too_large)
    pair = TokenPair("a", "order", example([5, 6], [7]), example([5, 6], [8]))
    pairs = PairSet(
        file="pairs-dev.jsonl",
        identity="",
        names={PREFERENCE: "task"},
        case_set=CaseSet(sha256="", ids=["a"]),
        pairs=[pair],
    )
    model = load_base(tiny_model, "float32", torch.device("cpu"))
    with pytest.raises(CudaOutOfMemoryError) as raised:
        evaluate.evaluate(model, load_tokenizer(tiny_model), [pairs])
    assert "training.maxLength of a DPO stage" in raised.value.hint
    assert "batchSize" not in raised.value.hint


def test_out_of_memory_in_the_dpo_reference_gives_hint(make_root, monkeypatch):
    root = make_root(later=[dpo_plan(quantization="NF4")])

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(likelihood, "token_losses", full)
    model = load_base(root.base_model, "float32", torch.device("cpu"))
    stage = root.context().plan.stages[1]
    two = (example([5, 6], [7]), example([5, 6], [8]))
    with pytest.raises(CudaOutOfMemoryError, match="the reference of one answer") as raised:
        train_role.training_examples([two], root.stage_folder, model, "digest", stage=stage)
    assert "NF4" not in raised.value.hint


def test_sigterm_after_out_of_memory_interrupts_before_the_retry(
    make_root, limit_examples_per_pass, monkeypatch
):
    root, interruption = make_root(), Interruption()
    limit_examples_per_pass(most=1)
    reduce = train_role.need_less_memory

    def sigterm_meanwhile(*arguments: Any) -> None:
        reduce(*arguments)
        interruption.requested = True

    monkeypatch.setattr(train_role, "need_less_memory", sigterm_meanwhile)
    with pytest.raises(Interrupted):
        train_role.run(root.context(interruption=interruption))
    assert not (root.stage_folder / "losses.jsonl").read_text()


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"lora_dropout": 0.1}, id="LoRA with dropout"),
        pytest.param({"quantization": "NF4"}, id="QLoRA", marks=pytest.mark.slow),
        pytest.param(ALL_WEIGHTS, id="all weights", marks=pytest.mark.slow),
    ],
)
def test_gradient_checkpointing_does_not_change_training(make_root, monkeypatch, parameters):
    """Checkpointing is enabled as on a GPU, with evaluations between the steps."""
    kept, again = (
        make_root(checkpoint_steps=(2, 4), parameters=parameters, activation_checkpointing=recomputed)
        for recomputed in (False, True)
    )
    computed, mlp = [], LlamaMLP.forward

    def counted(self: LlamaMLP, x: torch.Tensor) -> torch.Tensor:
        computed.append(len(x))
        return mlp(self, x)

    monkeypatch.setattr(LlamaMLP, "forward", counted)
    run(kept)
    once = len(computed)
    run(again)
    assert len(computed) > 2 * once, "else this test shows nothing"
    assert again.losses() == kept.losses()
    assert again.evaluation(4).digest == kept.evaluation(4).digest


def test_gradient_checkpointing_does_not_change_dpo(make_trained_root):
    losses = []
    for again in (False, True):
        dpo = dpo_plan(checkpoint_steps=(3,)).model_copy(update={"activation_checkpointing": again})
        root = make_trained_root(checkpoint_steps=(2,), later=[dpo])
        assert train_role.run(root.context(stage="dpo", start_step=2)) is Outcome.COMPLETED
        losses.append(root.losses("dpo"))
    assert losses[0] == losses[1]
