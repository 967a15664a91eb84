"""The options of `tunegate init` that are refused before any data is read."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tunegate_client.cli.data_job import data_job
from tunegate_client.cli.main import main


@pytest.fixture
def data() -> Path:
    """A data file in the working folder."""
    path = Path("tickets.csv")
    path.write_text("text,label\n")
    return path


def init(**changes: str) -> Result:
    options = {"--data": "tickets.csv", "--model": "package://tiny", "--goal": "StyleOrFormat", **changes}
    return CliRunner().invoke(main, ["init", *(part for option in options.items() for part in option)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "nothing.csv"}, "nothing.csv does not exist"),
        ({"--model": "models/none"}, "models/none does not exist"),
        ({"--model": "ftp://a/b"}, "spec.model.uri: "),
        ({"--model": "hf://a/b"}, "spec.model: the content of an hf:// repository can change: give revision"),
        ({"--name": "My Job"}, "metadata.name"),
        ({"--name": "volumes"}, "no job may have this name"),
        ({"--column": "label"}, "--column label must be NAME=FIELD"),
        ({"--column": "answer=label"}, "answer"),
        ({"--goal": "Anything"}, "is not one of"),
    ],
)
def test_wrong_options_of_init_are_explained(data: Path, changes: dict[str, str], message: str) -> None:
    result = init(**changes)
    assert result.exit_code == 2
    assert message in result.output
    assert list(Path().iterdir()) == [data]


@pytest.mark.parametrize("name", ["finetunejob.yaml", "evalgate.yaml"])
def test_existing_manifest_is_never_replaced(data: Path, name: str) -> None:
    del data
    Path("tickets").mkdir()
    existing = Path("tickets", name)
    existing.write_text("mine")
    result = init()
    assert result.exit_code == 2
    assert (
        f"tickets/{name} exists: choose another folder with --output, or replace with --force"
        in result.output
    )
    assert existing.read_text() == "mine"


def test_hub_model_revision_is_part_of_the_checked_job(data: Path) -> None:
    job = data_job(str(data), goal=None, model="hf://a/b", revision="1" * 40, columns=())
    assert job["spec"]["model"] == {"uri": "hf://a/b", "revision": "1" * 40}
