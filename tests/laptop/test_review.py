"""A run of a job with ``data.quality`` ends when the sample is written. `tunegate review` scores the sample,
and continues the job."""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import make_config_map
from support.command import FEW_CHECKPOINTS, Command
from support.site import Site
from support.terminal import run_in_terminal

pytestmark = pytest.mark.model

SECONDS = 60


@pytest.fixture(scope="session")
def awaiting(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, warm: dict[str, str]) -> Path:
    """The working folder of a run that awaits its review. Tests must not change this folder."""
    command = Command(tmp_path_factory.mktemp("awaiting"), dict(warm))
    data = {
        "goal": "StyleOrFormat",
        "sizePolicy": "Warn",
        "sources": [{"name": "train", "configMap": "rows"}],
    }
    data |= {"heldOut": {"fraction": "25%"}, "quality": {"minScore": "90%"}}
    result = command("run", command.write(tiny_model, data=data, **FEW_CHECKPOINTS))
    assert result.returncode == 4, result.stdout
    assert "0 of 20 rows of the review sample are scored" in result.stdout
    assert "`tunegate review orders`" in result.stdout
    return command.folder


@pytest.fixture
def waiting(tmp_path: Path, awaiting: Path, warm: dict[str, str]) -> Command:
    """The command in a copy of this folder."""
    folder = tmp_path / "here"
    shutil.copytree(awaiting, folder, symlinks=True)
    return Command(folder, dict(warm))


def sample(command: Command) -> list[dict[str, object]]:
    (path,) = (command.runs / "volumes" / "tuning").glob("tunegate/jobs/*/data/review/sample.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(command: Command) -> str:
    return (command.runs / "orders" / "report.html").read_text(encoding="utf-8")


def scores_file(command: Command, bad: int = 0) -> str:
    """Write scores for all rows, of which the first ``bad`` are bad. Returns the name of the file."""
    lines = [
        json.dumps({"id": row["id"], "good": n >= bad, "note": "" if n >= bad else "wrong"})
        for n, row in enumerate(sample(command))
    ]
    (command.folder / "scores.jsonl").write_text("\n".join(lines))
    return "scores.jsonl"


def test_terminal_review_is_saved_and_resumed_then_job_trains(waiting):
    rows = sample(waiting)
    assert len(rows) == 20
    screen = review_in_terminal(waiting, "q")
    assert "0 of 20 rows of the review sample are scored" in screen
    assert "saved" not in screen
    screen = review_in_terminal(waiting, "y" * 12 + "q")
    assert "row 1 of 20" in screen
    assert "order 29" in screen, "the prompt is shown"
    assert "saved: 12 of 20 rows of the review sample are scored" in screen
    assert waiting.status()["data"]["review"]["scored"] == 12

    screen = review_in_terminal(waiting, "y" * 7 + "n" + "\r")
    assert "12 of 20 scored" in screen
    status = waiting.status()
    assert status["phase"] == "Succeeded", screen
    assert status["data"]["reviewScore"] == "0.95"
    assert status["data"]["review"]["passed"] is True
    assert "19/20, 95&nbsp;% confidence interval" in report(waiting)
    published = waiting.runs / "volumes" / "models" / "orders" / "latest"
    evidence = json.loads((published / "evidence" / "verdict.json").read_text())
    found = evidence["review"]
    assert (found["good"], found["reviewed"], found["reviewers"]) == (19, 20, 1)

    again = waiting("review", "orders")
    assert again.returncode == 1
    assert "does not await a review: it is in phase Succeeded" in again.stdout


def test_scores_from_a_file_below_the_minimum_fail_the_job(waiting):
    result = waiting("review", "orders", "--scores", scores_file(waiting, bad=3), "--reviewer", "ana")
    assert result.returncode == 1, result.stdout
    failure = waiting.status()["failure"]
    assert failure["reason"] == "ReviewFailed"
    assert failure["message"].startswith("17/20 reviewed rows are good = 0.85, minimum 0.90; bad: ")
    page = report(waiting)
    assert page.index("17/20 reviewed rows are good = 0.85") < page.index("Awaiting review")
    assert "training" not in waiting.logs()


def test_scores_of_an_earlier_run_count_for_the_same_sample(waiting):
    scores = scores_file(waiting, bad=20)
    assert waiting("review", "orders", "--scores", scores).returncode == 1
    again = waiting("run", "manifests", "--again")
    assert again.returncode == 1, again.stdout
    assert waiting.status()["failure"]["reason"] == "ReviewFailed"


def test_scores_in_a_manifest_count_once_it_has_the_label(waiting):
    found = status_of_review(waiting)
    scores = {str(row["id"]): False for row in sample(waiting)}
    document = {"sample": found["sample"], "reviewer": "ana", "scores": scores}
    manifest = make_config_map("review", ana__json=json.dumps(document))
    path = waiting.folder / "manifests" / "review.yaml"
    path.write_text(yaml.safe_dump(manifest))
    assert waiting("run", "manifests").returncode == 4
    assert status_of_review(waiting)["scored"] == 0

    manifest["metadata"]["labels"] = {"tunegate.dev/review": "orders"}
    path.write_text(yaml.safe_dump(manifest))
    result = waiting("run", "manifests")
    assert result.returncode == 1, result.stdout
    assert status_of_review(waiting)["scored"] == 20


def status_of_review(command: Command) -> dict[str, Any]:
    found: dict[str, Any] = command.status()["data"]["review"]
    return found


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "nobody", "good": true}', "line 1: no row of the sample has the id 'nobody'"),
        ('{"good": 1}', "line 1: good: Input should be a valid boolean"),
        ("good", "line 1: not a JSON object"),
    ],
)
def test_mistake_in_a_scores_file_is_reported_without_saving(waiting, line, problem):
    (waiting.folder / "scores.jsonl").write_text(line)
    result = waiting("review", "orders", "--scores", "scores.jsonl")
    assert result.returncode == 1
    assert f"scores.jsonl: {problem}" in result.stdout
    assert waiting.status()["data"]["review"]["scored"] == 0


def test_changed_sample_on_the_volume_is_refused(waiting):
    (path,) = (waiting.runs / "volumes" / "tuning").glob("tunegate/jobs/*/data/review/sample.jsonl")
    path.write_text(path.read_text().replace("yes", "no"))
    result = waiting("review", "orders", "--scores", scores_file(waiting))
    assert result.returncode == 1
    assert "was changed on its volume" in result.stdout


def review_in_browser(command: Command) -> tuple[subprocess.Popen[str], Site, str]:
    """Start `tunegate review --web`. Returns the process, its server, and the path of the page."""
    process = command.start("review", "orders", "--web")
    assert process.stdout
    line = process.stdout.readline()
    found = re.match(r"open http://127\.0\.0\.1:(\d+)(/[-\w]{32}/) in a browser; Ctrl-C", line)
    assert found, line
    return process, Site(int(found[1])), found[2]


def scored(command: Command) -> int:
    """Return the number of scored rows in the status."""
    count: int = command.status()["data"]["review"]["scored"]
    return count


@pytest.mark.slow
def test_browser_and_terminal_reviews_can_be_mixed(waiting):
    ids = [row["id"] for row in sample(waiting)]
    process, site, path = review_in_browser(waiting)
    for id in ids[:12]:
        assert site.post(path, item=id, do="y").status == 303
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, scored(waiting)) == (4, 12), rest
    assert "saved: 12 of 20 rows of the review sample are scored" in rest

    assert "12 of 20 scored" in review_in_terminal(waiting, "y" * 3 + "q")
    process, site, path = review_in_browser(waiting)
    assert "15 of 20 scored" in site.get(path).text
    for id in ids[15:]:
        site.post(path, item=id, do="n" if id == ids[-1] else "y")
    end = site.post(path, do="submit")
    rest, _ = process.communicate(timeout=SECONDS)
    assert "submits the scores now" in end.text
    assert process.returncode == 0, rest
    assert waiting.status()["phase"] == "Succeeded"
    assert waiting.status()["data"]["reviewScore"] == "0.95"


def test_quitting_does_not_decide_a_review_that_others_share(waiting):
    lines = (waiting.folder / scores_file(waiting)).read_text().splitlines()
    (waiting.folder / "scores.jsonl").write_text("\n".join(lines[:18]))
    waiting("review", "orders", "--scores", "scores.jsonl", "--reviewer", "ben")
    process, site, path = review_in_browser(waiting)
    assert "0 of 2 scored: 0 good, 0 bad; others scored 18" in site.get(path).text
    for row in sample(waiting)[18:]:
        site.post(path, item=str(row["id"]), do="y")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, scored(waiting)) == (4, 19), rest
    screen = review_in_terminal(waiting, "nq")
    assert "1 of 2 scored" in screen
    assert "saved" not in screen
    assert waiting.status()["phase"] == "AwaitingReview"


def test_scores_in_a_browser_survive_a_killed_command(waiting):
    process, site, path = review_in_browser(waiting)
    for row in sample(waiting)[:5]:
        site.post(path, item=str(row["id"]), do="y")
    process.kill()
    process.communicate()
    assert "5 of 20 scored" in review_in_terminal(waiting, "q")


def test_sample_is_exported_scored_in_a_table_and_read_back(waiting):
    exported = waiting("review", "orders", "--export", "sample.csv")
    assert exported.returncode == 0, exported.stdout
    assert exported.stdout.endswith(
        "sample.csv has 20 rows. Submit their scores with: tunegate review orders --scores sample.csv\n"
    )
    path = waiting.folder / "sample.csv"
    path.write_text(path.read_text().replace(",,\n", ",no,too short\n"))
    result = waiting("review", "orders", "--scores", "sample.csv")
    assert result.returncode == 1, result.stdout
    assert "0/20 reviewed rows are good = 0.00" in waiting.status()["failure"]["message"]
    assert "too short" in waiting.status()["failure"]["message"]


@pytest.mark.slow
def test_annotations_of_several_people_decide_the_review_together(waiting):
    waiting("review", "orders", "--export", "tasks.json")
    path = waiting.folder / "tasks.json"
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [
            {
                "completed_by": person,
                "result": [{"from_name": "good", "type": "choices", "value": {"choices": [choice]}}],
            }
            for person, choice in ((1, "good"), (2, "bad"), (3, "good"))
        ]
    path.write_text(json.dumps(tasks))
    result = waiting("review", "orders", "--scores", "tasks.json", "--reviewer", "lead")
    assert result.returncode == 0, result.stdout
    review = waiting.status()["data"]["review"]
    assert review["reviewers"] == ["annotator 1", "annotator 2", "annotator 3"]
    assert waiting.status()["data"]["reviewScore"] == "1.00"


def review_in_terminal(command: Command, keys: str) -> str:
    """Run `tunegate review` in a terminal, and press keys. Returns what the command printed."""
    return run_in_terminal(command, ["review", "orders"], "y good", keys)
