"""The page of a gate."""

from support.builders import make_gate, make_job
from support.job_statuses import DIGEST, judging, record
from support.places import Place
from support.report_page import text_of
from tunegate_api.judging.gate_error_rate import rules_digest
from tunegate_api.v1alpha2 import EvalGate
from tunegate_client.ui.pages import Pages
from tunegate_operator.engine.objects import uid_of


def test_history_has_a_point_and_a_row_for_each_version(place: Place, pages: Pages) -> None:
    job = place.create(make_job("version-2").obj())
    gate = place.create(make_gate("golden").obj())
    good, bad = record(2, 19, jobUid=uid_of(job)), record(1, 12, verdict="Failed", publishedUris=[])
    place.set_status(gate, **judging(good, bad))
    html = pages.gate("golden")
    assert "version 1, version-1 step 40: 12/20 = 60 %, Failed" in html
    assert "version 2, version-2 step 40, published: 19/20 = 95 %, Passed" in html
    text = text_of(html)
    assert "2 version-2 step 40, published to pvc://models/orders/2 0.95 19/20 0.25 +70.0 ✓ Passed" in text
    assert "1 version-1 step 40, the job was deleted 0.60 12/20 0.25 +35.0 ✗ Failed" in text
    assert '<a href="/jobs/version-2">' in html
    assert '<a href="/jobs/version-1">' not in html


def test_versions_judged_in_a_dry_run_are_marked(place: Place, pages: Pages) -> None:
    gate = place.create(make_gate("golden").obj())
    place.set_status(gate, **judging(record(1, 12, verdict="Failed", dryRun=True)))
    assert "✗ Failed dry run" in text_of(pages.gate("golden"))
    assert "dry run" in text_of(pages.overview())


def test_page_shows_golden_set_rules_and_jobs(place: Place, pages: Pages) -> None:
    gate = make_gate("golden").with_limits(failAtDrop="2.5%").with_critical("case-1")
    gate.spec["sets"][0]["rules"].append({"name": "needed", "cases": ["pii", "style"]})
    place.set_status(place.create(gate.obj()), **judging())
    place.create(make_job("orders").obj())
    place.create(make_job("others").with_gates("another").obj())
    text = text_of(pages.gate("golden"))
    for part in (
        "Golden set 20 cases",
        "ConfigMap cases",
        "Pass rate at least 80%",
        "less than 2.5% compared with BaseModel, LastPublished",
        "New failures at most 3 of 20 cases, more if some are in one group",
        "Rule critical case-1 minPassRate 100%",
        "Rule needed pii , style required",
        "No final model has been judged yet.",
        "Jobs with this gate orders Pending",
    ):
        assert part in text
    assert "others" not in text


def test_page_shows_advisory_cases(place: Place, pages: Pages) -> None:
    gate = place.create(make_gate("golden").with_golden(advisory=["style"]).obj())
    place.set_status(gate, **judging())
    text = text_of(pages.gate("golden"))
    assert "Advisory, does not count style" in text
    assert "New failures at most a number that depends on the number of golden cases" in text


def test_page_shows_sealed_cases_and_how_often_evaluated(place: Place, pages: Pages) -> None:
    built = make_gate("golden")
    built.spec["sets"][0]["sealed"] = "30%"
    gate = place.create(built.obj())
    message = "best of 7 final models 94/100: if all are equally good, up to 3.9 points too high on average"
    counts = {"jobs": 8, "checkpoints": 40, "finals": 7, "since": "2026-01-01T00:00:00Z", "message": message}
    place.set_status(gate, **judging(), looks={"goldenSha256": "a" * 64, **counts})
    text = text_of(pages.gate("golden"))
    assert f"Evaluated on it 7 final models, 40 checkpoints of 8 jobs; {message}" in text
    assert "Sealed cases 30% only the final gate evaluates them" in text


def test_page_shows_how_a_drop_is_compared(place: Place, pages: Pages) -> None:
    gate = make_gate("golden").with_limits(test="NonInferior", maxRelativeDrop="50%")
    place.create(gate.obj())
    text = text_of(pages.gate("golden"))
    assert "less than 5%, by the upper 95 % bound" in text
    assert "Relative drop at most 50% of the cases that a baseline passes" in text


def test_page_shows_where_safety_cases_come_from(place: Place, pages: Pages) -> None:
    for name, source in (
        ("volume", {"uri": "pvc://sets/safety.jsonl"}),
        ("inline", {"inline": [{"id": "a"}]}),
    ):
        gate = make_gate(name).with_safety(source=source, rules=[{"name": "unsafe", "failAtDrop": 3}])
        place.set_status(place.create(gate.obj()), **judging())
    limits = "unsafe answers increase by less than 3, over-refusal by less than 5%"
    assert f"Safety pvc://sets/safety.jsonl: {limits}" in text_of(pages.gate("volume"))
    assert f"Safety cases in the spec: {limits}" in text_of(pages.gate("inline"))


def test_gate_that_is_not_ready_shows_why(place: Place, pages: Pages) -> None:
    gate = place.create(make_gate("golden").with_limits(maxNewFailures=0).obj())
    ready = {"type": "Ready", "status": "False", "reason": "BadGolden", "message": "line 2: no id"}
    place.set_status(gate, conditions=[ready | {"lastTransitionTime": "2026-01-01T00:00:00Z"}])
    text = text_of(pages.gate("golden"))
    assert "Not ready line 2: no id" in text
    assert "New failures at most 0 cases" in text


def test_version_judged_on_an_earlier_golden_set_is_marked(place: Place, pages: Pages) -> None:
    gate = place.create(make_gate("golden").obj())
    place.set_status(gate, **judging(record(1, 19, goldenSha256="e" * 64)))
    assert "judged on an earlier golden set" in text_of(pages.gate("golden"))


def test_page_shows_the_error_rate_with_current_rules(place: Place, pages: Pages) -> None:
    gate = make_gate("golden").with_spec(errorRate={}).obj()
    spec = EvalGate.model_validate(gate).spec
    rate = {
        "baseDigest": "b" * 64,
        "goldenSha256": DIGEST,
        "scoring": spec.scoring,
        "rules": rules_digest(spec.golden),
        "falseAlarm": {"share": "0.012", "high": "0.031"},
        "detection": [{"points": "5", "share": "0.931", "low": "0.900", "high": "0.950"}],
        "flaky": 21,
        "flakyCases": [f"case-{i}" for i in range(20)],
        "job": "version-1",
        "time": "2026-01-01T00:00:00Z",
    }
    earlier = rate | {"rules": "other", "job": "version-0"}
    text = "false alarm 1.2 % (at most 3.1 %), finds a 5-point drop in 93 %"
    place.set_status(place.create(gate), **judging(error_rates=[rate, earlier], errorRate=text))
    shown = text_of(pages.gate("golden"))
    assert f"Error rate: {text}" in shown
    assert "version-1 base model bbbbbbbbbbbb 0.012 at most 0.031 5 points: 0.931 0.900 to 0.950" in shown
    assert "21 case-0, case-1" in shown
    assert "version-0" not in shown
