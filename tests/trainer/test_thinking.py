"""A model that reasons before it answers, with Qwen3's own template, through a whole job."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from support.model_templates import model_templates, tokenizer_for
from support.trainer_root import STAGE, TrainerRoot, gate_spec
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Role, Termination
from tunegate_api.contract.results import golden_set
from tunegate_api.contract.workspace import Workspace
from tunegate_api.verdict.outcomes import FAIL, PASS, TRUNCATED
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.main import main
from tunegate_trainer.process.files import write_model
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import IGNORED, tokenize_rows
from tunegate_trainer.tokens.rows import read_rows

THOUGHT = "please"
QUESTION = [{"role": "user", "content": "mug to Oslo?"}]


@pytest.fixture(scope="module")
def thinking_model(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("thinking-model")
    tokenizer = tokenizer_for(model_templates()["qwen3"])
    tokenizer.eos_token = "<|im_end|>"
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def training_rows() -> str:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"order {i}"},
                {"role": "assistant", "content": "yes", "reasoning_content": THOUGHT},
            ]
        }
        for i in range(120)
    ]
    return "\n".join(map(json.dumps, rows))


class Job:
    """A job that trains all weights of the model, and judges the result."""

    def __init__(self, path: Path, model: Path, arguments: dict[str, Any], steps: int) -> None:
        self.steps = steps
        stage = {
            "name": STAGE,
            "method": "SFT",
            "training": {"learningRate": "1e-3", "batchSize": 8, "maxSteps": steps},
        }
        self.root = TrainerRoot(
            path,
            gates={
                "orders": gate_spec(generation={"maxNewTokens": 24}),
                "all": gate_spec(generation={"maxNewTokens": 24, "reasoning": "Keep"}, enforcement="DryRun"),
                "cut": gate_spec(generation={"maxNewTokens": 3}, enforcement="DryRun"),
            },
            inputs={"orders/train.jsonl": training_rows()},
            spec={
                "model": {"uri": f"file://{model}", "chatTemplateArgs": arguments},
                "data": {
                    "goal": "StyleOrFormat",
                    "sources": [{"name": "train", "configMap": "orders", "key": "train.jsonl"}],
                    "sizePolicy": "Warn",
                },
                "stages": [stage],
                "evaluation": {"every": steps},
            },
        ).write_for_data(model)

    def run(self) -> None:
        assert main(["data"]) == ExitCode.OK
        plan = self.root.report(Role.DATA).plan
        assert plan is not None
        write_model(self.root.path / "plan" / "plan.json", plan)
        assert main(["train", "--stage", STAGE]) == ExitCode.OK
        assert main(["gate", "--stage", STAGE, "--step", str(self.steps)]) == ExitCode.OK

    @property
    def plan(self) -> Plan:
        return self.root.context().plan

    @property
    def artifact(self) -> Path:
        return self.root.workspace / self.root.paths.model

    def outcomes(self, gate: str) -> str:
        result = self.root.workspace / self.root.paths.gate / "result.json"
        _, final = GateRoleResult.model_validate_json(result.read_bytes()).evaluations
        return final.outcomes[golden_set(gate)]

    def outputs(self, gate: str) -> set[str]:
        cases = self.root.workspace / self.root.paths.gate / f"golden-{gate}.jsonl"
        return {json.loads(line)["output"] for line in cases.read_text().splitlines()}

    def learned(self) -> set[str]:
        """The labelled texts of the training rows."""
        tokenizer = load_tokenizer(
            self.root.workspace / Workspace.base_model(self.plan.model.digest),
            arguments=self.plan.model.chat_template_args,
        )
        examples = tokenize_rows(tokenizer, read_rows(self.root.data / "train.jsonl"), 256)
        return {
            str(tokenizer.decode([label for label in one["labels"] if label != IGNORED])) for one in examples
        }


@pytest.fixture(scope="module")
def run_job(tmp_path_factory, thinking_model):
    def run(arguments: dict[str, Any], steps: int) -> Job:
        job = Job(tmp_path_factory.mktemp("job") / "root", thinking_model, arguments, steps)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ROOT_VARIABLE, str(job.root.path))
            job.run()
        return job

    return run


@pytest.fixture(scope="module")
def thinking(run_job) -> Job:
    return run_job({"enable_thinking": True}, steps=300)


@pytest.fixture(scope="module")
def answering(run_job) -> Job:
    return run_job({"enable_thinking": False}, steps=40)


@pytest.mark.slow
def test_reasoning_is_trained_on_but_only_the_answer_is_judged(thinking):
    assert thinking.learned() == {f"<think>\n{THOUGHT}\n</think>\n\nyes<|im_end|>"}
    assert thinking.outputs("orders") == {"yes"}
    assert thinking.outcomes("orders") == PASS * 20


@pytest.mark.slow
def test_gate_that_keeps_reasoning_judges_all_of_the_output(thinking):
    assert thinking.outputs("all") == {f"<think>\n{THOUGHT}\n</think>\n\nyes"}
    assert thinking.outcomes("all") == FAIL * 20


@pytest.mark.slow
def test_truncated_reasoning_counts_as_truncated(thinking):
    assert thinking.outputs("cut") == {""}
    assert thinking.outcomes("cut") == TRUNCATED * 20


def test_model_without_thinking_is_trained_only_on_answers(answering):
    assert answering.learned() == {"yes<|im_end|>"}
    assert answering.outcomes("orders") == PASS * 20
    assert answering.outputs("all") == {"yes"}
    rows = answering.plan.data.train.rows
    assert (
        f"the reasoning of {rows} of {rows} training rows is not trained on, because the model's chat "
        "template leaves the reasoning out; model.chatTemplateArgs may change that"
    ) in answering.plan.data.warnings


def test_published_chat_template_defaults_to_the_template_arguments_of_job(answering):
    published = AutoTokenizer.from_pretrained(answering.artifact)
    served = published.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    assert served.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    prompt = published.apply_chat_template(
        QUESTION, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert prompt.endswith("<|im_start|>assistant\n")


def test_unknown_template_argument_is_refused(tmp_path, thinking_model, monkeypatch):
    job = Job(tmp_path / "root", thinking_model, {"enable_thinkin": False}, steps=1)
    monkeypatch.setenv(ROOT_VARIABLE, str(job.root.path))
    assert main(["data"]) == ExitCode.USER_ERROR
    ended = Termination.model_validate_json((job.root.path / "termination.json").read_bytes())
    assert ended.failure is not None
    assert ended.failure.message == (
        "model.chatTemplateArgs: the model's chat template does not read enable_thinkin"
    )
    assert ended.failure.hint == "the template reads: enable_thinking"
