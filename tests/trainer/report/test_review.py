"""The HTML report shows who reviewed the data, the result, the calibration of the judge, and bad rows."""

from pathlib import Path

import pytest

from support.job_folder import JobFolder
from support.report_page import BASE, GOOD, page, text_of, train
from support.reviewed import IDS, JUDGE, MANUAL, ROWS, SAMPLE, TOKEN, by_people, judged, reviewed_job
from tunegate_trainer.report.review import MAX_SHOWN

DASH = "\N{EN DASH}"


def trained(job: JobFolder) -> str:
    train(job, {0: BASE, 20: GOOD})
    return text_of(page(job))


def test_job_without_a_review_has_no_such_section(tmp_path: Path) -> None:
    html = page(JobFolder(tmp_path).write_data())
    assert 'id="review"' not in html
    assert "Data is ready" in text_of(html)


def test_report_before_people_review_shows_what_to_do_first(tmp_path: Path) -> None:
    html = page(reviewed_job(tmp_path, MANUAL, SAMPLE))
    text = text_of(html)
    assert "! Awaiting review Before the job trains, people must score the 20 rows of the sample." in text
    assert "tunegate review invoice-extractor" in text
    assert "Sample 20 rows, 0 of them scored" in text
    assert html.index('id="review"') < html.index('id="data"')


def test_inconclusive_judge_is_the_first_thing_in_the_report(tmp_path: Path) -> None:
    html = page(reviewed_job(tmp_path, JUDGE, judged(bad_found=14, RateLimited=3, Malformed=1)))
    text = text_of(html)
    assert text.index("The judge model is Inconclusive") < text.index("Review of the data")
    assert f"judge: recall 14/20 = 0.70, lower bound 0.48, minimum 0.70 {DASH} Inconclusive" in text
    assert "? recall bad rows that it found 0.70 14/20 0.48 0.70" in text
    assert "✓ specificity good rows that it accepted 0.97 78/80 0.91 0.80" in text
    assert "it scored 100 rows that people had scored before" in text
    assert "Rows without a score of the judge, which count against it: 1." in text
    assert "Failed requests: 1 Malformed, 3 RateLimited." in text
    assert html.index('id="review"') < html.index('id="data"')


def test_rows_that_the_judge_left_out_wait_for_people(tmp_path: Path) -> None:
    text = text_of(page(reviewed_job(tmp_path, JUDGE, judged(bad=1, unscored=2))))
    assert "The judge model scored 18 of 20 rows of the sample." in text
    assert "Good rows 0.94 17/18, 95 % confidence interval 0.74 to 0.99" in text
    assert f"✗ {IDS[0]} row line-0 the total is wrong" in text


def test_data_refused_by_the_judge_comes_first_in_report(tmp_path: Path) -> None:
    text = text_of(page(reviewed_job(tmp_path, JUDGE, judged(bad=7))))
    assert "✗ The data failed its review Too few rows of the sample are good" in text
    assert f"review: 13/20 reviewed rows are good = 0.65, minimum 0.80 {DASH} Failed" in text
    assert "Good rows ✗ 0.65 13/20, 95 % confidence interval 0.43 to 0.82" in text
    assert "Scored by judge judge-7b." in text


def test_passed_review_by_people_is_shown_after_the_data(tmp_path: Path) -> None:
    job = reviewed_job(tmp_path, MANUAL, SAMPLE).write_review(by_people(bad=2))
    text = trained(job)
    assert "Training At step 80 of 100" in text
    assert "Good rows ✓ 0.90 18/20, 95 % confidence interval 0.70 to 0.97" in text
    assert "Minimum 0.80" in text
    assert "Scored by ana." in text
    assert f"review sample {SAMPLE.sha256}" in text
    html = page(job)
    assert html.index('id="data"') < html.index('id="review"')


def test_bad_rows_are_bounded_masked_and_escaped(tmp_path: Path) -> None:
    job = reviewed_job(tmp_path, {"minScore": "10%"}, SAMPLE).write_review(by_people(bad=15))
    html = page(job)
    assert html.count('<details class="case"') == MAX_SHOWN
    assert "And 5 more." in text_of(html)
    assert TOKEN not in html
    assert "order 0: send &lt;b&gt;0&lt;/b&gt; mugs, key ghp_…" in html
    assert "wrong total Prompt order 0" in text_of(html)


def test_row_that_was_changed_on_the_volume_is_not_shown(tmp_path: Path) -> None:
    job = reviewed_job(tmp_path, {"minScore": "10%"}, SAMPLE).write_review(by_people(bad=2))
    changed = [ROWS[0].model_copy(update={"completion": "forged"}), *ROWS[1:]]
    lines = [row.model_dump_json(by_alias=True, exclude_none=True) + "\n" for row in changed]
    (job.workspace / job.paths.review_sample).write_text("".join(lines))
    text = text_of(page(job))
    assert "forged" not in text
    assert "The row is no longer on the volume." in text
    assert "total 1" in text


@pytest.mark.parametrize("content", [None, "{"], ids=["removed", "damaged"])
def test_report_without_the_sample_still_names_the_bad_rows(tmp_path: Path, content: str | None) -> None:
    job = reviewed_job(tmp_path, MANUAL, SAMPLE).write_review(by_people(bad=2))
    path = job.workspace / job.paths.review_sample
    path.unlink() if content is None else path.write_text(content)
    assert f"✗ {IDS[1]} row line-1 wrong total" in text_of(page(job))


def test_deleted_record_is_reported_and_counts_are_left_out(tmp_path: Path) -> None:
    text = trained(reviewed_job(tmp_path, MANUAL, SAMPLE))
    assert "Training At step 80 of 100" in text
    assert "The review was passed, but the record of its scores was deleted." in text
    assert "Good rows" not in text
