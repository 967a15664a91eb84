"""The list of jobs and gates."""

import re
from pathlib import Path
from typing import Any

import pytest

from support.builders import make_gate, make_job
from support.clock import FakeClock
from support.job_statuses import checkpoint, failed, judging, not_ready, record, stopped, succeeded, training
from support.places import Place
from support.report_page import text_of
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_client.laptop.cluster import LocalCluster
from tunegate_client.laptop.status import cluster_folder, record_running_jobs
from tunegate_client.places.caller import TUNEGATE
from tunegate_client.ui import job_list as job_list_module
from tunegate_client.ui.job_list import ROWS_PER_PAGE, job_list
from tunegate_client.ui.pages import Pages
from tunegate_client.ui.reader import Job


def create(place: Place, name: str, status: dict[str, Any]) -> None:
    place.set_status(place.create(make_job(name).obj()), **status)


def job_names(html: str) -> list[str]:
    return re.findall(r'<a href="/jobs/([a-z0-9-]+)">', html)


def test_jobs_that_wait_for_a_person_come_first(place: Place, pages: Pages) -> None:
    late = "2999-01-01T00:00:00Z"  # within a group, the newest jobs come first
    good, bad = succeeded(completionTime=late), failed(completionTime=late)
    held = not_ready("SpecNotUnderstood")
    statuses = {"a-good": good, "b-bad": bad, "c-stopped": stopped(), "d-held": training(conditions=held)}
    for name, status in statuses.items():
        create(place, name, status)
    assert set(job_names(pages.overview())[:2]) == {"c-stopped", "d-held"}


def test_row_of_a_stopped_job_shows_the_commands_that_decide(place: Place, pages: Pages) -> None:
    create(place, "orders", stopped())
    text = text_of(pages.overview())
    assert "-20.0 points, limit -5.0" in text
    for action in ("continue", "discard"):
        assert f'tunegate {action} orders --reason "…" --runs here' in text


def test_row_of_a_failed_job_shows_what_to_do(place: Place, pages: Pages) -> None:
    create(place, "orders", failed())
    assert "line 3: no prompt correct line 3" in text_of(pages.overview())


def test_job_with_a_missing_gate_waits_for_the_user(
    place: Place, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(place.client), "interrupted", lambda *_: set())
    missing = {"conditions": not_ready("GateNotFound"), "display": {"next": "fix: GateNotFound"}}
    create(place, "orders", {"phase": "Pending", "message": "EvalGate golden does not exist", **missing})
    text = text_of(pages.overview())
    assert "Waiting for you 1 Running 0" in text
    assert "fix: GateNotFound" in text


def test_row_of_a_training_job_shows_its_progress(place: Place, pages: Pages, tmp_path: Path) -> None:
    create(place, "orders", training(20))
    runs = tmp_path / "runs"
    with LocalCluster(cluster_folder(runs), lambda _: runs):
        record_running_jobs(runs, ["orders"])
        html = pages.overview()
    assert '<progress max="100" value="20"' in html
    assert "20 % of sft 1/1, 3 min 20 s left" in text_of(html)
    assert 'polyline points="3.0,' in html


def test_job_that_no_process_runs_is_shown_as_interrupted(place: Place, pages: Pages) -> None:
    create(place, "orders", training(20))
    text = text_of(pages.overview())
    assert "Training, interrupted" in text
    assert "tunegate run … --runs here" in text
    assert "Waiting for you 1" in text


def test_job_that_has_just_ended_is_not_shown_as_interrupted(
    place: Place, pages: Pages, tmp_path: Path
) -> None:
    create(place, "orders", training(20))
    runs = tmp_path / "runs"
    with LocalCluster(cluster_folder(runs), lambda _: runs):
        record_running_jobs(runs, ["orders"])
        assert "interrupted" not in pages.overview()
    place.set_status(place.client.get("FineTuneJob", "orders"), **succeeded())
    assert "interrupted" not in pages.overview()  # which still shows what was read before


def test_list_is_filtered_by_state_and_name(place: Place, pages: Pages) -> None:
    for name, status in {"mugs": failed(), "mug-lids": succeeded(), "pens": failed()}.items():
        create(place, name, status)
    assert job_names(pages.overview(show="failed")) == ["mugs", "pens"]
    assert job_names(pages.overview(show="failed", search="MUG")) == ["mugs"]
    text = text_of(pages.overview(search="mug"))
    assert "All 2 Waiting for you 0 Running 0 Succeeded 1 Failed 1" in text


def test_long_list_is_divided_into_pages(clock: FakeClock) -> None:
    names = [f"job-{i:03}" for i in range(ROWS_PER_PAGE + 1)]
    jobs = [Job(make_job(name).obj(), FineTuneJobStatus()) for name in names]
    first, second, last = (job_list(jobs, (), clock.now(), TUNEGATE, page=page) for page in (1, 2, 99))
    assert [row.name for row in (*first.rows, *second.rows)] == names
    assert (second.page, second.pages, second.found) == (2, 2, 101)
    assert last == second


def test_list_links_to_its_other_pages(place: Place, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_list_module, "ROWS_PER_PAGE", 1)
    for name in ("mugs", "pens", "cups"):
        create(place, name, failed())
    html = pages.overview(show="failed", page=2)
    assert 'href="/?show=failed" rel="prev"' in html
    assert 'href="/?show=failed&amp;page=3" rel="next"' in html
    assert "Page 2 of 3, 3 jobs" in text_of(html)


def test_row_of_a_gate_shows_its_last_verdict(place: Place, pages: Pages) -> None:
    gate = place.create(make_gate("golden").obj())
    place.set_status(gate, **judging(record(2, 19), record(1, 18)))
    text = text_of(pages.overview())
    assert "golden 20 cases ✓ Passed version-2/step-40 0.95 0.25" in text


def test_gate_that_is_not_ready_shows_why(place: Place, pages: Pages) -> None:
    gate = place.create(make_gate("golden").obj())
    condition = {"type": "Ready", "status": "False", "reason": "BadGolden", "message": "line 2: no id"}
    place.set_status(gate, conditions=[condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}])
    assert "Not ready line 2: no id" in text_of(pages.overview())


def test_empty_folder_says_how_to_start_a_run(pages: Pages) -> None:
    assert "Start one with tunegate run … --runs here." in text_of(pages.overview())


def test_status_of_another_version_does_not_hide_other_jobs(place: Place, pages: Pages) -> None:
    create(place, "newer", {"phase": "Dreaming"})
    create(place, "orders", failed())
    html = pages.overview()
    assert set(job_names(html)) == {"newer", "orders"}
    assert "another version of the operator may have written it" in text_of(html)


def test_list_shows_a_change_after_a_second(place: Place, pages: Pages, clock: FakeClock) -> None:
    create(place, "orders", training(checkpoints=[]))
    assert "Failed" not in text_of(pages.overview()).partition("Failed 0")[2]
    job = place.client.get("FineTuneJob", "orders")
    place.set_status(job, **failed(checkpoints=[checkpoint(10, 3)]))
    clock.advance(1.5)
    assert "line 3: no prompt" in text_of(pages.overview())
