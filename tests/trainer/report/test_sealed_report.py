"""The report shows the results on open and sealed golden cases."""

from pathlib import Path

import pytest

from support.job_folder import GATE, JobFolder, golden_cases
from support.report_page import BASE, GOOD, page, text_of, train
from tunegate_api.contract.process import Outcome
from tunegate_api.verdict.tiers import counted_cases


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """A job whose gate seals 6 of 20 cases."""
    found = JobFolder(tmp_path)
    source = {"source": {"inline": golden_cases(found.golden_ids)}, "sealed": "30%"}
    found.gate_spec = {"golden": source}
    return found


def sealed(job: JobFolder) -> list[int]:
    found = counted_cases(job.golden_set, job.request.gate(GATE).checkpoint_bar).sealed
    assert len(found) == 6
    return sorted(found)


def hidden(job: JobFolder, outcomes: str) -> str:
    """Return the outcomes of a checkpoint."""
    return "".join("s" if i in sealed(job) else letter for i, letter in enumerate(outcomes))


def test_report_of_a_checkpoint_counts_and_shows_only_open_cases(job: JobFolder) -> None:
    job.write_data()
    train(job, {0: hidden(job, BASE), 20: hidden(job, "p" * 20)}, outcome=Outcome.COMPLETED)
    text = text_of(page(job))
    assert f"golden set {GATE}, cases that are not sealed" in text
    assert "14/14" in text
    for position in sealed(job):
        assert f"prompt {job.golden_ids[position]}" not in text


def test_report_of_a_final_model_shows_both_parts(job: JobFolder) -> None:
    job.write_data()
    train(job, {s: hidden(job, GOOD) for s in (0, 20, 40)}, outcome=Outcome.COMPLETED)
    missed = sealed(job)[0]
    final = "".join("f" if i == missed else "p" for i in range(20))
    job.write_gate(base=(BASE, "pp" + "f" * 8), final=(final, "p" * 9 + "f"))
    text = text_of(page(job))
    assert f"{GATE}: open 14/14 = 1.00, sealed 5/6 = 0.83" in text
    assert f"golden set {GATE}, sealed cases not judged" in text
    assert ": open rate up to" in text
    assert "the sealed cases are not affected" in text
