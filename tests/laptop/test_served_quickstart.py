"""With the quickstart's published adapter, vLLM and transformers reproduce the outputs that the gate
judged."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from support.answers import Answer, differences
from support.command import Command
from support.model_card import load_as_the_card_says
from support.vllm_server import ask_all, vllm_server
from tunegate_api.contract.workspace import Workspace

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.story, pytest.mark.timeout(3000)]
MAX_DIFFERENT = 4
"""How many of the 64 answers may differ. Inference engines add bfloat16 numbers in different orders, so they
round differently."""
NEAR_TIE = 0.25
"""The largest difference between the log-probabilities of two tokens, in nats, that counts as a near-tie. In
bfloat16, neighbouring logits between 16 and 32 are 0.125 apart."""
LIKELIEST = 10
AT_ONCE = 16


@dataclass(frozen=True)
class Judged:
    """The quickstart's published model, and the outputs that its gate judged."""

    published: Path
    base: Path
    prompts: Mapping[str, str]
    """The user turn of each golden case, by id."""
    outputs: Mapping[str, str]
    max_tokens: int


@pytest.fixture(scope="module")
def judged(quickstart: Command) -> Judged:
    volumes = quickstart.runs / "volumes"
    (gate,) = (volumes / "tuning").glob("tunegate/jobs/*/gate")
    (base,) = (volumes / "tuning" / Workspace.models).iterdir()
    cases = [json.loads(line) for line in (gate / "golden-order-golden.jsonl").read_text().splitlines()]
    generation = json.loads((gate / "result.json").read_text())["generation"]["golden/order-golden"]
    assert len(cases) == 64
    return Judged(
        published=(volumes / "models" / "order-extractor" / "latest").resolve(),
        base=base,
        prompts={case["id"]: case["prompt"] for case in cases},
        outputs={case["id"]: case["output"] for case in cases},
        max_tokens=generation["maxNewTokens"],
    )


@pytest.fixture(scope="module")
def tokenizer(judged: Judged) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(judged.published)


def check(judged: Judged, answers: Mapping[str, Answer], tokenizer: Any) -> None:
    """Check that all answers equal the gate's outputs, except at most MAX_DIFFERENT answers whose first
    different token was a near-tie."""
    found = differences(judged.outputs, answers, tokenizer)
    logger.info("%d of %d answers differ from the gate's: %s", len(found), len(answers), found)
    assert len(found) <= MAX_DIFFERENT, found
    assert all(difference.gap <= NEAR_TIE for difference in found), found


def test_vllm_reproduces_the_gates_outputs_from_published_files(judged, tokenizer, tmp_path):
    with vllm_server(judged.base, judged.published, tmp_path / "server.log") as port:
        check(judged, ask_all(port, judged.prompts, judged.max_tokens), tokenizer)


def test_vllm_stops_at_end_tokens_named_only_in_published_files(judged, tokenizer, tmp_path):
    base = base_with_another_end(judged.base, tmp_path / "base")
    prompts = dict(islice(judged.prompts.items(), 8))
    with vllm_server(base, judged.published, tmp_path / "server.log") as port:
        answers = ask_all(port, prompts, judged.max_tokens)
    assert {answer.tokens[-1] for answer in answers.values()} == {tokenizer.eos_token_id}


def base_with_another_end(base: Path, folder: Path) -> Path:
    """Copy the base model, but name another end token in its files. As with many instruct models, the files
    then do not name the end-of-turn token of the chat template."""
    shutil.copytree(base, folder)
    for name, end in {
        "config.json": {"eos_token_id": 0},
        "generation_config.json": {"eos_token_id": 0},
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
    }.items():
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | end))
    return folder


def test_transformers_reproduces_the_gates_outputs_from_published_files(judged):
    model, tokenizer = load_as_the_card_says(judged.published, judged.base)
    answers: dict[str, Answer] = {}
    cases = sorted(judged.prompts, key=lambda case: len(judged.prompts[case]))
    for start in range(0, len(cases), AT_ONCE):
        batch = cases[start : start + AT_ONCE]
        answers.update(zip(batch, generate(model, tokenizer, judged, batch), strict=True))
    check(judged, answers, tokenizer)


def generate(model: Any, tokenizer: Any, judged: Judged, cases: list[str]) -> list[Answer]:
    """Return the answers of transformers' greedy generation to a batch of cases."""
    inputs = tokenizer.apply_chat_template(
        [[{"role": "user", "content": judged.prompts[case]}] for case in cases],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        padding=True,
        tokenizer_kwargs={"padding_side": "left"},
    )
    generated = model.generate(
        **inputs,
        max_new_tokens=judged.max_tokens,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    stops = model.generation_config.eos_token_id
    likeliest = [scores.float().log_softmax(-1).topk(LIKELIEST) for scores in generated.scores]
    answers = []
    for row, sequence in enumerate(generated.sequences[:, inputs["input_ids"].shape[1] :].tolist()):
        ends = [place for place, token in enumerate(sequence) if token in stops]
        tokens = sequence[: ends[0] + 1] if ends else sequence  # the rest is padding
        logprobs = [
            dict(zip(top.indices[row].tolist(), top.values[row].tolist(), strict=True)) for top in likeliest
        ]
        answers.append(
            Answer(tokenizer.decode(tokens, skip_special_tokens=True), tokens, logprobs[: len(tokens)])
        )
    return answers
