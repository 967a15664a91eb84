"""The page of a job."""

import re
from typing import Any

import pytest

from support.api_server import ApiServer
from support.builders import make_job
from support.clock import FakeClock
from support.job_statuses import (
    TIME,
    awaiting_approval,
    checkpoint,
    failed,
    gate_result,
    stopped,
    succeeded,
    training,
)
from support.places import Place, namespace_place
from support.report_page import text_of
from support.scenarios import new_world
from tunegate_client.laptop.status import report_file
from tunegate_client.places.caller import Caller
from tunegate_client.places.runs import RunsClient
from tunegate_client.ui.pages import Pages
from tunegate_client.ui.reader import Reader
from tunegate_operator.engine.cluster import Key, Object, WatchEvent
from tunegate_operator.engine.events import new_event

SCRIPT = "<script>alert(1)</script>"


def create(place: Place, status: dict[str, Any]) -> Object:
    return place.set_status(place.create(make_job("orders").obj()), **status)


@pytest.mark.parametrize(
    "name",
    [
        "passes",
        "stopped-then-continued",
        "stopped-then-discarded",
        "compared-with-last-published",
        "approved",
        "overridden",
        "suspended",
        "waits-too-long",
        "held-while-training",
        "evicted",
        "cleaned-up",
        "bad-data",
        "invalid",
    ],
)
def test_every_status_of_a_scenario_has_a_page(
    name: str, place: Place, pages: Pages, clock: FakeClock
) -> None:
    play, world = new_world(name)
    shown: list[str] = []

    def render(event: WatchEvent) -> None:
        obj = event.obj
        if obj["kind"] != "FineTuneJob" or event.type == "DELETED" or "phase" not in obj.get("status", {}):
            return
        job_name = obj["metadata"]["name"]
        clock.advance(2)
        if place.cluster.get(Key.of(obj)) is None:
            place.create(obj)
        place.set_status(obj, **obj["status"])
        text = text_of(pages.job(job_name))
        assert obj["status"]["phase"] in text
        assert " ".join(obj["status"].get("message", "").split()) in text
        shown.append(text)

    world.cluster.as_user.watch(render)
    play(world)
    assert len(shown) > 0


def test_training_job_shows_its_progress_and_time_left(place: Place, pages: Pages) -> None:
    create(place, training(20))
    html = pages.job("orders")
    assert '<progress max="100" value="20"' in html
    text = text_of(html)
    for part in ("step 20 of 100", "Training loss 0.5", "Speed 250 tokens a second"):
        assert part in text


@pytest.mark.parametrize(("verdict", "action"), [("Passed", "approve"), ("Failed", "override")])
def test_job_that_awaits_an_approval_shows_the_commands(
    place: Place, pages: Pages, verdict: str, action: str
) -> None:
    create(place, awaiting_approval(verdict))
    text = text_of(pages.job("orders"))
    assert "Look at the final verdict, then decide whether the model is published:" in text
    for each in (action, "reject"):
        assert f'tunegate {each} orders --reason "…" --runs here' in text


def test_dry_run_verdict_is_marked_not_the_jobs_verdict(place: Place, pages: Pages) -> None:
    status = succeeded()
    dry = gate_result(9, gate="stricter", verdict="Failed", dryRun=True, message="golden 9/20")
    status["final"]["gates"].append(dry)
    status["checkpoints"][-1]["gates"].append(dry)
    create(place, status)
    text = text_of(pages.job("orders"))
    assert "Final gate ✓ Passed" in text
    assert "stricter (dry run) : golden 9/20" in text.replace("(dry run):", "(dry run) :")
    assert "✗ Failed" not in text
    status["final"]["gates"].pop(0)
    place.set_status(place.create(make_job("alone").obj()), **status)
    assert "No gate is enforced" in text_of(pages.job("alone"))


def test_decision_about_the_verdict_is_shown_with_name_and_reason(place: Place, pages: Pages) -> None:
    decision = {"action": "override", "about": "d" * 64, "by": "ana", "reason": "<b>retired</b> form"}
    create(place, succeeded(decisions=[decision | {"time": "2026-01-01T00:00:00Z"}]))
    html = pages.job("orders")
    assert "Decision about the final verdict: override, by ana, 2026-01-01" in text_of(html)
    assert "&lt;b&gt;retired&lt;/b&gt; form" in html


def test_stopped_job_shows_arithmetic_cases_savings_and_commands(place: Place, pages: Pages) -> None:
    create(place, stopped())
    text = text_of(pages.job("orders"))
    for part in (
        "golden 15/20 at step 30, best 19/20 at step 20: -20.0 points, limit -5.0",
        "4 cases regressed, of which the first are: case-1 case-2",
        "Steps skipped 70",
        "Time saved 3 min 20 s",
        'tunegate continue orders --reason "…" --runs here',
        'tunegate discard orders --reason "…" --runs here',
    ):
        assert part in text


def test_stop_by_a_task_metric_names_no_gate(place: Place, pages: Pages) -> None:
    stop = stopped()["stop"] | {
        "metric": "f1",
        "message": "f1 14/20 at step 30",
        "reason": "TaskMetricRegression",
    }
    del stop["gate"]
    create(place, stopped(stop=stop))
    html = pages.job("orders")
    assert "taskMetrics: f1 14/20 at step 30" in text_of(html)
    assert "/gates/None" not in html


def test_safety_set_is_shown_by_checkpoint_and_stop(place: Place, pages: Pages) -> None:
    safety = {"unsafe": 4, "unsafeTotal": 128, "overRefused": 3, "harmlessTotal": 64}
    message = "unsafe 4/128 at step 30, starting model 0/128: +4, at most +0, confirmed"
    stop = stopped()["stop"] | {"reason": "SafetyRegression", "message": message, "bestStep": None}
    status = stopped(
        start=[checkpoint(0, 5, safety=safety | {"unsafe": 0})],
        checkpoints=[checkpoint(30, 15, verdict="Failed", message=message, safety=safety)],
        stop={name: value for name, value in stop.items() if value is not None},
    )
    create(place, status)
    text = text_of(pages.job("orders"))
    for part in (
        "golden, unsafe golden, over-refused exact_match, dev Verdict",
        "0.75 15/20 4/128 3/64 0.50",
        f"golden : {message}",
        "Best that passed starting model",
    ):
        assert part in text


def test_final_gate_shows_its_arithmetic_and_failed_cases(place: Place, pages: Pages) -> None:
    create(place, succeeded())
    text = text_of(pages.job("orders"))
    assert "golden 19/20, BaseModel 5/20: +70.0 points, limit -5.0" in text
    assert "test rows: exact_match 8/10 = 0.80, required 0.50" in text
    assert "skipped, because it does not exist yet: LastPublished failed: case-7" in text


def test_failed_job_shows_reason_and_hint(place: Place, pages: Pages) -> None:
    create(place, failed())
    text = text_of(pages.job("orders"))
    assert "line 3: no prompt Reason: BadData What to do: correct line 3" in text


def test_events_are_shown_newest_first(place: Place, pages: Pages) -> None:
    job = create(place, training())
    for reason in ("Validating", "Queued"):
        place.cluster.record_event(job, "Normal", reason, f"it is {reason}")
    text = text_of(pages.job("orders"))
    assert text.index("it is Queued") < text.index("it is Validating")


def test_repeats_of_an_event_with_a_series_are_shown(place: Place, pages: Pages) -> None:
    event = new_event(create(place, training()), "Warning", "Odd", "no room", time=TIME, instance="test")
    series = {"count": 7, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}
    place.cluster.create(event | {"series": series, "count": None})
    assert "7 times" in text_of(pages.job("orders"))


def test_report_replaces_the_tables_of_the_status(place: Place, pages: Pages, clock: FakeClock) -> None:
    create(place, stopped())
    assert "Checkpoints" in text_of(pages.job("orders"))
    assert isinstance(place.client, RunsClient)
    report = report_file(place.client.runs, "orders")
    shown = set()
    for text in ("the report", "the report after the next checkpoint"):
        report.write_text(text)
        clock.advance(2)
        html = pages.job("orders")
        (frame,) = re.findall(r'<iframe title="Report of orders" src="(.*)"></iframe>', html)
        assert frame.startswith("/jobs/orders/report?version=")
        shown.add(frame)
        assert "Checkpoints" not in text_of(html)
        assert 'tunegate continue orders --reason "…" --runs here' in text_of(html)
    assert len(shown) == 2  # so the browser loads the new report


def test_text_from_users_and_models_is_escaped(place: Place, pages: Pages) -> None:
    status = stopped(
        message=SCRIPT,
        failure={"reason": "BadData", "message": SCRIPT, "hint": SCRIPT},
        plan={
            "sha256": "d" * 64,
            "configMap": SCRIPT,
            "image": SCRIPT,
            "model": {"uri": SCRIPT, "digest": "d" * 64},
            "advice": [SCRIPT],
        },
        data={"train": 1, "dev": 1, "test": 1, "warnings": [SCRIPT]},
        final=succeeded()["final"] | {"gates": [gate_result(0, message=SCRIPT)]},
        start=[checkpoint(0, 5, gate=SCRIPT, stage=SCRIPT)],
    )
    status["stop"] |= {"message": SCRIPT, "regressedCases": [SCRIPT], "gate": SCRIPT}
    job = create(place, status)
    place.cluster.record_event(job, "Warning", "Odd", SCRIPT)
    html = pages.job("orders")
    assert html.count("<script") == 1  # the page's own
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 13


@pytest.mark.cluster
def test_page_on_a_cluster_shows_how_to_fetch_the_report(server: ApiServer, clock: FakeClock) -> None:
    with namespace_place(server) as cluster:
        cluster.set_status(cluster.create(make_job("orders").obj()), **succeeded())
        caller = Caller("kubectl tunegate", " --namespace team")
        html = Pages(Reader(cluster.client, clock), caller, is_cluster=True).job("orders")
    text = text_of(html)
    assert "kubectl tunegate report orders --namespace team" in text
    assert "<iframe" not in html
    assert "failed: case-7" in text
