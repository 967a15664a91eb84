"""`tunegate.run` runs a job on this machine and returns its result."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import nbformat
import pytest
from nbclient import NotebookClient

import tunegate as tg
from support.command import Command
from support.typed_orders import ROWS, cases, gate, job, rows
from support.waiting import eventually

TESTS = Path(__file__).parents[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, stand_in: dict[str, str]) -> None:
    """Pods run a fake trainer."""
    for name, value in stand_in.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, warm: dict[str, str]) -> None:
    """Pods run the real roles."""
    for name, value in warm.items():
        monkeypatch.setenv(name, value)


@pytest.mark.model
@pytest.mark.usefixtures("real")
def test_job_from_python_is_trained_and_published(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from support.tiny_model import save_tiny_model  # imports PyTorch

    model = here / "tiny"
    model.mkdir()
    save_tiny_model(model)
    result = tg.run(job(model), gate(), cases(), rows())
    assert result.passed
    assert result.status.final is not None
    assert result.status.final.verdict == "Passed"
    assert (here / "runs" / "volumes" / "models" / "orders" / "latest").exists()
    assert result.report == here / "runs" / "orders" / "report.html"
    assert result.status_file.exists()
    assert "orders" in capsys.readouterr().out, "the progress"
    assert tg.run(job(model), gate(), cases(), rows()) == result, "an ended job does not run again"


@pytest.mark.model
@pytest.mark.usefixtures("real")
def test_failed_job_raises_an_error_with_its_message_and_hint(here: Path) -> None:
    with pytest.raises(tg.NotPassedError, match=r"job orders: Failed: .*not-there") as raised:
        tg.run(job(here / "not-there"), gate(), cases(), rows())
    failure = raised.value.result.status.failure
    assert failure is not None
    assert str(raised.value).endswith(failure.hint)


@pytest.mark.usefixtures("fake")
def test_job_that_a_gate_stops_is_returned_without_check(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", "stops")
    result = tg.run(job(here), gate(), cases(), rows(), check=False)
    assert not result.passed
    assert result.status.phase is tg.Phase.STOPPED


@pytest.mark.usefixtures("fake")
def test_interrupt_ends_all_pods_and_the_next_call_continues(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "trains")
    command = Command(here)
    Thread(target=_interrupt_when, args=(command.is_training,)).start()
    with pytest.raises(KeyboardInterrupt):
        tg.run(job(here), gate(), cases(), rows())
    assert command.pods() == []
    monkeypatch.setenv("STAND_IN", "passes")
    assert tg.run(job(here), gate(), cases(), rows()).passed


def _interrupt_when(condition: Callable[[], bool]) -> None:
    eventually(condition)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("fake")
def test_ended_job_with_changed_inputs_is_refused_instead_of_returned(here: Path) -> None:
    assert tg.run(job(here), gate(), cases(), rows()).passed
    changed = tg.config_map("rows", {"train.jsonl": [{**row, "completion": "no"} for row in ROWS]})
    with pytest.raises(tg.NotStartedError, match=r"changed: ConfigMap rows\..*again=True"):
        tg.run(job(here), gate(), cases(), changed)
    assert tg.run(job(here), gate(), cases(), changed, again=True).passed


@pytest.mark.usefixtures("fake")
def test_changed_job_is_refused_with_the_option_of_python(here: Path) -> None:
    tg.run(job(here), gate(), cases(), rows())
    with pytest.raises(tg.NotStartedError, match=r"other values for: stages\..*start over with again=True"):
        tg.run(job(here, steps=20), gate(), cases(), rows())


@pytest.mark.usefixtures("fake")
def test_notebook_shows_progress_and_result_as_html(here: Path) -> None:
    cell = "\n".join(
        [
            "import sys",
            f"sys.path.insert(0, {str(TESTS)!r})",
            "import tunegate as tg",
            "from pathlib import Path",
            "from support.typed_orders import cases, gate, job, rows",
            "tg.run(job(Path('tiny')), gate(), cases(), rows())",
        ]
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(here)}}).execute()
    shown = [output["data"]["text/html"] for output in notebook.cells[0].outputs]
    assert len(shown) == 2, "one output for the progress, and the result of the cell"
    assert all("orders" in html and "Succeeded" in html for html in shown)
    assert "report.html" in shown[1]


def test_missing_gate_is_refused_before_anything_is_written(here: Path) -> None:
    with pytest.raises(tg.InvalidError, match="EvalGate golden"):
        tg.run(job(here), rows())
    assert not (here / "runs").exists()


def test_two_jobs_in_one_call_are_refused(here: Path) -> None:
    other = job(here).model_copy(update={"metadata": tg.ObjectMeta(name="other")})
    with pytest.raises(tg.InvalidError, match="give exactly one FineTuneJob, not 2"):
        tg.run(job(here), other, gate(), cases(), rows())
