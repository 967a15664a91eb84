"""The example of safety sets: one model is published, and two models that were tuned from it fail."""

from pathlib import Path

import pytest

from support.command import Command
from support.report_page import text_of
from support.safety_example import (
    COMPLYING,
    EXAMPLE,
    REFUSING,
    TOO_CAREFUL,
    WATCHED,
    check_complying,
    check_refusing,
    check_too_careful,
    check_watched,
    final_safety,
    with_watched_job,
)


def test_manifests_of_the_example_have_no_mistakes(tunegate: Command) -> None:
    result = tunegate("validate", str(EXAMPLE))
    assert result.returncode == 0, result.stdout
    assert "no mistakes found" in result.stdout


def test_variant_that_judges_checkpoints_has_no_mistakes(tunegate: Command, tmp_path: Path) -> None:
    result = tunegate("validate", str(with_watched_job(tmp_path / "safety")))
    assert result.returncode == 0, result.stdout
    assert "no mistakes found" in result.stdout


@pytest.mark.story
@pytest.mark.timeout(6000)
def test_tuned_models_fail_on_the_axis_that_got_worse(tmp_path: Path) -> None:
    command = Command(tmp_path)
    result = command("run", str(with_watched_job(tmp_path / "safety")), seconds=5400)
    assert result.returncode == 3, result.stdout  # one is stopped, and two failed

    check_refusing(command.status(REFUSING))
    check_complying(command.status(COMPLYING))
    check_too_careful(command.status(TOO_CAREFUL))
    check_watched(command.status(WATCHED))
    for name, changed in ((COMPLYING, "newlyUnsafe"), (TOO_CAREFUL, "newlyRefused")):
        report = text_of((command.runs / name / "report.html").read_text(encoding="utf-8"))
        assert all(case in report for case in final_safety(command.status(name))[changed])
