"""If two jobs publish to one URI, the second job's model must not be worse than the first job's model."""

import shutil
from pathlib import Path

import pytest

from support.command import FEW_CHECKPOINTS, SFT, Command
from support.overlapping import Objects, good_and_worse, with_grown_set, with_other_failures

pytestmark = [pytest.mark.model, pytest.mark.slow]
LOST = (
    "golden: golden 15/20, LastPublished (good-{uid}) 20/20: -25.0 points, limit -5.0; "
    "new failures 5, at most 3: "
)


def one_after_the_other(model: Path) -> tuple[Objects, Objects]:
    """Return the manifests of both jobs, which train equally long."""
    good, worse = good_and_worse(f"file://{model}", **FEW_CHECKPOINTS)
    worse[0]["spec"]["stages"][0]["training"]["maxSteps"] = SFT["training"]["maxSteps"]
    return good, worse


@pytest.fixture(scope="session")
def good_run(tmp_path_factory, tiny_model, warm) -> Command:
    """The working folder of the good job's run. Tests must not change this folder."""
    good, _ = one_after_the_other(tiny_model)
    command = Command(tmp_path_factory.mktemp("good"), dict(warm))
    assert command("run", command.write_all(good), seconds=400).returncode == 0
    return command


@pytest.fixture
def published(tmp_path, good_run, warm) -> Command:
    """The command in a copy of this folder."""
    shutil.copytree(good_run.folder, tmp_path / "here", symlinks=True)
    return Command(tmp_path / "here", dict(warm))


def test_worse_of_two_concurrent_jobs_is_not_published(tunegate, tiny_model):
    good, worse = good_and_worse(f"file://{tiny_model}")
    result = tunegate("run", tunegate.write_all([*good, *worse]), seconds=400)
    uid = tunegate.object("good")["metadata"]["uid"][:5]
    assert tunegate.status("good")["phase"] == "Succeeded", result.stdout
    status = tunegate.status("worse")
    assert status["checkpoints"][-1]["gates"][0]["skipped"] == ["LastPublished"], "they overlapped"
    assert status["failure"]["reason"] == "GateFailed"
    assert status["failure"]["message"].startswith(LOST.format(uid=uid))
    target = tunegate.runs / "volumes" / "models" / "shared"
    assert {path.name for path in target.iterdir()} == {".history", f"good-{uid}", "latest"}


def test_recreated_gate_still_finds_its_baseline(published, tiny_model):
    good, worse = one_after_the_other(tiny_model)
    uid = published.object("good")["metadata"]["uid"][:5]
    for kept in ("EvalGate/*/golden.yaml", "FineTuneJob/*/good.yaml"):  # the job would be recorded again
        (path,) = (published.runs / ".cluster").rglob(kept)
        path.unlink()
    result = published("run", published.write_all([*good[:-1], *worse], "again"), seconds=400)
    failure = published.status("worse")["failure"]
    assert failure["message"].startswith(LOST.format(uid=uid)), result.stdout


def test_new_gate_with_grown_set_judges_published_version_again(published, tiny_model):
    good, worse = one_after_the_other(tiny_model)
    uid = published.object("good")["metadata"]["uid"][:5]
    grown = [*good[:-2], *with_grown_set(good, worse)]
    result = published("run", published.write_all(grown, "grown"), seconds=400)
    failure = published.status("worse")["failure"]
    assert failure["message"].startswith(
        f"golden-v2: golden 18/25, LastPublished (good-{uid}, judged again) 25/25: -28.0 points, limit -5.0; "
    ), result.stdout


def test_ten_fixes_do_not_hide_ten_new_failures(tunegate, tiny_model):
    good, other = with_other_failures(*one_after_the_other(tiny_model))
    assert tunegate("run", tunegate.write_all(good), seconds=400).returncode == 0
    result = tunegate("run", tunegate.write_all([*good[:-1], *other], "other"), seconds=400)
    assert tunegate.status("worse")["failure"]["message"].endswith(
        ": golden 10/20, LastPublished 10/20: +0.0 points, limit -5.0; "
        "new failures 10, at most 3: case-0, case-2, case-4, case-6, case-8 and 5 more"
    ), result.stdout
