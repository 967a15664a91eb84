"""The HTML report shows how well the training inputs match the production inputs."""

from pathlib import Path
from typing import Any

import pytest

from support.distribution import distribution
from support.job_folder import JobFolder
from support.report_page import page, text_of


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def test_job_without_production_inputs_has_no_comparison(job: JobFolder) -> None:
    assert "Production inputs" not in text_of(page(job.write_data()))


def test_report_shows_the_auc_against_its_limit(job: JobFolder) -> None:
    text = text_of(page(job.write_data(distribution())))
    assert "AUC ✗ 0.83 nominal 95 % interval 0.80 to 0.87; lower bound 0.7951, limit 0.75" in text
    assert "distinguishes 400 training inputs from 120 production inputs: 0.5 means not at all" in text


def test_limit_of_the_auc_is_that_of_the_spec(tmp_path: Path) -> None:
    checks = [{"name": "Distribution", "max": "90%"}]
    data = {
        "goal": "TaskSpecialization",
        "sources": [{"name": "train", "configMap": "invoices"}],
        "checks": checks,
    }
    job = JobFolder(tmp_path, spec={"data": data}).write_data(distribution())
    assert "AUC ✓ 0.83" in text_of(page(job))
    assert "lower bound 0.7951, limit 0.9" in text_of(page(job))


def test_words_are_shown_with_their_more_frequent_side(job: JobFolder) -> None:
    html = page(job.write_data(distribution()))
    text = text_of(html)
    assert 'More in training inputs "lamps" digits More in production inputs "<refund>" "invoices"' in text
    assert 'Only in production inputs "asap" "rma"' in text
    assert "Unknown words 12 % of the words of production inputs; 1 % between two halves of the train" in text
    assert "<refund>" not in html


def test_lengths_are_drawn_with_their_percentiles(job: JobFolder) -> None:
    html = page(job.write_data(distribution()))
    text = text_of(html)
    assert (
        "training inputs have 12 tokens at the 5th percentile, 31.5 at the 50th and 80 at the 95th; "
        "production inputs have 20 tokens at the 5th percentile, 64 at the 50th and 140 at the 95th." in text
    )
    assert "training inputs 12 31.5 80 production inputs 20 64 140" in text
    assert "Longer inputs 8 % are longer than every training input" in text
    chart = html[html.index('aria-labelledby="lengths-title') :].partition("</svg>")[0]
    assert all(f"var(--series-{number})" in chart for number in (1, 2))
    assert all(
        f">{name}<" in chart for name in ("training inputs, median 31.5", "production inputs, median 64")
    )


@pytest.mark.parametrize(
    "damage", [{"auc": None}, {"lengths": {}}, {"interval": [0.5]}], ids=["auc", "lengths", "interval"]
)
def test_damaged_comparison_is_left_out(job: JobFolder, damage: dict[str, Any]) -> None:
    report = distribution()
    report["distribution"] |= damage
    text = text_of(page(job.write_data(report)))
    assert "Production inputs" not in text
    assert "Refused: distribution_shift" in text
